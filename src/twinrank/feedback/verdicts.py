"""What somebody said of a ranking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Verdict:
    """One verdict on the answers that were shown for a text.

    Attributes:
        key: the client's own; a second verdict with it is the same verdict.
        text: what was asked.
        type: of the query, as data sets have it; empty where nobody said.
        answer: the id of the answer judged, or named as the right one; none where the verdict
            is that none of those shown is right.
        right: whether that answer is right.
        shown: the ids that were shown, in ranked order; none where nobody said.
        ranker: the fingerprint of the ranker that ranked them.
        at: when, in UTC.
    """

    key: str
    text: str
    type: str
    answer: str | None
    right: bool
    shown: tuple[str, ...] | None = None
    ranker: str | None = None
    at: datetime = field(default_factory=_now)

    @property
    def place(self) -> int | None:
        """The rank of the answer among those shown, from 1; none if it is not known to be there."""
        shown = self.shown or ()
        return shown.index(self.answer) + 1 if self.answer in shown else None


def text_key(text: str) -> str:
    """Give what two writings of one text have in common: spaces and case aside."""
    return " ".join(text.split()).casefold()


def feedback_id(text: str) -> str:
    """Give the id that a text gets as a labelled query, whoever wrote it."""
    return f"feedback-{sha256(text_key(text).encode()).hexdigest()[:16]}"


def last_words(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    """Give the verdicts that stand, by the key of their text.

    Of several on one answer the last stands. "None of these" takes the place of all before it,
    and goes when an answer is said to be right after it.

    Args:
        verdicts: oldest first.
    """
    last: dict[str, dict[str | None, Verdict]] = {}
    for verdict in verdicts:
        standing = last.setdefault(text_key(verdict.text), {})
        if verdict.answer is None:
            standing.clear()
        elif verdict.right:
            standing.pop(None, None)
        standing.pop(verdict.answer, None)  # so that the latest comes last
        standing[verdict.answer] = verdict
    return {key: list(standing.values()) for key, standing in last.items()}
