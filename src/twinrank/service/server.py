"""Start a service: the socket, and the processes that answer.

This process imports little: it waits while others rank.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from twinrank.errors import ServeError, TwinrankError
from twinrank.extras import check_installed
from twinrank.files import write_file
from twinrank.service.connections import (
    MAX_HEAD_BYTES,
    Connection,
    limit_fetching,
)
from twinrank.service.logs import log_as_json
from twinrank.service.settings import GRACE_S, SHARED_FOLDER, VARIABLE, Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

FLUSH_S = 5  # of the grace: to store what was counted
REFUSAL = "refusal.txt"  # in the shared folder: why a worker could not start
# Of every process that ranks.
ENVIRONMENT = {
    # Threads that wait by spinning take the cores from those that answer.
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's products are small: its threads would only spin
    # torch caches kernels for each shape of a batch; by its own limit of 1024 the memory doubles.
    "LRU_CACHE_CAPACITY": "256",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}

log = logging.getLogger(__name__)


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until stopped by a signal; requests under way are answered first.

    Args:
        settings: of the service.
        announce: called with a line that gives the address, when a worker answers there.

    Raises:
        ServeError: if it cannot start, or would be open to others without keys.
    """
    log_as_json()
    check(settings)
    config = Config(
        "twinrank.service.server:from_environment",
        factory=True,
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        http=Connection,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ws="none",
        timeout_graceful_shutdown=GRACE_S - FLUSH_S,
        timeout_worker_healthcheck=GRACE_S,
    )
    bound = listen(settings)
    limit_fetching(bound)
    with tempfile.TemporaryDirectory(prefix="twinrank-metrics-") as shared:
        os.environ[SHARED_FOLDER] = shared
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ[VARIABLE] = settings.model_dump_json()
        supervisor = Supervisor(config, [bound])
        if supervisor.start():
            announce(f"serving {settings.ranker} at {address_of(bound)}")
        supervisor.run()


def from_environment() -> FastAPI:
    """Create the application of a worker; the process that waits for it learns why it cannot."""
    gc.disable()  # what comes now stays: to look through it for garbage takes a tenth of the time
    from tqdm import tqdm

    tqdm.set_lock(RLock())  # its own is a semaphore, which a process that ends leaves behind
    from twinrank.service.app import check_files, in_process

    settings = Settings.from_environment()
    try:
        check_files(settings)
        app = in_process(settings)
    except TwinrankError as error:
        write_file(Path(os.environ[SHARED_FOLDER]) / REFUSAL, str(error))
        sys.exit(1)
    gc.enable()
    return app


class Supervisor(Multiprocess):
    """Starts workers again that die or hang, has them read keys again, and stops them in time."""

    def start(self) -> bool:
        """Start the workers; return true when the first one answers, false if it is to stop before.

        Raises:
            ServeError: if that one ends before.
        """
        super().init_processes()
        first = self.processes[0]
        while not first.is_ready(timeout=1):
            if self.signal_queue:  # it is to stop before it began
                return False
            if not first.process.is_alive():
                self.terminate_all()
                self.join_all()
                raise ServeError(take_refusal() or "the service cannot start; see the lines above")
            time.sleep(0.1)
        return True

    def init_processes(self) -> None:
        """Start none: `start` has."""

    def keep_subprocess_alive(self) -> None:
        """Start workers again that died, and log why one could not start."""
        if reason := take_refusal():
            log.error("%s", reason)
        super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """Have the workers read the keys again; one that is still starting is started again."""
        for worker in self.processes:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)

    def join_all(self) -> None:
        """Wait until all workers have ended, and kill those that have not in time."""
        end = time.monotonic() + GRACE_S
        for worker in self.processes:
            worker.process.join(max(0.0, end - time.monotonic()))
            if worker.process.is_alive():
                log.error("worker %d did not stop within %d s, and is killed", worker.pid, GRACE_S)
                worker.kill()


def take_refusal() -> str | None:
    """Return why a worker could not start, once."""
    file = Path(os.environ[SHARED_FOLDER]) / REFUSAL
    if not file.exists():
        return None
    reason = file.read_text(encoding="utf-8")
    file.unlink()
    return reason


def check(settings: Settings) -> None:
    """Refuse settings that contradict each other, or would open the service to others.

    Raises:
        TwinrankError: with one line that says why.
    """
    if not settings.loopback and settings.keys is None:
        raise ServeError(
            f"{settings.host} can be reached by others, and there are no keys; give --keys FILE "
            "with a line `read KEY` or `write KEY` each, or listen on 127.0.0.1"
        )
    if settings.redact:
        check_installed("redactions", "helpdesk", "phonenumbers", "stdnum")
    for origin in settings.origins:
        _check_origin(origin, keys=settings.keys is not None)
    if settings.interleave and not settings.shadow:
        raise ServeError("--interleave takes two rankers; name the second one by --shadow")


def _check_origin(origin: str, *, keys: bool) -> None:
    if origin == "*":
        if not keys:
            raise ServeError(
                "--origin '*' without keys would let any page a visitor opens change answers; "
                "give --keys, or name the sites"
            )
        return
    with suppress(ValueError):
        parts = urlsplit(origin)
        if parts.hostname and f"{parts.scheme}://{parts.netloc}" == origin:
            return
    raise ServeError(
        f"--origin {origin!r} is none that a browser sends; give https://HOST[:PORT], with no "
        "path and no / at the end"
    )


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
