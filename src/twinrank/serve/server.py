"""The processes of a service: one that watches, and workers that it starts again when they die."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable

from twinrank.errors import ServeError
from twinrank.search import read_card
from twinrank.serve.feedback import Feedback
from twinrank.serve.metrics import SHARED
from twinrank.serve.settings import VARIABLE, Keys, Settings

GRACE_S = 30  # for requests under way when the service is stopped


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
    from uvicorn.supervisors import Multiprocess

    check(settings)
    config = Config(
        "twinrank.serve.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_worker_healthcheck=GRACE_S,
        limit_concurrency=None,
    )
    listening = _listening(settings)
    host, port = listening.getsockname()[:2]
    with tempfile.TemporaryDirectory(prefix="twinrank-metrics-") as shared:
        os.environ[SHARED] = shared
        # Threads that wait by spinning take the cores from the others that answer.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # torch keeps kernels for each shape of a batch; by its own 1024 the memory doubles.
        for cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
            os.environ.setdefault(cache, "256")
        os.environ[VARIABLE] = settings.model_dump_json()
        announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        Multiprocess(config, sockets=[listening]).run()


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ServeError(
            f"{settings.host}:{settings.port} cannot be listened on ({why}); "
            "choose another --port or --host"
        ) from None
    listening.set_inheritable(True)  # by the workers
    return listening


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
        Keys.load(settings.keys)
    read_card(settings.ranker)
    Feedback.open(settings.feedback).close()
