"""The processes of a service: one that watches, and workers that it starts again when they die."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from twinrank.errors import ServeError
from twinrank.feedback.database import Feedback
from twinrank.ranking import read_manifest
from twinrank.service.metrics import SHARED
from twinrank.service.settings import GRACE_S, VARIABLE, Keys, Settings

FLUSHED_S = 5  # of the grace: to put away what was counted
METRICS, LOCK = "twinrank-metrics-", "lock"
# Of every process that ranks.
ENVIRONMENT = {
    # Threads that wait by spinning take the cores from the others that answer.
    "OMP_WAIT_POLICY": "PASSIVE",
    # torch keeps kernels for each shape of a batch; by its own 1024 the memory doubles.
    "LRU_CACHE_CAPACITY": "256",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until stopped by a signal; requests under way are answered first.

    Args:
        settings: how.
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
        timeout_graceful_shutdown=GRACE_S - FLUSHED_S,
        limit_concurrency=None,
    )
    bound = listening(settings)
    remove_left(Path(tempfile.gettempdir()))
    with (
        tempfile.TemporaryDirectory(prefix=METRICS) as shared,
        FileLock(Path(shared) / LOCK),
    ):
        os.environ[SHARED] = shared
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ[VARIABLE] = settings.model_dump_json()
        announce(address_of(bound))
        supervisor = Supervisor(config, sockets=[bound])

        def pass_on() -> None:
            """Have the workers read the keys anew; one that is still starting is started again."""
            for worker in supervisor.processes:
                if worker.pid is not None:
                    os.kill(worker.pid, signal.SIGHUP)

        if settings.keys:
            supervisor.handle_hup = pass_on  # type: ignore[method-assign]
        supervisor.run()


def remove_left(home: Path) -> None:
    """Remove the folders of metrics that services left there which were killed."""
    for lock in home.glob(f"{METRICS}*/{LOCK}"):
        with suppress(OSError, Timeout), FileLock(lock, timeout=0):  # else it is in use
            shutil.rmtree(lock.parent, ignore_errors=True)


def listening(settings: Settings) -> socket.socket:
    """A socket that listens where it should.

    Raises:
        ServeError: if none can.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        bound = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ServeError(
            f"{settings.host}:{settings.port} cannot be listened on ({why}); "
            "choose another --port or --host"
        ) from None
    bound.set_inheritable(True)  # by the workers
    return bound


def address_of(bound: socket.socket) -> str:
    """Where a socket listens, as a browser takes it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check(settings: Settings) -> None:
    """Refuse what could not start, or should not, before anything is started.

    Raises:
        TwinrankError: with one line that says what.
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
