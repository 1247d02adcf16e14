"""The labels divided into train, validation and test, by thread."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from twinrank.data.beir import SPLITS
from twinrank.data.dataset import Dataset
from twinrank.data.statistics import where_labels_come_from
from twinrank.errors import DataError, Fault, TwinrankError

log = logging.getLogger(__name__)


def split(
    dataset: Dataset, *, validation: float = 0.15, test: float = 0.15, seed: int = 0
) -> Dataset:
    """Divide a data set's labels anew, whatever their splits were.

    No thread falls in two splits. Every answer with a label keeps a thread in train; the rest
    of its threads are divided in the given shares as near as whole threads allow, and so are,
    among them, threads of different types. What a rare answer cannot give, common ones make up
    for, so that the shares hold over all threads. The order of rows does not matter.

    Args:
        dataset: any.
        validation: share of the labelled threads, 0 for no such split; `test` likewise.
        test: see there.
        seed: a different one gives a different division.

    Raises:
        TwinrankError: if the shares are not shares or leave nothing for train.
        DataError: if there is no label, or too few threads share an answer to make the splits
            asked for.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise TwinrankError(
            f"validation {validation:g} and test {test:g} leave nothing for train; "
            "give shares from 0 that add up to less than 1"
        )
    if dataset.labels.is_empty():
        mend = f"import it anew (--fresh) with some: {where_labels_come_from(dataset)}"
        raise DataError([Fault(Path(dataset.name), None, "the data set has no labels", mend)])
    queries = dataset.queries.select("id", "type", "thread")
    labelled = dataset.labels.join(queries, left_on="query", right_on="id", maintain_order="left")
    threads = _sort_threads(labelled, seed)
    leaving = round(threads.height * (validation + test))
    leaves = _sample(_leaving_shares(threads, leaving), seed)
    in_test = _sample(np.full(leaves.sum(), test / ((validation + test) or 1)), seed + 1)
    names = np.full(threads.height, SPLITS[0], dtype=object)
    names[leaves] = np.where(in_test, SPLITS[2], SPLITS[1])
    counts = {name: int((names == name).sum()) for name in SPLITS}
    _check_counts(dataset, counts, {"validation": validation, "test": test})
    of_thread = threads.select("thread", split=pl.Series(names, dtype=pl.String))
    labels = labelled.drop("split").join(of_thread, on="thread", maintain_order="left")
    columns = [pl.col(name).cast(kind) for name, kind in dataset.labels.schema.items()]
    return replace(dataset, labels=labels.select(columns), folder=None)


def _sort_threads(labelled: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Give every labelled thread under its rarest answer, the threads of an answer in a row.

    Columns are thread, answer, and `stays`: whether it is the one that an answer keeps in train.
    Answers come from rare to common, and by hash, never by name: so neighbours have nothing in
    common but their size.
    """
    threads = labelled.group_by("thread").agg(pl.col("type").unique().sort().str.join("\n"))
    answers = labelled.group_by("answer").agg(size=pl.col("thread").n_unique())
    pairs = labelled.select("thread", "answer").unique()
    pairs = pairs.join(threads.with_columns(draw=_hash(threads["thread"], seed)), on="thread")
    pairs = pairs.join(answers.with_columns(hash=_hash(answers["answer"], seed)), on="answer")
    first = pairs.sort("draw", "thread").unique("answer", keep="first", maintain_order=True)
    order = ["size", "hash", "answer", "type", "draw", "thread"]
    threads = pairs.sort(order).unique("thread", keep="first", maintain_order=True)
    stays = pl.col("thread").is_in(first["thread"].implode())
    return threads.select("thread", "answer", stays=stays)


def _leaving_shares(threads: pl.DataFrame, leaving: int) -> Float[np.ndarray, " n"]:
    """Give the chance of each thread to leave train: of `leaving` in all, evenly over answers.

    Each answer gives threads in proportion to its size, up to what it has to spare.
    """
    from scipy import optimize  # a tenth of a second, which ranking does not need

    groups = threads["answer"].rle_id().to_numpy()
    free = ~threads["stays"].to_numpy()
    sizes: Int[np.ndarray, " a"] = np.bincount(groups)
    spare = np.bincount(groups, weights=free).astype(np.float64)  # integers if there are none
    given = spare
    if leaving < spare.sum():

        def surplus(rate: float) -> float:
            return float(np.minimum(spare, rate * sizes).sum()) - leaving

        rate = optimize.brentq(surplus, 0.0, float((spare / sizes).max()), xtol=1e-15)
        given = np.minimum(spare, rate * sizes)
    share = np.divide(given, spare, out=np.zeros(len(spare)), where=spare > 0)
    return np.where(free, share[groups], 0.0)


def _sample(shares: Float[np.ndarray, " n"], seed: int) -> Bool[np.ndarray, " n"]:
    """Sample systematically: of any stretch of rows as many as its shares add up to, within one.

    W. G. Madow (1949), On the theory of systematic sampling, II.
    """
    start = np.random.default_rng(abs(seed)).random()
    sums = np.floor(np.cumsum(shares) + start)
    steps: Float[np.ndarray, " n"] = np.diff(sums, prepend=np.floor(start))
    return steps > 0


def _hash(ids: pl.Series, seed: int) -> pl.Series:
    """Give a number from 0 to 2^64 for each id: the same on every machine, in every version."""
    key = str(seed).encode()
    digests = (hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in ids)
    return pl.Series([int.from_bytes(digest, "big") for digest in digests], dtype=pl.UInt64)


def _check_counts(dataset: Dataset, counts: dict[str, int], shares: dict[str, float]) -> None:
    """Stop if a split got no thread, and warn if it got fewer than its share."""
    total = sum(counts.values())
    qrels = Path(dataset.name) / "qrels"
    why = "every answer keeps one of its threads in train"
    for name, share in shares.items():
        if share > 0 and not counts[name]:
            what = f"no thread is left for {name}: {total:,} are labelled, and {why}"
            raise DataError([Fault(qrels, None, what, "label more threads, or set the share to 0")])
        if counts[name] < math.floor(share * total):
            log.warning(
                "%s: %s got %s of %s labelled threads, less than %g of them, because %s",
                *(qrels, name, f"{counts[name]:,}", f"{total:,}", share, why),
            )
