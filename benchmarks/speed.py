"""Measure speed: encoding, training, a query end to end, the answer index, and the command line.

Where there is something people would use instead, both take turns in this process: a ratio is the
median of the turns' ratios, since both of a turn meet the same load of the machine.

    python benchmarks/speed.py [DATA] [--recipe even] [--turns 3] [--out FILE]
    python benchmarks/measurements.py BEFORE.json AFTER.json

To measure another version, put its `src` on PYTHONPATH.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from measurements import Run, time_call, time_calls
from twinrank import Dataset, Ranker, Recipe, train
from twinrank.encoding import Encoder, FeatureStore, resolve

ENCODED_TEXTS, TIMED_QUERIES = 300, 40
QUESTION = "it wont let me in again"


def main(
    data: Annotated[Path, typer.Argument()] = Path("examples/help-centre"),
    recipe: Annotated[str, typer.Option(help="That is trained.")] = "even",
    turns: Annotated[int, typer.Option(min=1, help="Of every measurement.")] = 3,
    out: Annotated[Path, typer.Option(help="Where the run is written.")] = Path(
        "runs/bench/speed.json"
    ),
) -> None:
    """Print and write every measurement."""
    dataset = Dataset.load(data)
    run = Run(" ".join(sys.argv))
    run.add("load a data set", "s", *time_calls(lambda: Dataset.load(data), turns))
    measure_encoding(run, dataset, turns)
    with tempfile.TemporaryDirectory() as folder:
        ranker = measure_training(run, dataset, Recipe.load(recipe), Path(folder), turns)
        measure_ranking(run, dataset, ranker, turns)
        measure_command_line(run, ranker, turns)
    run.save(out)


def measure_encoding(run: Run, dataset: Dataset, turns: int) -> None:
    """Encode texts of each type, beside `SentenceTransformer.encode` at its defaults."""
    from sentence_transformers import SentenceTransformer

    encoder = Encoder("all-MiniLM-L6-v2")
    peer = SentenceTransformer(str(resolve(encoder.name).folder), device=encoder.device)
    peer.max_seq_length = encoder.max_tokens
    queries = dataset.queries
    for kind in dataset.types:
        texts = queries.filter(pl.col("type") == kind)["text"]
        chosen = texts.sample(min(ENCODED_TEXTS, len(texts)), seed=0).to_list()
        encoder.encode(chosen)
        peer.encode(chosen)
        pairs = [
            (time_call(encoder.encode, chosen), time_call(peer.encode, chosen))
            for _ in range(turns)
        ]
        rates = [len(chosen) / seconds for seconds, _ in pairs]
        run.add(f"encode {kind}", "texts/s", *rates, lower_is_better=False)
        ratios = [other / seconds for seconds, other in pairs]
        run.add(
            f"encode {kind}, sentence-transformers", "times as long", *ratios, lower_is_better=False
        )


def measure_training(run: Run, dataset: Dataset, recipe: Recipe, folder: Path, turns: int) -> Path:
    """Train on stored features; the first call encodes them and does not count."""
    store = FeatureStore(folder / "features")
    epochs: list[float] = []

    def note(record: dict[str, Any]) -> None:
        if record["epoch"] > 1:
            epochs.append(record["seconds"])

    train(dataset, recipe, store=store)
    seconds = []
    for turn in range(turns):
        began = perf_counter()
        train(dataset, recipe, out=folder / f"{turn}", store=store, on_record=note)
        seconds.append(perf_counter() - began)
    run.add(f"train {recipe.name} on stored features", "s", *seconds)
    if epochs:
        run.add(f"an epoch of {recipe.name}", "ms", 1e3 * median(epochs))
    return folder / "0"


def measure_ranking(run: Run, dataset: Dataset, folder: Path, turns: int) -> None:
    """Rank one text at a time, and many together; then through an index."""
    run.add("load a ranker", "s", *time_calls(lambda: Ranker.load(folder), turns))
    ranker = Ranker.load(folder)
    texts = dataset.split("test").texts
    rows = np.linspace(0, len(texts) - 1, min(TIMED_QUERIES, len(texts))).astype(int)
    chosen = [texts[row] for row in rows]
    single = [
        1e3 * median(time_call(ranker.rank, text) for text in chosen) for _ in range(turns + 1)
    ]
    run.add("rank a query, from its text", "ms", *single[1:])
    together = time_calls(lambda: ranker.rank(texts[:256]), turns)
    rates = [min(256, len(texts)) / seconds for seconds in together]
    run.add("rank many together", "queries/s", *rates, lower_is_better=False)


def measure_command_line(run: Run, folder: Path, turns: int) -> None:
    """Start the command line: its help, and a ranking; measure its peak of memory."""
    command = [sys.executable, "-m", "twinrank.cli"]
    rank = [*command, "rank", str(folder), QUESTION]
    run.add("twinrank --help", "s", *time_calls(lambda: _call([*command, "--help"]), turns))
    run.add("twinrank rank", "s", *time_calls(lambda: _call(rank), turns))
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=-3, check=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    peak = subprocess.run(
        [sys.executable, "-c", code, *rank], capture_output=True, text=True, check=True
    )
    run.add("twinrank rank, peak of memory", "MB", int(peak.stdout) / 1024)


def _call(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=True)


if __name__ == "__main__":
    typer.run(main)
