"""Verdicts of people on rankings, and learning from them."""

from twinrank.feedback.gate import Compared
from twinrank.feedback.learn import Learning, learn, roll_back
from twinrank.feedback.verdicts import Verdict, feedback_id, last_words, text_key

__all__ = [
    "Compared",
    "Learning",
    "Verdict",
    "feedback_id",
    "last_words",
    "learn",
    "roll_back",
    "text_key",
]
