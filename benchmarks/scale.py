"""Measure what grows with the number of answers: loading, training, ranking, an index, memory.

Answers beyond those of the data set are made of its own sentences, drawn at random with their
article's length; their labels are those of the data set alone. Everything runs in one process a
size. Run it as

    python benchmarks/scale.py DATA [--answers 1000,10000] [--recipe even] [--index local]
    python benchmarks/scale.py DATA --answers '' --race 100000    # FAISS's graph beside usearch's
"""

from __future__ import annotations

import json
import random
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer

from measurements import Run, time_call
from twinrank import Dataset, Ranker, train
from twinrank.encoding import FeatureStore
from twinrank.ranking.faiss_index import BUILD_BREADTH, LINKS, SEARCH_BREADTH

TIMED_QUERIES = 50
DIM, RACE_QUERIES = 384, 500  # of the race of engines


def main(
    data: Path,
    answers: Annotated[str, typer.Option(help="Numbers of answers.")] = "1000,10000",
    recipe: Annotated[str, typer.Option(help="That is trained.")] = "even",
    index: Annotated[str, typer.Option(help="Searched beside the whole scoring.")] = "local",
    race: Annotated[int, typer.Option(help="Vectors that FAISS and usearch search.")] = 0,
    one: Annotated[int, typer.Option(hidden=True)] = 0,
    out: Annotated[Path, typer.Option(help="Where the run is written.")] = Path(
        "runs/bench/scale.json"
    ),
) -> None:
    """Print and write every measurement."""
    if one:
        print(json.dumps(measure_size(Dataset.load(data), one, recipe, index)))
        return
    run = Run(" ".join(sys.argv))
    for name, (unit, value) in (race_engines(race) if race else {}).items():
        run.add(f"{race:,} vectors: {name}", unit, value)
    for count in map(int, filter(None, answers.split(","))):
        command = [sys.executable, __file__, str(data), "--recipe", recipe, "--index", index]
        done = subprocess.run(
            [*command, "--one", str(count)], stdout=subprocess.PIPE, text=True, check=True
        )
        for name, (unit, value) in json.loads(done.stdout.splitlines()[-1]).items():
            run.add(f"{count:,} answers: {name}", unit, value)
    run.save(out)


def measure_size(
    dataset: Dataset, count: int, recipe: str, index: str
) -> dict[str, tuple[str, float]]:
    """Measure one size, in this process."""
    figures: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as home:
        folder, run = Path(home) / "data", Path(home) / "run"
        grow(dataset, count, folder)
        began = perf_counter()
        large = Dataset.load(folder)
        figures["load the data set"] = ("s", perf_counter() - began)
        epochs: list[float] = []
        store = FeatureStore(Path(home) / "features")
        began = perf_counter()
        train(large, recipe, out=run, store=store, on_record=lambda r: epochs.append(r["seconds"]))
        figures["train, with encoding"] = ("s", perf_counter() - began)
        if len(epochs) > 2:
            figures["an epoch"] = ("s", median(epochs[2:]))
        began = perf_counter()
        ranker = Ranker.load(run)
        figures["load the ranker"] = ("s", perf_counter() - began)
        texts = large.split("test").texts[:TIMED_QUERIES]
        figures["rank a query, all answers"] = ("ms", _query_ms(ranker, texts))
        began = perf_counter()
        command = [sys.executable, "-m", "twinrank.cli", "index", str(run), "--to", index]
        subprocess.run(command, check=True, capture_output=True)
        figures["build the index"] = ("s", perf_counter() - began)
        ranker = Ranker.load(run, index=index)
        figures["rank a query, by the index"] = ("ms", _query_ms(ranker, texts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["peak of memory"] = ("MB", peak)
    return figures


def race_engines(count: int) -> dict[str, tuple[str, float]]:
    """Measure FAISS's graph beside usearch's: same breadths, one thread, in time of the CPU."""
    import faiss
    from usearch.index import Index

    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    themes = rng.standard_normal((1 + count // 20, DIM), np.float32)
    vectors, queries = (
        themes[rng.integers(len(themes), size=n)] + rng.standard_normal((n, DIM), np.float32)
        for n in (count, RACE_QUERIES)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(queries @ vectors.T))[:, :10]
    graph = faiss.IndexHNSWFlat(DIM, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = BUILD_BREADTH, SEARCH_BREADTH
    other = Index(
        ndim=DIM,
        metric="ip",
        dtype="f32",
        connectivity=LINKS,
        expansion_add=BUILD_BREADTH,
        expansion_search=SEARCH_BREADTH,
    )
    engines: dict[str, tuple[Any, Any, Any]] = {
        "FAISS": (
            graph.add,
            lambda q: graph.search(q[None], 10)[1][0],
            lambda file: faiss.write_index(graph, file),
        ),
        "usearch": (
            lambda rows: other.add(np.arange(len(rows)), rows, threads=1),
            lambda q: other.search(q, 10, threads=1).keys,
            other.save,
        ),
    }
    figures: dict[str, tuple[str, float]] = {}
    for name, (add, search, write) in engines.items():
        began = process_time()
        add(vectors)
        figures[f"{name}, build"] = ("s", process_time() - began)
        times, hits = [], 0
        for query, expected in zip(queries, nearest, strict=True):
            began = process_time()
            results = search(query)
            times.append(1e3 * (process_time() - began))
            hits += len(np.intersect1d(results, expected))
        for percent in (50, 99):
            figures[f"{name}, search, p{percent}"] = ("ms", float(np.percentile(times, percent)))
        figures[f"{name}, recall@10"] = ("", hits / nearest.size)
        with tempfile.TemporaryDirectory() as home:
            write(f"{home}/index")
            figures[f"{name}, file"] = ("MB", (Path(home) / "index").stat().st_size / 1e6)
    return figures


def grow(dataset: Dataset, count: int, folder: Path) -> None:
    """Write the data set with more answers, made of its own sentences."""
    dataset.save(folder)
    rng = random.Random(0)  # noqa: S311 (nothing is secret)
    texts = dataset.answers["text"].to_list()
    sentences = [s for text in texts for s in re.split(r"(?<=[.!?])\s+", text) if len(s) > 20]
    lengths = [max(1, text.count(". ")) for text in texts]
    rows = [
        {
            "_id": f"made-{number}",
            "title": rng.choice(sentences)[:80],
            "text": " ".join(rng.choices(sentences, k=rng.choice(lengths))),
        }
        for number in range(count - dataset.answers.height)
    ]
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as corpus:
        corpus.write(pl.DataFrame(rows).write_ndjson() if rows else "")


def _query_ms(ranker: Ranker, texts: list[str]) -> float:
    ranker.rank(texts[:2])
    return 1e3 * median(time_call(ranker.rank, text) for text in texts)


if __name__ == "__main__":
    typer.run(main)
