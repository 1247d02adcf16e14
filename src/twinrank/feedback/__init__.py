"""Verdicts of people on rankings, and learning from them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twinrank.feedback.verdicts import Verdict, feedback_id, text_key

if TYPE_CHECKING:
    from twinrank.feedback.acceptance import METRIC, Compared
    from twinrank.feedback.learning import Learning, learn, roll_back

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
    module = "acceptance" if name in {"METRIC", "Compared"} else "learning"
    return getattr(import_module(f"twinrank.feedback.{module}"), name)
