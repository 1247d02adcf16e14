"""How much memory and time a large data set takes: load, one split, fingerprint.

Writes a synthetic data set to a temporary folder (texts of about 300 characters, two queries a
thread, every query labelled, 70/15/15 by thread) and measures in a fresh process:
  * seconds of each step;
  * anonymous memory, the peak while the step runs: what must fit into the machine (Linux only);
  * resident memory, the highest so far: that and pages of the files, which the system takes
    back when it needs them.

Needs about 450 bytes of disk a query. Run it as

    python benchmarks/data_scale.py --queries 1000000 [--answers 10000] [--out FILE]
"""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from twinrank.data import Dataset

STATUS = Path("/proc/self/status")
BATCH = 100_000
TEXTS, WORDS, CHARACTERS = 10_000, 5_000, 300
SAMPLE_EVERY_S = 0.01


def main(
    queries: Annotated[int, typer.Option(min=20, help="How many queries to write.")] = 1_000_000,
    answers: Annotated[int, typer.Option(min=1, help="How many answers.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print seconds and memory of each step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, queries, answers)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        # A process of its own, so that the memory of writing does not count.
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            steps = pool.submit(_measure, folder).result()
    figures = {"queries": queries, "answers": answers, "disk_mb": size / 1e6, "steps": steps}
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)


def _write(folder: Path, queries: int, answers: int) -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 11))) for _ in range(WORDS)]
    chosen = rng.choice(words, (TEXTS, CHARACTERS // 7))
    texts = np.array([" ".join(row) for row in chosen])
    numbers = pl.DataFrame({"i": np.arange(answers)})
    numbers.select(
        _id=pl.format("answer-{}", "i"),
        title=pl.format("Title {}", "i"),
        text=pl.Series(texts[np.arange(answers) % TEXTS]),
    ).write_ndjson(folder / "corpus.jsonl")
    (folder / "qrels").mkdir()
    splits = ("train", "validation", "test")
    qrels = {name: (folder / "qrels" / f"{name}.tsv").open("wb") for name in splits}
    with (folder / "queries.jsonl").open("wb") as file:
        for stream in qrels.values():
            stream.write(b"query-id\tcorpus-id\tscore\n")
        for start in range(0, queries, BATCH):
            i = np.arange(start, min(start + BATCH, queries))
            thread = i // 2
            rows = pl.DataFrame(
                {"i": i, "thread": thread, "body": texts[rng.integers(0, TEXTS, len(i))]}
            ).with_columns(
                id=pl.format("query-{}", "i"),
                type=pl.when(pl.col("i") % 2 == 0)
                .then(pl.lit("question"))
                .otherwise(pl.lit("conversation")),
                answer=pl.format("answer-{}", pl.Series(rng.integers(0, answers, len(i)))),
            )
            rows.select(
                _id="id",
                text=pl.format("{} {}", "i", "body"),
                metadata=pl.struct("type", thread=pl.format("thread-{}", "thread")),
            ).write_ndjson(file)
            place = thread % 20
            for name, low, high in (("train", 0, 14), ("validation", 14, 17), ("test", 17, 20)):
                part = rows.filter(pl.Series((place >= low) & (place < high)))
                part.select("id", "answer", score=pl.lit(1)).write_csv(
                    qrels[name], separator="\t", include_header=False
                )
    for stream in qrels.values():
        stream.close()


def _measure(folder: Path) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []

    def step(name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401
        with Anonymous() as memory:
            began = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - began
        steps.append(
            {
                "step": name,
                "seconds": seconds,
                "anonymous_mb": memory.peak,
                "resident_mb": _highest(),
            }
        )
        return result

    step("import", lambda: None)
    dataset: Dataset = step("load", lambda: Dataset.load(folder))
    test = step("split test", lambda: dataset.split("test"))
    steps[-1]["rows"] = len(test)
    step("fingerprint", lambda: dataset.fingerprint)
    return steps


class Anonymous:
    """The peak of anonymous memory in MB while it is entered; None where it cannot be told."""

    def __init__(self) -> None:
        self.peak: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Anonymous:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while (held := anonymous_mb()) is not None:
            self.peak = max(self.peak or 0, held)
            if self._over.wait(SAMPLE_EVERY_S):
                return


def anonymous_mb() -> float | None:
    """What this process holds now that is no file's, in MB; None where it cannot be told."""
    found = STATUS.exists() and re.search(r"RssAnon:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) / 1e3 if found else None


def _highest() -> float:
    """MB. The rusage figure is a last resort: on Linux it counts the parent's before the exec."""
    if STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())):
        return int(found[1]) / 1e3
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _show(figures: dict[str, Any]) -> None:
    table = Table(
        title=f"{figures['queries']:,} queries, {figures['answers']:,} answers, "
        f"{figures['disk_mb']:,.0f} MB on disk"
    )
    table.add_column("step")
    for name in ("seconds", "anonymous, peak MB", "resident, highest MB"):
        table.add_column(name, justify="right")
    for step in figures["steps"]:
        anonymous = step["anonymous_mb"]
        table.add_row(
            step["step"],
            f"{step['seconds']:.1f}",
            "-" if anonymous is None else f"{anonymous:,.0f}",
            f"{step['resident_mb']:,.0f}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
