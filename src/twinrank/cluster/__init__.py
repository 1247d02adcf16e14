"""The same work on many machines, by Ray: encoding, trials of a sweep, training, serving.

The feature store is given a function that encodes, a sweep one that carries its trials out; a
training runs in several processes as under torchrun. Ray starts again what a machine that dies was
doing.
"""

from twinrank.extras import check_installed

check_installed("clusters", "cluster", "ray")

from twinrank.cluster.connection import check_shared, connected  # noqa: E402
from twinrank.cluster.jobs import (  # noqa: E402
    calls_on_cluster,
    encode_on_cluster,
    train_on_cluster,
)

__all__ = [
    "calls_on_cluster",
    "check_shared",
    "connected",
    "encode_on_cluster",
    "train_on_cluster",
]
