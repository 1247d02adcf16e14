"""Verdicts of people on rankings, and learning from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twinrank.feedback.verdicts import Verdict, feedback_id, text_key

if TYPE_CHECKING:
    from twinrank.feedback.learning import METRIC, Compared, Learning, learn, roll_back

__all__ = [
    "METRIC",
    "Compared",
    "Learning",
    "Verdict",
    "feedback_id",
    "learn",
    "roll_back",
    "text_key",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what trains on first use: the service and its clients need none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'twinrank.feedback' has no attribute {name!r}")
    from twinrank.feedback import learning

    return getattr(learning, name)
