"""A ranker in a folder that a test may change."""

import shutil

import pytest


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "ranker")
