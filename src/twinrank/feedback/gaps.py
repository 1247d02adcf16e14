"""Gaps: topics that people ask about and that are answered badly; an article may be missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, Field

from twinrank.arguments import GAP_BELOW
from twinrank.data import Dataset
from twinrank.data.conversations import USER
from twinrank.data.records import read_texts
from twinrank.data.texts import shorten
from twinrank.errors import DataError, Fault, RankerError
from twinrank.feedback.labels import ASKED_SCHEMA, Asked
from twinrank.feedback.verdicts import text_key
from twinrank.ranking import Filter, RankedAnswer, Ranker
from twinrank.ranking.bm25 import tokenise
from twinrank.ranking.towers import scale_to_unit

# Mean cosine distance of two groups, from which they are two topics; docs/measurements/quality.md.
TOPIC_DISTANCE = 0.5
MIN_BAD_QUERIES = 3  # of a topic
MAX_QUERIES = 10_000  # that are grouped: their distances take 400 MB
MAX_EXAMPLES, MAX_WORDS = 3, 4  # of a topic
TITLE_LENGTH, EXAMPLE_LENGTH = 60, 200  # characters
TREND_DAYS = 30


class Nearest(BaseModel):
    """The first answer to the most central query of a topic."""

    id: str
    title: str
    confidence: float | None = Field(description="Probability that it is right.")


class Topic(BaseModel):
    """Queries that are alike, of which several were answered badly."""

    title: str = Field(description="A draft: the most central bad query, shortened.")
    words: list[str] = Field(description="Those that tell it from other topics, at most four.")
    queries: int
    bad: int = Field(description="How many of them were answered badly.")
    recent: int | None = Field(description="Bad ones of the last 30 days; null without days.")
    before: int | None = Field(description="Bad ones of the 30 days before.")
    examples: list[str] = Field(description="Bad ones, shortened, at most three.")
    nearest: Nearest | None


class Gaps(BaseModel):
    """Topics in which an article may be missing, the likeliest first."""

    queries: int
    bad: int = Field(description="Queries answered badly: judged wrong, or else unlikely right.")
    single: int = Field(description="Bad ones in no topic: fewer than three are alike.")
    left_out: int = Field(description="Older queries, beyond the number that is looked at.")
    total: int = Field(description="Topics there are.")
    topics: list[Topic]


def read_queries(path: Path) -> Asked:
    """Read the queries of a data set that have no label, or the texts of a JSONL file.

    Raises:
        DataError: if they cannot be read, or there are none.
    """
    if path.is_dir():
        dataset = Dataset.load(path)
        labelled = pl.col("id").is_in(dataset.labels["query"].implode())
        texts = dataset.queries.filter(~labelled)["text"].to_list()
    else:
        texts = read_texts(path)
    if not texts:
        what, mend = "every query has a label", "give some without, or a JSONL file of texts"
        raise DataError([Fault(path, None, what, mend)])
    return pl.DataFrame({"text": texts, "right": None, "day": None}, ASKED_SCHEMA)


@dataclass(frozen=True)
class GroupedQueries:
    """Queries (n), their first answers, unit features, which are bad, and the rows of each topic.

    A topic has three bad queries or more; the likeliest gap comes first.
    """

    asked: Asked
    first: Sequence[RankedAnswer | None]
    points: Float[np.ndarray, "n d"]
    bad: Bool[np.ndarray, " n"]
    topics: Sequence[Int[np.ndarray, " m"]]


def find_gaps(
    ranker: Ranker,
    asked: Asked,
    k: int = 10,
    *,
    below: float = GAP_BELOW,
    where: Filter | None = None,
    most: int = MAX_QUERIES,
) -> Gaps:
    """Group queries by topic, and describe the k topics that are the likeliest gaps.

    Args:
        ranker: with an encoder.
        asked: a row a query, the oldest first; of several with one text the last counts.
        k: how many topics.
        below: confidence of a first answer; see `group_queries`.
        where: rank these answers alone.
        most: how many queries, the newest.

    Raises:
        RankerError: if the ranker has no encoder, or knows no confidence and a query needs it.
    """
    keys = pl.Series("key", [text_key(text) for text in asked["text"]], dtype=pl.String)
    asked = asked.with_columns(keys).unique("key", keep="last", maintain_order=True)
    grouped = group_queries(ranker, asked.tail(most), below=below, where=where)
    bad, topics = grouped.bad, grouped.topics
    words = _find_words(grouped, ranker.recipe.language)
    pairs = zip(topics[:k], words[:k], strict=True)
    return Gaps(
        queries=len(bad),
        bad=bad.sum(),
        single=bad.sum() - sum(bad[rows].sum() for rows in topics),
        left_out=asked.height - len(bad),
        total=len(topics),
        topics=[_describe_topic(grouped, rows, of_topic) for rows, of_topic in pairs],
    )


def group_queries(
    ranker: Ranker, asked: Asked, *, below: float = GAP_BELOW, where: Filter | None = None
) -> GroupedQueries:
    """Group queries by the cosines of their features, by average linkage.

    A query was answered badly if people judged it, and no answer was right; or if nobody judged
    it, and its first answer is less likely right than `below`. A topic's place is by the sum over
    its queries of two standard scores: of whether it was answered badly, and of how low its first
    answer scores.
    """
    if ranker.dense is None:
        mend = "train one with an encoder, such as the recipe `even`"
        raise RankerError(f"this ranker goes by words alone, and groups no queries; {mend}")
    if asked["right"].has_nulls():
        ranker.check_min_confidence(below)
    texts = asked["text"].to_list()
    ranker.prepare(texts)
    first = [next(iter(ranking), None) for ranking in ranker.rank(texts, 1, where=where)]
    is_bad = [
        not right if right is not None else not answer or (answer.confidence or 0.0) < below
        for right, answer in zip(asked["right"], first, strict=True)
    ]
    bad, points = np.array(is_bad, bool), scale_to_unit(ranker.dense.reader(texts))
    topics: list[Int[np.ndarray, " m"]] = []
    if len(texts) >= MIN_BAD_QUERIES:
        low = -np.array([answer.score if answer else 0.0 for answer in first])
        worth = _standardise(bad.astype(np.float64)) + _standardise(low)
        topics = [rows for rows in _cluster(points) if bad[rows].sum() >= MIN_BAD_QUERIES]
        topics.sort(key=lambda rows: -worth[rows].sum())
    return GroupedQueries(asked, first, points, bad, topics)


def _standardise(values: np.ndarray) -> Float[np.ndarray, " n"]:
    """Return standard scores; zero where all values are equal."""
    spread = values.std() if np.ptp(values) else 1.0
    return np.asarray((values - values.mean()) / spread)


def _cluster(points: Float[np.ndarray, "n d"]) -> list[Int[np.ndarray, " m"]]:
    """Return the rows of each cluster of unit vectors."""
    from sklearn.cluster import AgglomerativeClustering  # slow, and nothing else asks

    clustering = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=TOPIC_DISTANCE
    )
    cluster = clustering.fit_predict(points)
    return np.split(np.argsort(cluster, kind="stable"), np.bincount(cluster).cumsum()[:-1])


def _find_words(grouped: GroupedQueries, language: str) -> list[list[str]]:
    """Return the words that tell each topic from the rest, as they stand there, in lower case.

    By class TF-IDF (Grootendorst 2022, arXiv 2203.05794), of the number of texts with a word.
    """
    if not grouped.topics:
        return []
    texts = grouped.asked["text"].to_list()
    stems, surfaces = (tokenise(texts, language, stem=stem) for stem in (True, False))
    everywhere = Counter(chain.from_iterable(map(set, stems)))
    average = everywhere.total() / len(grouped.topics)
    named = []
    for rows in grouped.topics:
        counts = Counter(chain.from_iterable(set(stems[row]) for row in rows))
        worth = {
            stem: -count * math.log1p(average / everywhere[stem])
            for stem, count in counts.items()
            if count > 1 and not stem.isdecimal()
        }
        best = sorted(worth, key=lambda stem: (worth[stem], stem))[:MAX_WORDS]
        pairs = (zip(stems[row], surfaces[row], strict=True) for row in rows)
        written = dict(chain.from_iterable(pairs))
        named.append([written[stem] for stem in best])
    return named


def _describe_topic(
    grouped: GroupedQueries, rows: Int[np.ndarray, " m"], words: list[str]
) -> Topic:
    asked, points, bad = grouped.asked, grouped.points, rows[grouped.bad[rows]]
    central = bad[np.argsort(-(points[bad] @ points[bad].sum(axis=0)), kind="stable")]
    texts = asked["text"].gather(central).to_list()
    answer = grouped.first[central[0]]
    recent = before = None
    if (newest := asked["day"].max()) is not None:
        age = asked[bad].select(days=(pl.lit(newest) - pl.col("day")).dt.total_days())["days"]
        recent, before = (age // TREND_DAYS == 0).sum(), (age // TREND_DAYS == 1).sum()
    return Topic(
        title=shorten(texts[0].removeprefix(f"{USER}: "), TITLE_LENGTH),
        words=words,
        queries=len(rows),
        bad=len(bad),
        recent=recent,
        before=before,
        examples=[shorten(text, EXAMPLE_LENGTH) for text in texts[:MAX_EXAMPLES]],
        nearest=answer and Nearest(id=answer.id, title=answer.title, confidence=answer.confidence),
    )
