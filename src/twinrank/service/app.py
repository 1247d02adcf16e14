"""The service of one process, as an ASGI application."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from twinrank import __version__
from twinrank.errors import FeedbackError, TwinrankError
from twinrank.feedback.database import Feedback
from twinrank.feedback.forget import expire_regularly
from twinrank.service.batching import BusyError
from twinrank.service.guard import RETRY_S, Guard, Rate
from twinrank.service.live_ranker import Live, UnsavedError
from twinrank.service.logs import log_as_json
from twinrank.service.metrics import Metrics
from twinrank.service.pages import add_pages, name_keys
from twinrank.service.routes import TAGS, Api
from twinrank.service.settings import GRACE_S, Keys, Settings
from twinrank.service.traffic import Counted

SPOKEN = {"one", "batch", "body", "query", "path"}  # parts of a place that tell a client nothing

log = logging.getLogger(__name__)


def from_environment() -> FastAPI:
    """The application of a worker process."""
    settings = Settings.from_environment()
    try:
        return in_process(settings)
    except TwinrankError as error:
        log.error("%s", error)
        sys.exit(1)


def in_process(settings: Settings, *, replica: str = "") -> FastAPI:
    """The service of a process that does nothing else, and says on stderr what happens.

    Args, Raises: see `create_app`.
    """
    log_as_json()
    app = create_app(settings, replica=replica)
    # A third of a million objects stay as they are: each time that the garbage collector looks
    # through them again, all requests wait for a fifth of a second.
    gc.collect()
    gc.freeze()
    return app


def create_app(settings: Settings, *, replica: str = "") -> FastAPI:
    """The service of a ranker.

    Args:
        settings: how.
        replica: see `Metrics`.

    Raises:
        TwinrankError: if the ranker, the keys or the database cannot be used.
    """
    keys = Keys(settings.keys) if settings.keys else None
    feedback = Feedback.open(settings.feedback)
    if settings.keep_feedback_days:
        feedback.keep(settings.keep_feedback_days)
    metrics, counted, rate = Metrics(replica), Counted(feedback), Rate(settings.rate)
    ranker = Live(
        settings.ranker,
        device=settings.device,
        index=settings.index,
        waiting=settings.waiting,
        restore_days=settings.restore_days,
        metrics=metrics,
    )
    api = Api(
        ranker,
        feedback,
        counted,
        metrics,
        rate,
        log_texts=settings.log_texts,
        show_past=settings.show_past_queries,
    )

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        expiring = expire_regularly(settings.ranker, feedback)
        works = (ranker.follow(), ranker.read_ahead(), counted.keep(), expiring, _orphan())
        tasks = [asyncio.create_task(work) for work in works]
        if keys:
            with suppress(ValueError, RuntimeError, AttributeError):  # a test's thread; Windows
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, keys.reload)
        yield
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await counted.end()
        api.close()
        ranker.close()
        feedback.close()

    app = FastAPI(
        title="twinrank",
        version=__version__,
        description="Ranks help articles for questions and conversations; learns from feedback.",
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=alive,
    )
    app.include_router(api.router())
    add_pages(app)
    name_keys(app, needed=keys is not None)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(FeedbackError, _no_database)
    app.add_exception_handler(UnsavedError, _unsaved)
    app.add_middleware(Guard, settings=settings, keys=keys, rate=rate, metrics=metrics)
    if settings.origins:  # around the guard, which refuses what browsers ask beforehand
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    return app


async def _orphan() -> None:
    """Stop when the parent process is gone: nobody would start this one again."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    log.error("the parent process is gone; this one stops, too")
    last = threading.Timer(GRACE_S, os._exit, (1,))  # nobody would kill it if that blocks
    last.daemon = True
    last.start()
    signal.raise_signal(signal.SIGTERM)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (as it was registered)
    kind = request.headers.get("content-type", "")
    if error.errors()[0]["loc"][0] == "body" and "json" not in kind:
        detail = "the body is not said to be JSON; send `Content-Type: application/json`"
        return JSONResponse({"detail": detail}, 415)
    faults = [_fault(fault) for fault in error.errors()]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return JSONResponse({"detail": f"{faults[0]}{more}"}, 422)


def _fault(fault: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in fault["loc"] if part not in SPOKEN)
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


async def _busy(_: Request, error: Exception) -> JSONResponse:
    return _later(f"{error}")


async def _no_database(_: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)
    return _later("the database cannot be reached; try again soon")


async def _unsaved(_: Request, error: Exception) -> JSONResponse:
    log.error("not saved: %s", error)
    return _later("the change could not be saved, and is undone; the service's log says why")


def _later(detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, 503, {"Retry-After": f"{RETRY_S}"})
