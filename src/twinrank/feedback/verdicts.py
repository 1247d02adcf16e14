"""A person's verdict on a ranking, and which of several verdicts on a text stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256


@dataclass(frozen=True)
class Verdict:
    """One verdict on the answers that were shown for a text.

    Attributes:
        key: the client's own; a second verdict with it is the same verdict.
        type: of the query; empty if the client gave none.
        answer: id of the answer that is judged or named as the right one; None if none of the
            shown answers is right.
        shown: the ids that were shown, in ranked order; None if the client did not say.
        ranker: fingerprint of the ranker that ranked them.
        at: time in UTC.
        scope: the filter of the answers that were known to who gave it, as text; empty: none.
    """

    key: str
    text: str
    type: str
    answer: str | None
    right: bool
    shown: tuple[str, ...] | None = None
    ranker: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    scope: str = ""

    @property
    def rank(self) -> int | None:
        """Rank of the answer among those shown, from 1; None if it is not among them."""
        shown = self.shown or ()
        return shown.index(self.answer) + 1 if self.answer in shown else None


def text_key(text: str) -> str:
    """Normalise a text so that white space and case do not distinguish two writings of it."""
    return " ".join(text.split()).casefold()


def feedback_id(text: str) -> str:
    """Return the id of a text as a labelled query, the same for every writing of it."""
    return f"feedback-{sha256(text_key(text).encode()).hexdigest()[:16]}"


def standing_verdicts(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """Return the verdicts that stand, by the `text_key` of their text.

    Of several verdicts on one answer the last stands. "None of these" replaces all verdicts
    before it, and is itself replaced when an answer is said to be right after it.

    Args:
        verdicts: oldest first.
    """
    standing: dict[str, dict[str | None, Verdict]] = {}
    for verdict in verdicts:
        by_answer = standing.setdefault(text_key(verdict.text), {})
        if verdict.answer is None:
            by_answer.clear()
        elif verdict.right:
            by_answer.pop(None, None)
        by_answer.pop(verdict.answer, None)  # so that the latest comes last
        by_answer[verdict.answer] = verdict
    return {key: list(by_answer.values()) for key, by_answer in standing.items()}
