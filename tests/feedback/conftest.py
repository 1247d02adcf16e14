import shutil

import pytest


@pytest.fixture
def folder(trained, tmp_path):
    """A ranker's folder that a test may change."""
    return shutil.copytree(trained, tmp_path / "ranker")
