"""One system with one seed, made ready and measured: what is kept of it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from peers.files import write_whole
from peers.task import Ready, Task, reach
from twinrank.data import Queries
from twinrank.evaluation import measure
from twinrank.ranking import top_k

SHOWN = 10  # answers that a timed ranking gives
TIMED, WARM_UP = 50, 5  # queries
LIBRARIES = ("bm25s", "scikit-learn", "sentence-transformers", "setfit", "torch", "transformers")


@dataclass(frozen=True)
class Result:
    """What one system reached with one seed.

    Attributes:
        seed: with which.
        training_s: seconds from texts to a system that ranks: encoding, training, validation.
        query_ms: median milliseconds from one text to its best answers.
        validation: MAP@10 on the validation split.
        chosen: what was picked there.
        versions: of the libraries.
        rows: every metric of every test query, as `twinrank.evaluation.measure` gives them.
    """

    seed: int
    training_s: float
    query_ms: float
    validation: float
    chosen: dict[str, Any]
    versions: dict[str, str]
    rows: pl.DataFrame

    def save(self, file: Path) -> None:
        """Write it whole or not at all."""
        values = asdict(replace(self, rows=pl.DataFrame()))
        values["rows"] = self.rows.to_dict(as_series=False)
        write_whole(file, json.dumps(values) + "\n")

    @classmethod
    def load(cls, file: Path) -> Result:
        """Read what `save` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{**values, "rows": pl.DataFrame(values["rows"])})


def carried_out(prepare: Callable[[Task], Ready], task: Task, test: Queries) -> Result:
    """Make a system ready, measure it on test, time its queries."""
    began = time.perf_counter()
    ready = prepare(task)
    seconds = time.perf_counter() - began + ready.earlier_s
    # After the clock has stopped, because it may encode again, only to see how long that takes.
    seconds += task.store.elsewhere_s()
    return Result(
        seed=task.seed,
        training_s=seconds,
        query_ms=_query_ms(ready, test.texts),
        validation=reach(lambda part: ready.score(task.validation.texts[part]), task.validation),
        chosen=ready.chosen,
        versions={d.name: d.version for d in distributions() if d.name in LIBRARIES},
        rows=measure(lambda part: ready.score(test.texts[part]), test),
    )


def _query_ms(ready: Ready, texts: list[str]) -> float:
    """The median of single calls, after a warm-up, on queries from all over the split."""

    def best(text: str) -> object:
        return top_k(ready.score([text])[0], SHOWN)

    rank = ready.rank or best
    places = np.linspace(0, len(texts) - 1, min(TIMED, len(texts))).round().astype(int)
    for place in places[:WARM_UP]:
        rank(texts[place])
    times = []
    for place in places:
        began = time.perf_counter()
        rank(texts[place])
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)
