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
from scipy import optimize

from twinrank.data.dataset import Dataset
from twinrank.data.files import SPLITS
from twinrank.errors import DataError, Fault, TwinrankError
from twinrank.progress import progress_bar

log = logging.getLogger(__name__)

DRAWN_AT_ONCE = 50_000


def split(
    dataset: Dataset, *, validation: float = 0.15, test: float = 0.15, seed: int = 0
) -> Dataset:
    """Divide a data set's labels anew, whatever their splits were.

    No thread falls in two splits. Every answer with a label keeps a thread in train; the others
    of its threads are divided in the given shares as near as whole threads allow, and so are,
    among them, threads of different types. What a rare answer cannot give, others make up for, so
    that the shares hold over all threads. The outcome depends on the labels, the threads and the
    seed alone, not on the order of rows.

    Args:
        dataset: what to divide; not changed.
        validation: share of the labelled threads, 0 for no such split.
        test: likewise.
        seed: a different one gives a different division.

    Raises:
        TwinrankError: if the shares are not shares or leave nothing for train.
        DataError: if too few threads share an answer to make the splits asked for.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise TwinrankError(
            f"validation {validation:g} and test {test:g} leave nothing for train; "
            "give shares from 0 that add up to less than 1"
        )
    queries = dataset.queries.select("id", "type", "thread").collect()
    labelled = dataset.labels.join(queries, left_on="query", right_on="id", maintain_order="left")
    threads = _threads(labelled, seed)
    wanted = round(threads.height * (validation + test))
    held = _held_out(threads, wanted, _start(seed))
    in_test = _every(np.full(held.sum(), test / ((validation + test) or 1)), _start(seed + 1))
    names = np.full(threads.height, SPLITS[0], dtype=object)
    names[held] = np.where(in_test, SPLITS[2], SPLITS[1])
    counts = {name: int((names == name).sum()) for name in SPLITS}
    _say_shortage(dataset, counts, {"validation": validation, "test": test})
    of_thread = threads.select("thread", split=pl.Series(names, dtype=pl.String))
    labels = labelled.drop("split").join(of_thread, on="thread", maintain_order="left")
    columns = [pl.col(name).cast(kind) for name, kind in dataset.labels.schema.items()]
    return replace(dataset, labels=labels.select(columns))


def _threads(labelled: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Every labelled thread under its rarest answer, the threads of an answer side by side.

    Gives thread, answer, and `kept`: whether it is the one that an answer keeps in train.
    Answers come from rare to common, and by hash, never by name: so neighbours have nothing in
    common but their size.
    """
    threads = labelled.group_by("thread").agg(pl.col("type").unique().sort().str.join("\n"))
    answers = labelled.group_by("answer").agg(size=pl.col("thread").n_unique())
    pairs = labelled.select("thread", "answer").unique()
    pairs = pairs.join(threads.with_columns(draw=_draws(threads["thread"], seed)), on="thread")
    pairs = pairs.join(answers.with_columns(place=_draws(answers["answer"], seed)), on="answer")
    kept = pairs.sort("draw", "thread").unique("answer", keep="first", maintain_order=True)
    order = ["size", "place", "answer", "type", "draw", "thread"]
    threads = pairs.sort(order).unique("thread", keep="first", maintain_order=True)
    return threads.select("thread", "answer", kept=pl.col("thread").is_in(kept["thread"].implode()))


def _held_out(threads: pl.DataFrame, wanted: int, start: float) -> np.ndarray:
    """Which threads leave train: `wanted` of them if as many are free, evenly over answers."""
    groups = threads["answer"].rle_id().to_numpy()
    free = ~threads["kept"].to_numpy()
    sizes = np.bincount(groups)
    spare = np.bincount(groups, weights=free).astype(np.float64)  # integers if there are none
    share = np.divide(_fill(sizes, spare, wanted), spare, out=np.zeros(len(spare)), where=spare > 0)
    return _every(np.where(free, share[groups], 0.0), start)


def _fill(sizes: Int[np.ndarray, " a"], spare: Float[np.ndarray, " a"], wanted: int) -> np.ndarray:
    """How many threads each answer gives: in proportion to its size, up to what it has to spare."""
    if wanted >= spare.sum():
        return spare

    def surplus(rate: float) -> float:
        return float(np.minimum(spare, rate * sizes).sum()) - wanted

    rate = optimize.brentq(surplus, 0.0, float((spare / sizes).max()), xtol=1e-15)
    given: np.ndarray = np.minimum(spare, rate * sizes)
    return given


def _every(shares: Float[np.ndarray, " n"], start: float) -> Bool[np.ndarray, " n"]:
    """Systematic sampling: of any stretch of rows as many as its shares add up to, within one.

    W. G. Madow (1949), On the theory of systematic sampling, II.
    """
    reached = np.floor(np.cumsum(shares) + start)
    steps: Float[np.ndarray, " n"] = np.diff(reached, prepend=np.floor(start))
    return steps > 0


def _draws(ids: pl.Series, seed: int) -> pl.Series:
    """A number from 0 to 2^64 for each id: the same on every machine, in every version."""
    key = str(seed).encode()
    drawn: list[int] = []
    with progress_bar("drawing", ids.len(), unit="ids") as advance:
        for start in range(0, ids.len(), DRAWN_AT_ONCE):
            for name in ids[start : start + DRAWN_AT_ONCE]:
                digest = hashlib.blake2b(name.encode(), digest_size=8, key=key).digest()
                drawn.append(int.from_bytes(digest, "big"))
            advance(len(drawn) - start)
    return pl.Series(drawn, dtype=pl.UInt64)


def _start(seed: int) -> float:
    """Where systematic sampling starts: from 0 to 1."""
    return float(np.random.default_rng(abs(seed)).random())


def _say_shortage(dataset: Dataset, counts: dict[str, int], shares: dict[str, float]) -> None:
    """Stop if a split got no thread, and warn if it got fewer than its share."""
    total = sum(counts.values())
    qrels = Path(dataset.name) / "qrels"
    why = "every answer keeps one of its threads in train"
    empty = [name for name, share in shares.items() if share > 0 and not counts[name]]
    if empty:
        what = f"no thread is left for {' and '.join(empty)}: {total:,} are labelled, and {why}"
        raise DataError([Fault(qrels, None, what, "label more threads, or set the share to 0")])
    for name, share in shares.items():
        if counts[name] < math.floor(share * total):
            log.warning(
                "%s: %s got %s of %s labelled threads, less than %g of them, because %s",
                *(qrels, name, f"{counts[name]:,}", f"{total:,}", share, why),
            )
