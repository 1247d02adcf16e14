"""What an answer index is: the vectors of answers' passages, searched by inner product."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from twinrank.ranking.passages import Passages

Hit = tuple[str | None, float]  # whose a vector is, none where that was removed, and its product
Nearest = Callable[[np.ndarray, int], list[list[Hit]]]


class Found(NamedTuple):
    """The answers nearest to one query, best first, and the product of the best passage of each."""

    answers: list[str]
    scores: Float[np.ndarray, " k"]


@runtime_checkable
class AnswerIndex(Protocol):
    """Vectors of passages, each belonging to an answer given by its id.

    Products are those of `Towers.scores` before the scale, in float32. Whatever is exact about
    the answers found is what the room says of the products: grouping by answers loses nothing. An
    answer's place is by its best passage alone, where a ranker's score is the soft maximum over
    all: that lies above by log(its passages) at most, so rankers score anew what is found here.

    Errors are `AnswerIndexError`s that name the place and the mend.
    """

    def add(self, ids: Sequence[str], passages: Passages[np.ndarray]) -> None:
        """Take in the vectors of answers; those that are there already are to be removed first."""

    def remove(self, ids: Iterable[str]) -> None:
        """Forget answers; those that are not there are passed over."""

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[Found]:
        """The k answers with the best passages for each query; fewer if there are fewer."""

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """The vectors of each answer, passage by passage; none (0 x d) if it is not there."""

    def held(self) -> dict[str, int]:
        """The answers that are there, and a checksum of the vectors of each (`checksums`)."""

    def __len__(self) -> int:
        """How many vectors are there."""

    def save(self) -> None:
        """Make all changes outlive this process."""

    def settle(self) -> None:
        """Save, and wait until what was added is searched as well as it ever will be."""

    def publish(self) -> None:
        """Let it be found where it is, in place of what was: it is saved, and checked."""

    def close(self) -> None:
        """Let go of files and connections."""


def grouped(
    nearest: Nearest, queries: Float[np.ndarray, "n d"], k: int, *, depth: int, limit: int
) -> list[Found]:
    """The k best answers for each of n queries, from the best vectors: as many as that takes.

    Args:
        nearest: gives so many best vectors for each of some queries, best first.
        queries: their vectors.
        k: how many answers.
        depth: how many vectors to ask for at first; then twice as many, until there are k answers.
        limit: there are no more vectors than that.
    """
    found = [Found([], np.empty(0, np.float32))] * len(queries)
    short = list(range(len(queries)))
    depth = min(depth, limit)
    while short and depth:
        all_hits = nearest(queries[short], depth)
        for i, hits in zip(short, all_hits, strict=True):
            best: dict[str, float] = {}
            for answer, score in hits:
                if answer is not None and len(best) < k:
                    best.setdefault(answer, score)
            found[i] = Found(list(best), np.array(list(best.values()), np.float32))
        if depth == limit:
            break
        pairs = zip(short, all_hits, strict=True)
        short = [i for i, hits in pairs if len(hits) == depth and len(found[i].answers) < k]
        depth = min(2 * depth, limit)
    return found


def owners(passages: Passages[np.ndarray]) -> Int[np.ndarray, " v"]:
    """The answer of each passage, rising."""
    return np.arange(passages.answers) if passages.owner is None else passages.owner


def numbers(owner: Int[np.ndarray, " v"]) -> Int[np.ndarray, " v"]:
    """Which of its answer's passages each is, counted from zero; `owner` rises."""
    return np.arange(len(owner)) - np.searchsorted(owner, owner)


def row_checksums(passages: Passages[np.ndarray]) -> Int[np.ndarray, " v"]:
    """CRC-32 of each vector and its number within its answer."""
    rows = np.ascontiguousarray(passages.rows, np.float32)
    each = zip(rows, numbers(owners(passages)).tolist(), strict=True)
    return np.fromiter((zlib.crc32(row, number) for row, number in each), np.int64, len(rows))


def checksums(ids: Sequence[str], passages: Passages[np.ndarray]) -> dict[str, int]:
    """For each answer the sum of its passages' checksums: other if one is missing or differs."""
    sums = np.zeros(passages.answers, np.int64)
    np.add.at(sums, owners(passages), row_checksums(passages))
    return dict(zip(ids, sums.tolist(), strict=True))
