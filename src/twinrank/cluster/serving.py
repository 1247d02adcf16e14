"""`serve` on a cluster: replicas of the application that each worker of one machine runs.

Ray Serve hands every request to one of them, and starts anew what dies. They share what workers of
one machine share: the ranker's folder, and the database of feedback.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.types import ASGIApp

from twinrank.cluster.connection import LOCAL, Slot, check_one_machine, connected
from twinrank.errors import ServeError, TwinrankError, first_line
from twinrank.feedback.engine import file_of
from twinrank.ranking import MilvusPlace, place_of
from twinrank.service.app import check_files, in_process
from twinrank.service.guard import MAX_CONCURRENT_REQUESTS, RETRY_AFTER_S
from twinrank.service.logs import log_as_json
from twinrank.service.server import ENVIRONMENT, address_of, check, listen
from twinrank.service.settings import GRACE_S, Settings

NAME = "twinrank"  # of the application, and of all that this command has on a cluster
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
        announce: called with a line that gives the address, when the service answers.

    Raises:
        TwinrankError: if it cannot start, or ends otherwise than by a signal.
    """
    log_as_json()
    check(settings)
    check_files(settings)
    settings = _resolve_paths(settings)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with suppress(KeyboardInterrupt), connected(address):
        for number in (signal.SIGINT, signal.SIGTERM):  # Ray's own would end the process at once
            signal.signal(number, signal.default_int_handler)
        _clear_cluster()
        slot = Slot.of(settings.device)
        if settings.workers > slot.count:
            raise TwinrankError(
                f"the cluster has room for {slot.count} replicas; give --workers {slot.count} "
                "or fewer, or more machines"
            )
        if file_of(settings.feedback):
            check_one_machine("feedback")
        with listen(settings) as bound:  # and let go of: Ray binds it itself
            place, port = address_of(bound), bound.getsockname()[1]
        try:
            _start(settings, slot, port)
            announce(f"serving {settings.ranker} at {place}")
            while NAME in serve.status().applications:
                time.sleep(CHECK_EVERY_S)
            raise TwinrankError("the service was ended by somebody else; start it again")
        except (RayError, RayServeException, TimeoutError) as error:
            raise TwinrankError(
                f"the cluster no longer answers ({first_line(error)}); start again"
            ) from error
        finally:
            try:
                serve.delete(NAME)  # requests under way are answered
                if address != LOCAL:
                    serve.shutdown()
            except (RayError, RayServeException, TimeoutError) as error:
                log.error("the service could not be ended everywhere: %s", error)


def _clear_cluster() -> None:
    """End replicas that a command left behind which was killed.

    Raises:
        TwinrankError: if Ray Serve runs somebody else's application.
    """
    if others := sorted(set(serve.status().applications) - {NAME}):
        raise TwinrankError(
            f"Ray Serve runs {', '.join(others)} on this cluster, behind a proxy that others "
            "have set up; use another cluster, or end it by `serve shutdown`"
        )
    serve.shutdown()


def _resolve_paths(settings: Settings) -> Settings:
    """Return the settings of replicas: with whole paths, since they run in other folders.

    Raises:
        ServeError: if the index is a file that one process has.
    """
    place = place_of(settings.index) if settings.index else None
    if isinstance(place, MilvusPlace) and place.is_file:
        raise ServeError(
            f"{settings.index}: a file of Milvus Lite has one process, and replicas are "
            "several; give --index local, or a server"
        )
    file = file_of(settings.feedback)
    feedback = str(file.resolve()) if file else settings.feedback
    return settings.model_copy(update={"feedback": feedback, "proxied": True})


def _start(settings: Settings, slot: Slot, port: int) -> None:
    """Start the replicas, and wait until they answer.

    Raises:
        TwinrankError: if none can begin.
    """

    def build() -> ASGIApp:  # within a function, so that it is sent with its settings
        return in_process(settings)

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
        reason = (messages or [f"{error}"])[0].strip().splitlines()[-1]  # below Ray's traceback
        raise TwinrankError(f"no replica can begin: {reason}") from None


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
