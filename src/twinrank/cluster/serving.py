"""`serve` on a cluster: replicas of the application that each worker of one machine runs.

Ray Serve hands every request to one of them, and starts anew what dies. They share what workers of
one machine share: the ranker's folder, and the database of feedback.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinrank.cluster.connection import (
    LOCAL,
    Slot,
    check_one_machine,
    connected,
    first_line,
    other_machines,
)
from twinrank.errors import ClusterError, ServeError
from twinrank.feedback.engine import file_of
from twinrank.ranking import is_milvus
from twinrank.service.app import in_process
from twinrank.service.guard import MAX_CONCURRENT_REQUESTS, REQUEST_ID, RETRY_AFTER_S
from twinrank.service.server import ENVIRONMENT, address_of, check, listen
from twinrank.service.settings import GRACE_S, Settings

NAME = "twinrank"  # of the application, and of all that this command has on a cluster
HEAD = "node:__internal_head__"  # a resource that Ray gives to its head alone
PROXY_ENVIRONMENT = {
    # Ray's proxy gives a request to a replica of its own machine as long as that takes any: ours
    # takes so many that the others would have nothing to do.
    "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
    "RAY_SERVE_PROXY_PREFER_LOCAL_AZ_ROUTING": "0",
    # Ray kills a proxy that has not begun after three times so long; 5 s are too few if it is busy.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}
CHECK_EVERY_S, STOP_CHECK_EVERY_S = 5.0, 0.2
MAX_STARTS = 3  # of a replica that fails as it begins

log = logging.getLogger(__name__)


def serve_on_cluster(settings: Settings, address: str, announce: Callable[[str], None]) -> None:
    """Serve by replicas on a cluster until stopped by a signal.

    Requests under way are answered first. If this process is killed, replicas go on; the same
    command takes their place.

    Args:
        settings: how; `workers` are replicas.
        address: of the cluster, as `connected` takes it.
        announce: called with the address of the service, when it answers.

    Raises:
        TwinrankError: if it cannot start, or ends otherwise than by a signal.
    """
    check(settings)
    settings = _resolve_paths(settings)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with connected(address), _stop_by_signal(), _only_command():
        slot = Slot.of(settings.device)
        if settings.workers > slot.count:
            raise ClusterError(
                f"the cluster has room for {slot.count} replicas; give --workers {slot.count} "
                "or fewer, or more machines"
            )
        _check_machines(settings)
        with listen(settings) as bound:  # and let go of: Ray binds it itself
            place, port = address_of(bound), bound.getsockname()[1]
        try:
            _start(settings, slot, port)
            announce(place)
            while NAME in serve.status().applications:
                time.sleep(CHECK_EVERY_S)
            raise ClusterError("the service was ended by somebody else; start it again")
        except (RayError, RayServeException, TimeoutError) as error:
            raise ClusterError(
                f"the cluster no longer answers ({first_line(error)}); start again"
            ) from error
        finally:
            try:
                serve.delete(NAME)  # requests under way are answered
                if address != LOCAL:
                    serve.shutdown()
            except (RayError, RayServeException, TimeoutError) as error:
                log.error("the service could not be ended everywhere: %s", error)


class ProxiedApp:
    """The application behind Ray's proxy, which gives each request its id, and tells the client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request under the proxy's id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)["x-request-id"]
            await send(message)

        request_id = Headers(scope=scope).get("x-request-id")
        await self._app({**scope, REQUEST_ID: request_id}, receive, send_without_id)


class Keeper:
    """Lives as long as the command that made it: with that process, Ray ends it."""


class _StoppedError(BaseException):
    """This process was told to stop."""


@contextmanager
def _stop_by_signal() -> Iterator[None]:
    """Make signals end the block; Ray's own handlers would end the process at once."""

    def stop(*_: object) -> None:
        raise _StoppedError

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _StoppedError:
        pass
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _only_command() -> Iterator[None]:
    """Be the one command that serves on this cluster; replicas of one that was killed are ended.

    Raises:
        ClusterError: if there is another, or somebody else's application.
    """
    keeper_class: Any = ray.remote(Keeper).options(name=NAME, namespace=NAME, num_cpus=0)
    try:
        keeper = keeper_class.remote()
    except ValueError:
        raise ClusterError(
            "another `twinrank serve` runs on this cluster; stop that first, or use another cluster"
        ) from None
    try:
        if others := sorted(set(serve.status().applications) - {NAME}):
            raise ClusterError(
                f"Ray Serve runs {', '.join(others)} on this cluster, behind a proxy that others "
                "have set up; use another cluster, or end it by `serve shutdown`"
            )
        serve.shutdown()
        yield
    finally:
        ray.kill(keeper)


def _resolve_paths(settings: Settings) -> Settings:
    """Return the settings with whole paths, since replicas run in other folders.

    Raises:
        ServeError: if the index is a file that one process has.
    """
    if settings.index and is_milvus(settings.index) and "://" not in settings.index:
        raise ServeError(
            f"{settings.index}: a file of Milvus Lite has one process, and replicas are "
            "several; give --index local, or a Milvus server"
        )
    if file := file_of(settings.feedback):
        return settings.model_copy(update={"feedback": str(file.resolve())})
    return settings


def _check_machines(settings: Settings) -> None:
    """Refuse a cluster whose machines would not learn of each other's changes.

    Raises:
        ClusterError: if they are several, and feedback is a file, the folder or the keys are not
            everywhere, or the address to listen on is one of another machine.
    """
    others = other_machines()
    if not others:
        return
    if file_of(settings.feedback):
        check_one_machine("feedback")
    head = next((node["NodeID"] for node in ray.nodes() if HEAD in node["Resources"]), "")
    if head in others and not _is_any(settings.host):
        raise ClusterError(
            f"the cluster's head, {others[head]}, would listen on {settings.host}: run the command "
            "there, or let all machines listen, --host 0.0.0.0 --keys FILE"
        )
    find: Any = ray.remote(num_cpus=0)(_find_missing)
    with NamedTemporaryFile(dir=settings.ranker, prefix=".seen-") as mark:
        paths = [Path(mark.name), *([settings.keys] if settings.keys else [])]
        for node, host in others.items():
            strategy = NodeAffinitySchedulingStrategy(node, soft=False)
            if missing := ray.get(find.options(scheduling_strategy=strategy).remote(paths)):
                raise ClusterError(
                    f"{host} does not see {missing[0]} of this machine: answers that are put and "
                    "rankers that are replaced would not reach it; keep the ranker and the keys "
                    "in a folder that all machines share"
                )


def _find_missing(paths: list[Path]) -> list[Path]:
    return [path for path in paths if not path.exists()]


def _start(settings: Settings, slot: Slot, port: int) -> None:
    """Start the replicas, and wait until they answer.

    Raises:
        ClusterError: if none can begin.
    """

    def build() -> ASGIApp:  # within a function, so that it is sent with its settings
        replica = f"{socket.gethostname()}:{os.getpid()}"
        return ProxiedApp(in_process(settings, replica=replica))

    logged = {"enable_access_log": False}  # the application has its own
    serve.start(
        # One address is one machine's, and then the head's; any address is every machine's.
        proxy_location="EveryNode" if _is_any(settings.host) else "HeadOnly",
        http_options={"host": settings.host, "port": port},
        logging_config=logged,
        controller_options={"runtime_env": {"env_vars": PROXY_ENVIRONMENT}},  # proxies inherit it
    )
    replicas = serve.deployment(
        name=NAME,
        num_replicas=settings.workers,
        ray_actor_options={**slot.options, "runtime_env": {"env_vars": ENVIRONMENT}},
        # The application refuses before Ray has them wait.
        max_ongoing_requests=2 * MAX_CONCURRENT_REQUESTS,
        max_queued_requests=MAX_CONCURRENT_REQUESTS,
        backpressure_config={"retry_after_s": RETRY_AFTER_S},
        health_check_timeout_s=GRACE_S,
        graceful_shutdown_timeout_s=GRACE_S,
        graceful_shutdown_wait_loop_s=STOP_CHECK_EVERY_S,
        max_constructor_retry_count=MAX_STARTS,
        logging_config=logged,
    )(serve.ingress(build)())
    try:
        serve.run(replicas.bind(), name=NAME)
    except RuntimeError as error:
        app = serve.status().applications.get(NAME)
        messages = [deployment.message for deployment in app.deployments.values()] if app else []
        reason = _last_line((messages or [f"{error}"])[0])
        raise ClusterError(f"no replica can begin: {reason}") from None


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _last_line(message: str) -> str:
    """Return the error of a replica, without the traceback that Ray puts around it."""
    return re.sub(r"^[\w.]+(Error|Exception): ", "", message.strip().splitlines()[-1])
