"""Verdicts of people on rankings, and learning from them."""

from twinrank.feedback.verdicts import Verdict

__all__ = ["Verdict"]
