"""A real Ray cluster of two nodes on this machine, one of which may be killed.

Nobody else joins it: it asks for a token. Import this before ray, which reads the settings.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

MISSED_S = 60.0  # in which Ray knows that a node is gone
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@contextmanager
def one_node() -> Iterator[Any]:
    """A cluster whose head has one core, joined by this process."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        ray.init(cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def second_node(cluster: Any) -> Iterator[Callable[[], None]]:
    """A second node with a core: what kills it, as a power cut would."""
    import ray

    node = cluster.add_node(**NODE)
    killed = []

    def is_missed() -> bool:
        return not any(one["Alive"] for one in ray.nodes() if one["NodeID"] == node.node_id)

    def kill() -> None:
        killed.append(node)
        (raylet,) = node.all_processes["raylet"]
        for worker in psutil.Process(raylet.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                worker.kill()  # else it would live on for some seconds
        cluster.remove_node(node, allow_graceful=False)

    try:
        yield kill
    finally:
        if not killed:
            kill()
        ends = time.monotonic() + MISSED_S
        while not is_missed() and time.monotonic() < ends:  # else its cores are counted on
            time.sleep(0.1)
