"""What somebody said of a ranking."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


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
