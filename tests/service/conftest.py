"""A ranker in a folder, and the service of it in this process."""

import shutil
from contextlib import ExitStack, contextmanager

import pytest
from fastapi.testclient import TestClient

from twinrank.service.app import create_app
from twinrank.service.settings import Settings


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "ranker")


@pytest.fixture
def settings(folder, tmp_path):
    return Settings(ranker=folder, feedback=str(tmp_path / "feedback.db"))


@pytest.fixture
def service():
    """Starts a service of some settings, and gives its client."""
    with ExitStack() as stack:

        def started(settings):
            return stack.enter_context(opened_client(settings))

        yield started


def opened_client(settings):
    app = create_app(settings)
    return TestClient(app, "http://localhost", raise_server_exceptions=False)


@contextmanager
def opened(trained, home, **options):
    """The client of a service of a copy of a ranker, in a folder."""
    folder = shutil.copytree(trained, home / "ranker")
    settings = Settings(ranker=folder, feedback=str(home / "feedback.db"), **options)
    with opened_client(settings) as client:
        yield client


@pytest.fixture(scope="module")
def reader(trained, tmp_path_factory):
    """The client of a service that tests share which change nothing."""
    with opened(trained, tmp_path_factory.mktemp("reader")) as client:
        yield client


@pytest.fixture
def client(service, settings):
    return service(settings)


def keys_file(tmp_path):
    file = tmp_path / "keys"
    lines = [f"read {'r' * 20}", f"feedback {'f' * 20}", f"write {'w' * 20} anna  # an editor's"]
    file.write_text("\n".join(["# for tests", *lines, ""]))
    return file
