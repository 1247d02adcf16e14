"""Texts that are nearly the same: queries of different threads, and answers."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from twinrank.exploration.near import nearest
from twinrank.exploration.sample import Sample

# At this cosine of mean-pooled features two texts are taken for one. On mozilla-support, pairs
# of queries from .9 on differ by a word or less, and nearer ones agree no better in their labels
# (46 to 54 %); pairs of articles are old and new versions of one, or one for each device.
NEAR = 0.9
TWINS = 10  # at most as many are looked at for each text


def query_twins(sample: Sample) -> pl.DataFrame:
    """Pairs of queries of different threads that are nearly the same, the nearest first.

    Of more than ten twins of a query the nearest count.

    Returns:
        one and other (rows, one < other), cosine, labelled (both are), agree (they share a right
        answer).
    """
    thread = sample.codes("thread")
    pairs = _pairs(*nearest(sample.points, sample.points, TWINS, apart=(thread, thread)))
    left, right = (sample.labels[pairs[side].to_numpy()] for side in ("one", "other"))
    shared = np.asarray(left.multiply(right).sum(axis=1)).ravel() > 0
    known = sample.labelled
    both = known[pairs["one"].to_numpy()] & known[pairs["other"].to_numpy()]
    return pairs.with_columns(labelled=pl.Series(both), agree=pl.Series(shared))


def answer_twins(sample: Sample) -> pl.DataFrame:
    """Pairs of answers that are nearly the same to the encoder, the nearest first.

    Returns:
        one and other (columns, one < other), cosine, and words: the share of their words that
        both have (Jaccard), of the whole texts: the encoder may have read less.
    """
    own = np.arange(len(sample.answer_points))
    pairs = _pairs(*nearest(sample.answer_points, sample.answer_points, TWINS, apart=(own, own)))
    title, text = sample.answers["title"], sample.answers["text"]

    def words(row: int) -> set[str]:
        return set(re.findall(r"\w+", f"{title[row]} {text[row]}".lower()))

    shares = []
    for one, other in pairs.select("one", "other").iter_rows():
        a, b = words(one), words(other)
        shares.append(len(a & b) / max(len(a | b), 1))
    return pairs.with_columns(words=pl.Series(shares, dtype=pl.Float64))


def overlap(sample: Sample, twins: pl.DataFrame) -> dict[str, dict[str, int]]:
    """How many queries of each split have a near twin in train, and how many of those agree.

    Returns:
        for validation and test, if they have queries here: queries, twins (queries with one) and
        agree (queries with one that has a right answer of theirs).
    """
    split = sample.frame["split"]
    names = pl.Series(split).fill_null("")
    both = pl.concat(
        [
            twins.select(row=pl.col(a), twin=pl.col(b), agree="agree")
            for a, b in (("one", "other"), ("other", "one"))
        ]
    )
    both = both.filter(names.gather(both["twin"]) == "train")
    both = both.with_columns(split=names.gather(both["row"]))
    counts = {}
    for name in ("validation", "test"):
        if queries := int((names == name).sum()):
            own = both.filter(pl.col("split") == name)
            agreed = own.filter("agree")["row"].n_unique()
            counts[name] = {"queries": queries, "twins": own["row"].n_unique(), "agree": agreed}
    return counts


def _pairs(found: np.ndarray, cosines: np.ndarray) -> pl.DataFrame:
    """Each pair at or above `NEAR` once."""
    row, place = np.nonzero(cosines >= NEAR)
    column = found[row, place]
    table = pl.DataFrame(
        {
            "one": np.minimum(row, column).astype(np.int64),
            "other": np.maximum(row, column).astype(np.int64),
            "cosine": np.minimum(cosines[row, place], 1).astype(np.float64),
        }
    )
    once = table.unique(["one", "other"], keep="first", maintain_order=True)
    return once.sort("cosine", descending=True, maintain_order=True)
