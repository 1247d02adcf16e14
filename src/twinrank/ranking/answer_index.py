"""The answer index: the vectors of answers' passages, searched by inner product."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from twinrank.errors import AnswerIndexError
from twinrank.progress import progress_bar
from twinrank.ranking.passages import Passages, among

VECTORS_A_BATCH = 1_000
FEW_ANSWERS, MANY_ANSWERS = 16, 256  # whose vectors are read back

Hit = tuple[str | None, float]  # the answer of a vector, None if it was removed; its product
Search = Callable[[Float[np.ndarray, "n d"], int], list[list[Hit]]]


class NearestAnswers(NamedTuple):
    """The answers nearest to one query, best first, and the product of the best passage of each."""

    answers: list[str]
    scores: Float[np.ndarray, " k"]


@runtime_checkable
class AnswerIndex(Protocol):
    """Vectors of passages, each of an answer that is known by its id.

    Products are those of `Towers.scores` before the scale, in float32. Grouping passages by
    answers loses nothing. An answer's place is by its best passage alone, where a ranker's score
    is the soft maximum over all: that lies above by log(its passages) at most, so rankers score
    the answers of a search again.

    Errors are `AnswerIndexError`s that name the place and the fix.
    """

    def add(self, ids: Sequence[str], passages: Passages[np.ndarray]) -> None:
        """Add the vectors of answers; those that are there already are to be removed first."""

    def remove(self, ids: Iterable[str]) -> None:
        """Remove answers; unknown ids are passed over."""

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[NearestAnswers]:
        """Find the k answers with the best passages for each query; fewer if there are fewer."""

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """Return the vectors of each answer, passage by passage; 0 x d if it is unknown."""

    def checksums(self) -> dict[str, int]:
        """Return a checksum of the vectors of every answer, see `passage_checksums`."""

    def __len__(self) -> int:
        """Return the number of vectors."""

    def save(self) -> None:
        """Make all changes outlive this process."""

    def settle(self) -> None:
        """Save, and wait until new vectors are searched as well as they ever will be."""

    def publish(self) -> None:
        """Let rankers use it in place of the index that was there."""

    def close(self) -> None:
        """Release files and connections."""


def group_hits(
    search: Search, queries: Float[np.ndarray, "n d"], k: int, *, depth: int, limit: int
) -> list[NearestAnswers]:
    """Find the k best answers for each of n queries from as many best vectors as that takes.

    Args:
        search: gives that many best vectors for each of some queries, best first.
        queries: their vectors.
        k: number of answers.
        depth: vectors to ask for at first; then twice as many, until there are k answers.
        limit: most vectors to ask for.
    """
    results = [NearestAnswers([], np.empty(0, np.float32))] * len(queries)
    short = list(range(len(queries)))
    depth = min(depth, limit)
    while short and depth:
        all_hits = search(queries[short], depth)
        for i, hits in zip(short, all_hits, strict=True):
            best: dict[str, float] = {}
            for answer, score in hits:
                if answer is not None and len(best) < k:
                    best.setdefault(answer, score)
            results[i] = NearestAnswers(list(best), np.array(list(best.values()), np.float32))
        if depth == limit:
            break
        pairs = zip(short, all_hits, strict=True)
        short = [i for i, hits in pairs if len(hits) == depth and len(results[i].answers) < k]
        depth = min(2 * depth, limit)
    return results


def owners(passages: Passages[np.ndarray]) -> Int[np.ndarray, " v"]:
    """Return the row of each passage's answer, ascending."""
    return np.arange(passages.answers) if passages.owner is None else passages.owner


def passage_numbers(passages: Passages[np.ndarray]) -> Int[np.ndarray, " v"]:
    """Count the passages of each answer from zero."""
    owner = owners(passages)
    return np.arange(len(owner)) - np.searchsorted(owner, owner)


def passage_checksums(passages: Passages[np.ndarray]) -> Int[np.ndarray, " v"]:
    """Return the CRC-32 of each vector and its number; those of an answer add up to its own."""
    rows = np.ascontiguousarray(passages.rows, np.float32)
    numbered = zip(rows, passage_numbers(passages).tolist(), strict=True)
    return np.fromiter((zlib.crc32(row, number) for row, number in numbered), np.int64, len(rows))


def answer_checksums(ids: Sequence[str], passages: Passages[np.ndarray]) -> dict[str, int]:
    """Return the checksum of each answer: another one if a passage is missing or differs."""
    sums = np.zeros(passages.answers, np.int64)
    np.add.at(sums, owners(passages), passage_checksums(passages))
    return dict(zip(ids, sums.tolist(), strict=True))


def update_index(
    index: AnswerIndex,
    ids: Sequence[str],
    vectors: Passages[np.ndarray],
    progress: str | None = None,
) -> tuple[int, int]:
    """Bring an index in line with a ranker, and settle it.

    Args:
        index: to which missing answers are added, and from which those that the ranker does not
            have, or has with other vectors, are removed.
        ids: of the ranker's answers.
        vectors: of their passages.
        progress: label of the progress bar; None shows none.

    Returns:
        How many answers were added and removed.
    """
    expected, present = answer_checksums(ids, vectors), index.checksums()
    wrong = [id_ for id_, checksum in present.items() if expected.get(id_) != checksum]
    index.remove(wrong)
    missing = np.array([i for i, id_ in enumerate(ids) if present.get(id_) != expected[id_]], int)
    step = max(1, VECTORS_A_BATCH * len(ids) // len(vectors.rows))
    with progress_bar(progress, len(among(vectors, missing).rows), unit="vectors") as advance:
        for start in range(0, len(missing), step):
            rows = missing[start : start + step]
            batch = among(vectors, rows)
            index.add([ids[row] for row in rows], batch)
            advance(len(batch.rows))
    index.settle()
    return len(missing), len(wrong)


def check_index(
    index: AnswerIndex,
    ids: Sequence[str],
    vectors: Passages[np.ndarray],
    *,
    sample: int = FEW_ANSWERS,
) -> int:
    """Compare an index with a ranker: the number of vectors, and those of some answers in full.

    Args:
        index: to compare.
        ids: of the ranker's answers.
        vectors: of their passages.
        sample: how many answers, evenly spread.

    Returns:
        How many vectors were compared.

    Raises:
        AnswerIndexError: if anything differs.
    """
    fix = "bring it up to date: twinrank index RANKER --to PLACE"
    if len(index) != len(vectors.rows):
        raise AnswerIndexError(
            f"the index holds {len(index):,} vectors, the ranker has {len(vectors.rows):,}; {fix}"
        )
    rows = np.unique(np.linspace(0, len(ids) - 1, min(sample, len(ids))).astype(np.int64))
    expected = among(vectors, rows).rows
    actual = np.concatenate(index.read([ids[row] for row in rows]))
    if actual.shape != expected.shape or not np.allclose(actual, expected, rtol=0, atol=1e-6):
        raise AnswerIndexError(f"the index holds other vectors than the ranker; {fix}")
    return len(expected)


@dataclass(frozen=True)
class Indexed:
    """The state of an index, and the work it took.

    Attributes:
        where: it is.
        answers: in it.
        vectors: in it.
        dim: their width.
        added: answers that were missing, or had other vectors.
        removed: answers that are not the ranker's, or had other vectors.
        compared: vectors that were read back and are the ranker's.
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
