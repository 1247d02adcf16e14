"""Bringing an index in line with a ranker: what is missing is added, what is not its is removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from twinrank.errors import AnswerIndexError, NoAnswerIndexError, OtherAnswerIndexError
from twinrank.progress import progress_bar
from twinrank.ranking.index.interface import AnswerIndex, checksums
from twinrank.ranking.index.place import make_index, open_index, place_of
from twinrank.ranking.passages import Passages, among

AT_ONCE = 1_000  # vectors added at once
SAVED_EVERY_S = 60.0  # work that a kill may cost
SAMPLE = 256  # answers whose vectors are read back

Rows = tuple[Sequence[str], Passages[np.ndarray]]  # ids of answers, and their vectors
Last = Callable[[], AbstractContextManager[Rows]]


@dataclass(frozen=True)
class Indexed:
    """What an index holds, and what had to be done for it.

    Attributes:
        where: it is.
        answers: in it.
        vectors: in it.
        dim: their width.
        added: answers that were missing, or had other vectors.
        removed: answers that are not the ranker's, or had other vectors.
        compared: vectors read back and found to be the ranker's.
        seconds: all of it took.
    """

    where: str
    answers: int
    vectors: int
    dim: int
    added: int
    removed: int
    compared: int
    seconds: float

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.where}: {self.answers:,} answers, {self.vectors:,} vectors {self.dim} wide; "
            f"{self.added:,} answers added, {self.removed:,} removed; "
            f"{self.compared:,} vectors read back and right; {self.seconds:.1f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def build_index(
    to: str,
    *,
    home: Path,
    fingerprint: str,
    ids: Sequence[str],
    vectors: Passages[np.ndarray],
    fresh: bool = False,
    instead: bool = False,
    progress: str | None = None,
    last: Last | None = None,
) -> Indexed:
    """Make an index hold the vectors of a ranker's answers and no others, check and publish it.

    What is made is made beside what is there, and is found when it is whole and checked; then the
    other goes, but for the former ranker's, which stays until the next one. After a kill the same
    call goes on: Milvus has what was sent, a folder what was there a minute ago. An index that is
    complete already is checked alone.

    Args:
        to: where, as `twinrank.ranking.index.place` has it.
        home: the ranker's folder.
        fingerprint: of the ranker.
        ids: of its answers.
        vectors: of their passages.
        fresh: make one anew, whatever is there.
        instead: make one also where other rankers' are.
        progress: label of the progress bar; None shows none.
        last: gives the answers as they are by now, and while it is open keeps them so: what
            changed since is done in there, and then the index is published.

    Raises:
        AnswerIndexError: if the place cannot be reached, holds another ranker's answers (unless
            `fresh` or `instead`), or does not give back what was put there.
    """
    began = time.monotonic()
    total, dim = vectors.rows.shape
    index = None if fresh else _there(to, home, fingerprint, instead)
    if index is None:
        index = make_index(to, home=home, fingerprint=fingerprint, dim=dim, vectors=total)
    try:
        held: dict[str, int] = {}
        if len(index):
            index.save()  # Milvus Lite reads slowly what a kill left in its log
            held = index.held()
        now = checksums(ids, vectors)
        added, removed = _bring(index, held, now, ids, vectors, progress)
        with last() if last else nullcontext((ids, vectors)) as (ids, vectors):
            held, now = now, checksums(ids, vectors)
            more, less = _bring(index, held, now, ids, vectors, None)
            compared = check(index, ids, vectors, sample=SAMPLE)
            index.publish()
    finally:
        index.close()
    return Indexed(
        where=str(place_of(to, home)),
        answers=len(ids),
        vectors=len(vectors.rows),
        dim=dim,
        added=added + more,
        removed=removed + less,
        compared=compared,
        seconds=time.monotonic() - began,
    )


def check(
    index: AnswerIndex, ids: Sequence[str], vectors: Passages[np.ndarray], *, sample: int = 16
) -> int:
    """Compare an index with a ranker: the number of vectors, and some answers' vectors in full.

    Args:
        index: that is there.
        ids: of the ranker's answers.
        vectors: of their passages.
        sample: how many answers, evenly spread.

    Returns:
        How many vectors were compared.

    Raises:
        AnswerIndexError: if anything differs.
    """
    mend = "bring it up to date: twinrank index RANKER --to PLACE"
    if len(index) != len(vectors.rows):
        raise AnswerIndexError(
            f"the index holds {len(index):,} vectors, the ranker has {len(vectors.rows):,}; {mend}"
        )
    places = np.unique(np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(np.int64))
    expected = among(vectors, places).rows
    found = np.concatenate(index.read([ids[place] for place in places]))
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=1e-6):
        raise AnswerIndexError(f"the index holds other vectors than the ranker; {mend}")
    return len(expected)


def _there(to: str, home: Path, fingerprint: str, instead: bool) -> AnswerIndex | None:
    try:
        return open_index(to, home=home, fingerprint=fingerprint)
    except OtherAnswerIndexError:
        if not instead:
            raise
    except NoAnswerIndexError:
        pass
    return None


def _bring(
    index: AnswerIndex,
    held: Mapping[str, int],
    right: Mapping[str, int],
    ids: Sequence[str],
    vectors: Passages[np.ndarray],
    progress: str | None,
) -> tuple[int, int]:
    """Add what is missing or differs in the index, and remove what is not the ranker's."""
    wrong = [id_ for id_, checksum in held.items() if right.get(id_) != checksum]
    index.remove(wrong)
    missing = [place for place, id_ in enumerate(ids) if held.get(id_) != right[id_]]
    _add(index, ids, vectors, np.array(missing, np.int64), progress)
    index.settle()
    return len(missing), len(wrong)


def _add(
    index: AnswerIndex,
    ids: Sequence[str],
    vectors: Passages[np.ndarray],
    missing: Int[np.ndarray, " k"],
    progress: str | None,
) -> None:
    with progress_bar(progress, len(among(vectors, missing).rows), unit="vectors") as advance:
        saved = time.monotonic()
        step = max(1, AT_ONCE * len(ids) // len(vectors.rows))
        for start in range(0, len(missing), step):
            places = missing[start : start + step]
            part = among(vectors, places)
            index.add([ids[place] for place in places], part)
            advance(len(part.rows))
            if time.monotonic() - saved > SAVED_EVERY_S:
                index.save()
                saved = time.monotonic()
