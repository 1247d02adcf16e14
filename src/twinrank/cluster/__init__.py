"""The same work on many machines, by Ray: encoding, the trials of a sweep, the training of towers.

Nothing is done here in another way than on one machine: a feature store is given what encodes, a
sweep what carries its trials out, a training the team that shares its steps. What a machine that
dies was doing is done again by others.
"""

from twinrank.extras import check_installed

check_installed("clusters", "cluster", "ray")

from twinrank.cluster.calls import calls_on_cluster  # noqa: E402
from twinrank.cluster.connection import check_shared, connected  # noqa: E402
from twinrank.cluster.encoding import encoded_on_cluster  # noqa: E402
from twinrank.cluster.training import Crew  # noqa: E402

__all__ = ["Crew", "calls_on_cluster", "check_shared", "connected", "encoded_on_cluster"]
