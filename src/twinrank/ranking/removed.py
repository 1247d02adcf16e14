"""Answers that were removed and can be restored: what each needs to come back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict


class Removed(BaseModel):
    """An answer that was removed.

    Attributes:
        at: when.
        answer: its row of `Ranker.answers`.
        past: texts of the past queries that were labelled with it.
        newcomer: whether it was added after training.
        ranker: fingerprint of the ranker whose towers learned `offset`.
        offset: of the answer, if they learned any.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    answer: dict[str, Any]
    past: tuple[str, ...] = ()
    newcomer: bool = True
    ranker: str
    offset: tuple[float, ...] | None = None

    def without(self, forgets: Callable[[str], bool]) -> Removed:
        """Give the same without the past queries whose text is to be forgotten."""
        return self.model_copy(update={"past": tuple(t for t in self.past if not forgets(t))})


def write_removed(removed: Iterable[Removed], file: Path) -> None:
    """Write them, a line of JSON each."""
    file.write_text(
        "".join(f"{record.model_dump_json()}\n" for record in removed), encoding="utf-8"
    )


def read_removed(stream: IO[bytes]) -> tuple[Removed, ...]:
    """Read what `write_removed` wrote."""
    return tuple(Removed.model_validate_json(line) for line in stream)
