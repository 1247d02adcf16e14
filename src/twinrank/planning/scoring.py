"""What all rankings take: in validation, and in a service."""

from __future__ import annotations

from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.workload import Workload


def scored_seconds(w: Workload, c: Measured) -> float:
    """Seconds of a core to score every answer for a query whose features are known."""
    passages = w.passages * c.rank_passage_s if w.recipe.encoder else 0.0
    return passages + beside_seconds(w, c)


def beside_seconds(w: Workload, c: Measured) -> float:
    """Seconds of what is computed for every answer, whatever finds candidates: votes and words."""
    words = w.answers * c.rank_answer_s if w.recipe.words or w.recipe.memory else 0.0
    return words + (w.queries * c.rank_past_s if w.recipe.memory else 0.0)


def word_tokens(w: Workload) -> float:
    """Tokens of the texts whose words are indexed: of answers, and of past queries."""
    if not w.recipe.words:
        return 0.0
    return w.passages * w.passage_tokens + _past_tokens(w)


def text_bytes(w: Workload) -> float:
    """Bytes of the texts that a ranker keeps: of answers, and of past queries."""
    tokens = w.passages * w.passage_tokens + _past_tokens(w)
    return tokens * Assumed.load().token_bytes


def _past_tokens(w: Workload) -> float:
    return w.queries * w.query_tokens if w.recipe.memory else 0.0
