"""A Milvus server of the tests' own, asked over gRPC; skips the test where there is none."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

START_S = 60
RUN = "from milvus import main; main()"


@contextmanager
def server():
    """The address of a server: $TWINRANK_MILVUS, or one that the package `milvus` starts."""
    if address := os.environ.get("TWINRANK_MILVUS"):
        yield address
        return
    if find_spec("milvus") is None:
        pytest.skip("no Milvus server: $TWINRANK_MILVUS names none, and `milvus` is not installed")
    home = Path(tempfile.mkdtemp(prefix="milvus"))  # its program is unpacked there: 250 MB
    try:
        with _started(home) as address:
            yield address
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _started(home):
    # It looks for free ports, and takes them a second later: one at a time.
    with FileLock(Path(tempfile.gettempdir()) / "twinrank-milvus.lock"):
        port = _free_port()
        command = [sys.executable, "-c", RUN, "--data", str(home), "--proxy-port", str(port)]
        with (home / "log").open("w") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(address, process, home)
        except BaseException:
            _end(process)
            raise
    try:
        yield address
    finally:
        _end(process)


def _wait(address, process, home):
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        assert process.poll() is None, (home / "log").read_text()
        with suppress(MilvusException):
            MilvusClient(address, timeout=1).list_collections()
            return
        time.sleep(0.2)
    raise AssertionError((home / "log").read_text())


def _end(process):
    """It and the server that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _free_port():
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]
