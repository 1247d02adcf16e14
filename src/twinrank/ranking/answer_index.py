"""The answer index: its place, its methods, and the candidates that it finds for a ranking."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, runtime_checkable
from urllib.parse import parse_qsl

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from twinrank.errors import AnswerIndexError, NoAnswerIndexError, OtherAnswerIndexError
from twinrank.extras import check_installed
from twinrank.progress import progress_bar
from twinrank.ranking.reader import Passages, among

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

LOCAL = "local"  # the index that lies in the ranker's own version
COLLECTION = "twinrank"  # where none is named
POSTGRES_NAME = "[A-Za-z_][A-Za-z0-9_]{0,39}"  # its names have 63 characters at most
DIGITS = 12  # of a ranker's fingerprint, in names of its collections or tables
SETTINGS = "shards=N, replicas=N and consistency=Strong, Bounded, Session or Eventually"
VECTORS_A_BATCH = 1_000
SAMPLED_ANSWERS = 16  # that are looked for when an index is opened
MAX_CHANGED_ANSWERS = 1_000  # since an index was made
CANDIDATES = 200  # of the index, and as many by all other signals

Keys = Int[np.ndarray, " k"]  # of answers, see `answer_keys`
# Gives the answers, by key, of that many best vectors for each of some queries, best first.
Search = Callable[[Float[np.ndarray, "n d"], int], list[list[int]]]


class MilvusPlace(BaseModel):
    """`URI?shards=N&replicas=N&consistency=LEVEL#NAME`; all but the URI may be left out.

    The URI is a server's, or the file of a Milvus Lite, which takes no settings; the name is that
    of the collections. Checks wait for all writes, whatever the consistency of searches.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = COLLECTION
    shards: PositiveInt = 1
    replicas: PositiveInt = 1
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = "Session"

    @classmethod
    def parse(cls, to: str) -> MilvusPlace:
        """Read the form above."""
        address, _, name = to.partition("#")
        uri, _, settings = address.partition("?")
        where = _hide_password(uri)
        given = dict(parse_qsl(settings, keep_blank_values=True))
        known = {"shards", "replicas", "consistency"} if "://" in uri else set()
        if unknown := sorted(given.keys() - known):
            raise AnswerIndexError(
                f"{where}: {unknown[0]!r} is no setting of it; a Milvus server takes {SETTINGS}, "
                "a file takes none"
            )
        try:
            values = {key: value.capitalize() for key, value in given.items()}
            return cls.model_validate({**values, "uri": uri, "name": name or COLLECTION})
        except ValidationError as error:
            first = error.errors()[0]
            field = first["loc"][0]
            raise AnswerIndexError(
                f"{where}: {field}={given.get(str(field), name)}: {first['msg']}; a name is "
                f"letters, digits and underscores; settings are {SETTINGS}"
            ) from None

    @property
    def where(self) -> str:
        """The file or server, for messages: without its password."""
        return _hide_password(self.uri)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, for Milvus Lite."""
        return "://" not in self.uri

    def __str__(self) -> str:
        """As `parse` takes it, without its password."""
        given = self.model_dump(exclude={"uri", "name"}, exclude_defaults=True)
        settings = "&".join(f"{key}={value}" for key, value in given.items())
        name = "" if self.name == COLLECTION else f"#{self.name}"
        return f"{self.where}{'?' if settings else ''}{settings}{name}"


@dataclass(frozen=True)
class PostgresPlace:
    """`postgresql://USER@HOST/DATABASE#NAME`; the name is that of the tables."""

    address: URL
    name: str = COLLECTION

    @classmethod
    def parse(cls, to: str) -> PostgresPlace:
        """Read the form above."""
        from twinrank.addresses import read_address

        uri, _, name = to.partition("#")
        try:
            address = read_address(uri).set(drivername="postgresql+psycopg")
        except ValueError as error:
            raise AnswerIndexError(f"the address of the index is {error}") from None
        if not re.fullmatch(POSTGRES_NAME, name or COLLECTION):
            raise AnswerIndexError(
                f"{cls(address)}: {name!r} names no tables; give up to 40 letters, digits and "
                "underscores"
            )
        return cls(address, name or COLLECTION)

    def __str__(self) -> str:
        """As `parse` takes it, without its password."""
        from twinrank.addresses import show_address

        name = "" if self.name == COLLECTION else f"#{self.name}"
        return show_address(self.address.set(drivername="postgresql")) + name


def no_index(place: MilvusPlace | PostgresPlace, others: Sequence[str]) -> AnswerIndexError:
    """Say that a place holds no index of this ranker, but perhaps those of others."""
    command = f"twinrank index RANKER --to '{place}'"
    if others:
        return OtherAnswerIndexError(
            f"{place}: the index of another ranker ({others[-1]}); name another place, or put "
            f"this one in its place: {command} --fresh"
        )
    return NoAnswerIndexError(f"{place}: there is no such index; make it: {command}")


def place_of(to: str) -> MilvusPlace | PostgresPlace | None:
    """Read `--to` or `--index`: a server or file, or None for `local`; its libraries are there."""
    if re.match(r"postgres(ql)?(\+\w+)?://", to):
        check_installed("indexes in PostgreSQL", "serve", "psycopg", "sqlalchemy")
        return PostgresPlace.parse(to)
    uri = re.split("[?#]", to, maxsplit=1)[0]
    if uri.endswith(".db") or "://" in uri:
        place = MilvusPlace.parse(to)
        lite = ("milvus_lite",) if place.is_file else ()
        check_installed("Milvus indexes", "milvus", "pymilvus", *lite)
        return place
    if to != LOCAL:
        raise AnswerIndexError(
            f"{to}: no index; give `local` (in the ranker's folder), "
            "postgresql://USER@HOST/DATABASE, a file FILE.db of Milvus Lite, or a Milvus server "
            "http://HOST:PORT"
        )
    check_installed("local indexes", "index", "faiss")
    return None


def _hide_password(uri: str) -> str:
    return re.sub(r"(?<=://).*@", "", uri)


@runtime_checkable
class AnswerIndex(Protocol):
    """Vectors of passages, each of an answer that is known by its key.

    An answer's place is by its best passage alone, where a ranker's score is the soft maximum over
    all: that lies above by log(its passages) at most, so rankers score the answers of a search.
    """

    def add(self, keys: Keys, passages: Passages[np.ndarray]) -> None:
        """Add the vectors of answers that are not there."""

    def remove(self, keys: Keys) -> None:
        """Remove answers."""

    def search(
        self, queries: Float[np.ndarray, "n d"], k: int, keys: Keys | None = None
    ) -> list[list[int]]:
        """Find the k answers with the best passages for each query; fewer if there are fewer.

        With `keys` only those answers are looked at.
        """

    def counts(self, keys: Keys | None = None) -> dict[int, int]:
        """Return how many vectors each answer has, or each of some that are there."""

    def __len__(self) -> int:
        """Return the number of vectors."""

    def settle(self) -> None:
        """Wait until new vectors are on disk, and searched as well as they ever will be."""

    def publish(self) -> None:
        """Let rankers use it in place of the index that was there."""


def answer_keys(ids: Sequence[str], vectors: Passages[np.ndarray]) -> Int[np.ndarray, " m"]:
    """Return a hash of each answer's id and vectors: another one if either differs."""
    rows = np.ascontiguousarray(vectors.rows, np.float32)
    ends = np.searchsorted(vectors.owners, np.arange(vectors.answers + 1)).tolist()
    keys = []
    for i, id_ in enumerate(ids):
        digest = hashlib.sha256(id_.encode() + b"\n" + rows[ends[i] : ends[i + 1]].tobytes())
        keys.append(int.from_bytes(digest.digest()[:8]) >> 1)  # not negative
    return np.array(keys, np.int64)


def group_hits(
    search: Search,
    queries: Float[np.ndarray, "n d"],
    k: int,
    *,
    limit: int = sys.maxsize,
    allowed: Set[int] | None = None,
) -> list[list[int]]:
    """Find the k best answers for each of n queries from as many best vectors as that takes.

    `limit` is the most vectors that the search can give; if it is too low, that is an error. Only
    `allowed` answers count; of those there may be fewer in that many vectors.
    """
    results: list[list[int]] = [[]] * len(queries)
    short = list(range(len(queries)))
    depth = min(2 * k, limit)
    while short:
        all_hits = search(queries[short], depth)
        for i, hits in zip(short, all_hits, strict=True):
            counted = hits if allowed is None else filter(allowed.__contains__, hits)
            results[i] = list(dict.fromkeys(counted))[:k]
        pairs = zip(short, all_hits, strict=True)
        short = [i for i, hits in pairs if len(hits) == depth and len(results[i]) < k]
        if short and depth == limit and allowed is not None:
            break
        if short and depth == limit:
            raise AnswerIndexError(
                f"the index gives the best {limit:,} vectors, which belong to fewer than {k:,} "
                "answers; ask for fewer answers"
            )
        depth = min(2 * depth, limit)
    return results


def update_index(
    index: AnswerIndex,
    keys: Keys,
    vectors: Passages[np.ndarray],
    progress: str | None = None,
) -> tuple[int, int]:
    """Bring an index in line with a ranker's answers and their vectors, and settle it.

    Returns:
        How many answers were added and removed; one with other vectors counts as both.
    """
    expected = dict(zip(keys.tolist(), _count_passages(vectors), strict=True))
    present = index.counts()
    wrong = [key for key, count in present.items() if expected.get(key) != count]
    if wrong:
        index.remove(np.array(wrong))
    missing = np.flatnonzero([present.get(key) != count for key, count in expected.items()])
    step = max(1, VECTORS_A_BATCH * len(keys) // len(vectors.rows))
    with progress_bar(progress, len(missing), unit="answers") as advance:
        for start in range(0, len(missing), step):
            rows = missing[start : start + step]
            index.add(keys[rows], among(vectors, rows))
            advance(len(rows))
    index.settle()
    return len(missing), len(wrong)


def check_index(index: AnswerIndex, keys: Keys, vectors: Passages[np.ndarray]) -> None:
    """Check that an index holds as many vectors as a ranker, and some of its answers."""
    rows = np.unique(np.linspace(0, len(keys) - 1, SAMPLED_ANSWERS).astype(np.int64))
    counts = _count_passages(vectors)
    expected = {int(keys[row]): counts[row] for row in rows}
    if len(index) != len(vectors.rows) or index.counts(keys[rows]) != expected:
        raise AnswerIndexError(
            f"the index holds {len(index):,} vectors, which are not the {len(vectors.rows):,} of "
            "the ranker; bring it up to date: twinrank index RANKER --to PLACE"
        )


def _count_passages(vectors: Passages[np.ndarray]) -> list[int]:
    counts: list[int] = np.bincount(vectors.owners, minlength=vectors.answers).tolist()
    return counts


def top_k(scores: Float[np.ndarray, " m"], k: int) -> Int[np.ndarray, " k"]:
    """Return the rows of the k highest scores, highest first; of equal scores the first row."""
    k = min(k, len(scores))
    kth = np.partition(scores, -k)[-k]
    candidates = np.flatnonzero(scores >= kth)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]


@dataclass(frozen=True)
class Shortlist:
    """Finds each query's candidates: an index's best answers, and the best by all other signals.

    An answer is missed only if it is neither among the 200 nearest nor among the 200 that past
    queries, words and prior speak for most; its score is then below the last of both together.
    That is as exact as the index is, but for sections: the index goes by an answer's best one,
    and log(its sections) may lie between. Candidates are scored as without an index; the mass
    that confidence gives all others is left out.

    The index stays as it is when answers change: those that it lacks are always candidates, and
    those that the ranker lacks are passed over. Where a filter leaves so few answers that all could
    be candidates, all are; else the index looks at those alone that fit.

    Attributes:
        index: of the vectors of the ranker's answers.
        keys: of the ranker's answers (m) in the index; -1 of those that it lacks.
        stale: how many answers the index has that the ranker lacks.
    """

    index: AnswerIndex
    keys: Int[np.ndarray, " m"]
    stale: int = 0

    @classmethod
    def match(cls, index: AnswerIndex, keys: Keys) -> Shortlist:
        """Make one for answers with these keys, of which an index may hold some and others."""
        indexed = np.array(list(index.counts()), np.int64)
        known = np.isin(keys, indexed)
        return cls(index, np.where(known, keys, -1), len(indexed) - int(known.sum()))

    @property
    def serves(self) -> bool:
        """Whether so few answers changed that the index need not be made anew."""
        return bool((self.keys < 0).sum() + self.stale <= MAX_CHANGED_ANSWERS)

    @cached_property
    def _row_of(self) -> dict[int, int]:
        return {key: row for row, key in enumerate(self.keys.tolist()) if key >= 0}

    def find_rows(
        self,
        queries: Float[np.ndarray, "n d"],
        other_scores: Float[np.ndarray, "n m"] | None,
        k: int,
        fits: Bool[np.ndarray, " m"] | None = None,
    ) -> Iterator[Int[np.ndarray, " c"]]:
        """Yield the rows of each query's candidates, rising; k or more.

        `other_scores` is what all signals but the vectors give each answer; None without any.
        `fits` says which answers may be candidates; None: all.
        """
        depth, lacks = max(k, CANDIDATES), self.keys < 0
        if fits is None:
            lacking, results = np.flatnonzero(lacks), self.index.search(queries, depth + self.stale)
        elif fits.sum() <= depth:
            yield from [np.flatnonzero(fits)] * len(queries)
            return
        else:
            lacking = np.flatnonzero(lacks & fits)
            results = self.index.search(queries, depth, self.keys[fits & ~lacks])
            if other_scores is not None:
                other_scores = np.where(fits, other_scores, -np.inf)
        for i, hits in enumerate(results):
            near = [self._row_of[key] for key in hits if key in self._row_of]
            rows = np.union1d(lacking, np.array(near, np.int64))
            best = None if other_scores is None else top_k(other_scores[i], depth)
            yield rows if best is None else np.union1d(rows, best)

    def upsert(self, rows: Int[np.ndarray, " k"]) -> Shortlist:
        """Return the same where answers at some rows are new, or in place of others."""
        new = max(0, int(rows.max()) + 1 - len(self.keys))
        keys = np.append(self.keys, np.full(new, -1))
        stale = self.stale + int((keys[rows] >= 0).sum())
        keys[rows] = -1
        return replace(self, keys=keys, stale=stale)

    def select(self, mask: Bool[np.ndarray, " m"]) -> Shortlist:
        """Return the same without the answers whose entry is false."""
        stale = self.stale + int((self.keys[~mask] >= 0).sum())
        return replace(self, keys=self.keys[mask], stale=stale)
