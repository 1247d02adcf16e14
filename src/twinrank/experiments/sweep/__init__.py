"""Sweeps: the values of a recipe's fields that are best on validation, by Bayesian search.

The trials of a sweep are a study of Optuna, in SQLite or any database that SQLAlchemy knows. Who
opens the same one takes part: more workers, other machines, a second call after a kill.
"""

from twinrank.extras import check_installed

check_installed("sweeps", "sweep", "optuna", "sqlalchemy", "tomli_w", "plotly", "jinja2")

from twinrank.experiments.sweep.course import sweep  # noqa: E402
from twinrank.experiments.sweep.found import BEST_SHARE, Importance, Sweep  # noqa: E402
from twinrank.experiments.sweep.ranges import Between, Choices, Ranges  # noqa: E402
from twinrank.experiments.sweep.sampling import Sampler  # noqa: E402
from twinrank.experiments.sweep.trial import Search  # noqa: E402

__all__ = [
    "BEST_SHARE",
    "Between",
    "Choices",
    "Importance",
    "Ranges",
    "Sampler",
    "Search",
    "Sweep",
    "sweep",
]
