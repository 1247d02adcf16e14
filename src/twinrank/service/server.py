"""Start a service: checks, the socket, and the processes that answer."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from twinrank.errors import ServeError
from twinrank.feedback.database import Feedback
from twinrank.ranking import read_manifest
from twinrank.service.access import Keys
from twinrank.service.prometheus import SHARED_FOLDER
from twinrank.service.settings import GRACE_S, VARIABLE, Settings

FLUSH_S = 5  # of the grace: to store what was counted
METRICS_FOLDER, LOCK = "twinrank-metrics-", "lock"
# Of every process that ranks.
ENVIRONMENT = {
    # Threads that wait by spinning take the cores from those that answer.
    "OMP_WAIT_POLICY": "PASSIVE",
    # torch caches kernels for each shape of a batch; by its own limit of 1024 the memory doubles.
    "LRU_CACHE_CAPACITY": "256",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until stopped by a signal; requests under way are answered first.

    Args:
        settings: of the service.
        announce: called with the address, when it is bound.

    Raises:
        ServeError: if it cannot start, or would be open to others without keys.
        RankerError: if there is no ranker.
        FeedbackError: if the database cannot be used.
    """
    from uvicorn import Config

    from twinrank.service.connections import Connection, allow_files
    from twinrank.service.supervisor import Supervisor

    check(settings)
    allow_files()
    config = Config(
        "twinrank.service.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        http=Connection,
        ws="none",
        timeout_graceful_shutdown=GRACE_S - FLUSH_S,
        limit_concurrency=None,
    )
    bound = listen(settings)
    remove_stale_folders(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=METRICS_FOLDER) as shared,
        FileLock(Path(shared) / LOCK),
    ):
        os.environ[SHARED_FOLDER] = shared
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ[VARIABLE] = settings.model_dump_json()
        announce(address_of(bound))
        Supervisor(config, [bound], reloads_keys=settings.keys is not None).run()


def check(settings: Settings) -> None:
    """Refuse what could not start, or should not, before anything is started.

    Raises:
        TwinrankError: with one line that says why.
    """
    if not settings.loopback and settings.keys is None:
        raise ServeError(
            f"{settings.host} can be reached by others, and there are no keys; give --keys FILE "
            "with a line `read KEY` or `write KEY` each, or listen on 127.0.0.1"
        )
    if settings.keys:
        Keys(settings.keys)
    settings.check_origins()
    read_manifest(settings.ranker)
    Feedback.open(settings.feedback).close()


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on the address of the settings.

    Raises:
        ServeError: if none can.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        bound = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ServeError(
            f"{settings.host}:{settings.port} cannot be listened on "
            f"({os.strerror(error.errno or 0)}); choose another --port or --host"
        ) from None
    bound.set_inheritable(True)  # by the workers
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the address of a socket, as a browser takes it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def remove_stale_folders(home: Path) -> None:
    """Remove the folders of metrics that killed services left in a folder."""
    for lock in home.glob(f"{METRICS_FOLDER}*/{LOCK}"):
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):  # else it is in use
            shutil.rmtree(lock.parent, ignore_errors=True)
