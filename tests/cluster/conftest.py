"""A real Ray cluster of two nodes on this machine, one of which a test may kill.

Nobody else joins it: it asks for a token. The environment is set before Ray reads it.
"""

import logging
import os
import secrets
import time
from contextlib import contextmanager, suppress

import psutil
import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

MISSED_S = 60.0  # in which Ray knows that a node is gone
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="session")
def whole_cluster(own_cache):  # noqa: ARG001 (which workers have too)
    """A head with one core, joined by this process; only where it was asked for.

    On a machine whose cores are all taken nodes miss heartbeats, and Ray gives them up.
    """
    if os.environ.get("TWINRANK_CLUSTER") != "1":
        pytest.skip("needs cores of its own: TWINRANK_CLUSTER=1 pytest -n0 tests/cluster")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        ray.init(cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def second_node(whole_cluster):
    """A second node with a core: a function that kills it."""
    with further_node(whole_cluster) as kill:
        yield kill


@pytest.fixture(scope="module")
def two_nodes(whole_cluster):
    """The cluster with a second node, for all tests of a file."""
    with further_node(whole_cluster):
        yield whole_cluster


@contextmanager
def further_node(cluster):
    """A second node with a core: a function that kills it, as a power cut would."""
    import ray

    node = cluster.add_node(**NODE)
    killed = []

    def is_missed():
        return not any(one["Alive"] for one in ray.nodes() if one["NodeID"] == node.node_id)

    def kill():
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
