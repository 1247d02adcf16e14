"""A real Ray cluster of two nodes on this machine, one of which a test may kill."""

import os

import pytest

from tests.cluster import nodes


@pytest.fixture(scope="session")
def whole_cluster(own_cache):  # noqa: ARG001 (which workers have too)
    """A head with one core, joined by this process; only where it was asked for.

    On a machine whose cores are all taken nodes miss heartbeats, and Ray gives them up.
    """
    if os.environ.get("TWINRANK_CLUSTER") != "1":
        pytest.skip("needs cores of its own: TWINRANK_CLUSTER=1 pytest -n0 tests/cluster")
    with nodes.one_node() as cluster:
        yield cluster


@pytest.fixture
def second_node(whole_cluster):
    """A second node with a core: what kills it."""
    with nodes.second_node(whole_cluster) as kill:
        yield kill
