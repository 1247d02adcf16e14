"""The service of one process, as an ASGI application, with its pages."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import fastapi_offline
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from twinrank import __version__
from twinrank.errors import FeedbackError, TwinrankError
from twinrank.feedback.database import Feedback
from twinrank.feedback.forget import expire
from twinrank.ranking import Filter, place_of, read_manifest
from twinrank.service.access import Keys, RateLimiter
from twinrank.service.guard import CONTENT_SECURITY_POLICY, RETRY, Guard
from twinrank.service.live_ranker import LiveRanker
from twinrank.service.logs import log_as_json
from twinrank.service.prometheus import Metrics, TrafficCounter
from twinrank.service.routes import TAGS, Service, api, probes
from twinrank.service.settings import PUBLIC_RATE_PER_MINUTE, Settings
from twinrank.service.text_routes import texts

if TYPE_CHECKING:
    from twinrank.service.shadow import Shadow

EXPIRE_EVERY_S = 3600.0
RESTART_WORK_S = 10.0  # before work in the background that failed begins again
PLAIN_LOCATIONS = {"one", "batch", "body", "query", "path"}  # they tell a client nothing
STATIC = Path(__file__).parent / "static"
SWAGGER = Path(fastapi_offline.__file__).parent / "static"
# Swagger UI styles its elements one by one.
DOCS_POLICY = CONTENT_SECURITY_POLICY.replace(
    "style-src 'self'", "style-src 'self' 'unsafe-inline'"
)

log = logging.getLogger(__name__)


def check_files(settings: Settings) -> None:
    """Refuse what could not be served, before anything of it is loaded.

    Raises:
        TwinrankError: with one line that says why.
    """
    if settings.keys:
        Keys(settings.keys)
    Filter.parse(settings.where)
    for ranker in (settings.ranker, settings.shadow):
        if ranker:
            read_manifest(ranker)
    if settings.index:
        place_of(settings.index)
    Feedback.open(settings.feedback).close()


def in_process(settings: Settings) -> FastAPI:
    """Create the application of a process that does nothing else, and logs on stderr."""
    log_as_json()
    app = create_app(settings)
    # A third of a million objects stay as they are: each time that the garbage collector looks
    # through them again, all requests wait for a fifth of a second.
    gc.freeze()
    return app


def create_app(settings: Settings) -> FastAPI:
    """Create the application of a ranker.

    Raises:
        TwinrankError: if the ranker, the keys or the database cannot be used.
    """
    keys = Keys(settings.keys) if settings.keys else None
    feedback = Feedback.open(settings.feedback)
    if settings.keep_feedback_days:
        feedback.set_retention(settings.keep_feedback_days)
    rate = RateLimiter(settings.rate or (None if settings.loopback else PUBLIC_RATE_PER_MINUTE))
    metrics, traffic = Metrics(), TrafficCounter(feedback)
    ranker = LiveRanker(settings, metrics)
    shadow = _open_shadow(settings, ranker, feedback)
    service = Service(settings, ranker, feedback, traffic, metrics, rate, shadow)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if threading.current_thread() is threading.main_thread():
            reload = keys.reload if keys else lambda: None
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
        expire_regularly = partial(_expire_regularly, settings.ranker, feedback)
        works = (ranker.follow, ranker.read_ahead, traffic.flush_regularly, expire_regularly)
        beyond = (shadow.compare_regularly,) if shadow else ()
        all_works = (*works, *beyond, _stop_with_parent)
        tasks = [asyncio.create_task(_keep_on(work)) for work in all_works]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await service.close()

    app = FastAPI(
        title="twinrank",
        version=__version__,
        description="Ranks help articles for questions and conversations; learns from feedback.",
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    for router in (api, texts, probes):
        app.include_router(router)
    _add_pages(app)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(FeedbackError, _answer_unreachable)
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


def _open_shadow(settings: Settings, ranker: LiveRanker, feedback: Feedback) -> Shadow | None:
    if settings.shadow is None:
        return None
    from twinrank.service.shadow import Shadow  # few services have one

    return Shadow(settings, ranker, feedback)


async def _keep_on(work: Callable[[], Awaitable[None]]) -> None:
    """Do work in the background while the service lives; where it fails, it begins again."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("work in the background failed, and begins again: %s", work)
        await asyncio.sleep(RESTART_WORK_S)


async def _expire_regularly(ranker: Path, feedback: Feedback) -> None:
    """Erase verdicts that are too old now, and every hour; never returns."""
    while True:
        try:
            erased = await asyncio.to_thread(expire, ranker, feedback, wait=False)
            if erased.verdicts:
                log.info("%d verdicts erased, which were too old", erased.verdicts)
        except (TwinrankError, OSError) as error:
            log.error("verdicts that are too old are not erased yet: %s", error)
        await asyncio.sleep(EXPIRE_EVERY_S)


async def _stop_with_parent() -> None:
    """Stop when the parent process is gone: nobody would start this one again."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    log.error("the parent process is gone; this one stops, too")
    signal.raise_signal(signal.SIGTERM)


def _add_pages(app: FastAPI) -> None:
    """Serve the pages, the widget and `/static`: all of the package, nothing from outside."""
    app.mount("/static/swagger", StaticFiles(directory=SWAGGER))
    app.mount("/static", StaticFiles(directory=STATIC))

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/admin", include_in_schema=False)
    async def admin() -> FileResponse:
        return FileResponse(STATIC / "admin.html")

    @app.get("/widget.js", include_in_schema=False)
    async def widget() -> FileResponse:
        headers = {"Cross-Origin-Resource-Policy": "cross-origin"}  # other sites' pages load it
        return FileResponse(STATIC / "widget.js", headers=headers)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        headers = {"Content-Security-Policy": DOCS_POLICY}
        return FileResponse(STATIC / "docs.html", headers=headers)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (as it was registered)
    content_type = request.headers.get("content-type", "")
    if error.errors()[0]["loc"][0] == "body" and "json" not in content_type:
        detail = "the body is not said to be JSON; send `Content-Type: application/json`"
        return JSONResponse({"detail": detail}, 415)
    faults = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"] if part not in PLAIN_LOCATIONS)
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{field}: {message}" if field else message)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    problem = {"detail": f"{faults[0]}{more}"}
    if request.url.path == "/v1/embeddings":
        problem["message"] = problem["detail"]  # what OpenAI's client shows
    return JSONResponse(problem, 422)


async def _answer_unreachable(_: Request, error: Exception) -> JSONResponse:
    log.error("%s", error)
    return JSONResponse({"detail": "the database cannot be reached; try again soon"}, 503, RETRY)
