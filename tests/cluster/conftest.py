"""A real Ray cluster of two nodes on this machine, one of which a test may kill."""

import os
import secrets
from contextlib import suppress

import psutil
import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}  # nobody else
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

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
    ray.init(cluster.address, logging_level="ERROR", log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def second_node(whole_cluster):
    """A second node with a core: what kills it, as a power cut would."""
    node = whole_cluster.add_node(**NODE)
    killed = []

    def kill():
        killed.append(node)
        (raylet,) = node.all_processes["raylet"]
        for worker in psutil.Process(raylet.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                worker.kill()  # else it would live on for some seconds
        whole_cluster.remove_node(node, allow_graceful=False)

    yield kill
    if not killed:
        kill()
