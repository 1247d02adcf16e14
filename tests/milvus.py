"""A Milvus server of the tests' own, asked over gRPC; skips the test where there is none."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock

START_S = 120  # 7 on an idle machine
RUN = "from milvus import main; main()"
# Its own, etcd's defaults would be in the way of a second server's.
ETCD = """
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


@contextmanager
def server():
    """The address of a server: $TWINRANK_MILVUS, or one that the package `milvus` starts."""
    if address := os.environ.get("TWINRANK_MILVUS"):
        yield address
        return
    if find_spec("milvus") is None:
        pytest.skip(
            "no Milvus server: set TWINRANK_MILVUS to one's address, or pip install milvus==2.3.5"
        )
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
        port, client, peer = _free_ports(3)
        (home / "etcd.yaml").write_text(ETCD.format(client=client, peer=peer))
        ports = ["--proxy-port", f"{port}", "--etcd-port", f"{client}"]
        with (home / "log").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, "--data", str(home), *ports],
                stdout=said,
                stderr=said,
                start_new_session=True,
                env={**os.environ, "ETCD_CONFIG_PATH": str(home / "etcd.yaml")},
            )
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
        assert process.poll() is None, _said(home)
        with suppress(MilvusException):
            MilvusClient(address, timeout=1).list_collections()
            return
        time.sleep(0.2)
    raise AssertionError(_said(home))


def _said(home):
    return "\n".join(file.read_text()[-2000:] for file in [home / "log", *home.glob("logs/*.log")])


def _end(process):
    """It and the server that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _free_ports(number):
    with ExitStack() as stack:
        some = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in some:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in some]
