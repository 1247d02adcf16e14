"""The constants of `twinrank plan`: what each part of the work costs a core of this machine.

Every part is carried out at some small sizes, in a process of its own with one thread. Its cost in
processor time (the machine may be busy) is split over what it grows with, by non-negative least
squares of relative errors. Texts are those of DATA and of copies of it; vectors are random, since
no time depends on their values. That the constants hold elsewhere is for planned.py to show, on
other data and at other sizes. Run it as

    python benchmarks/plan_constants.py examples/help-centre --out FILE
"""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import polars as pl
import torch
import typer
from scipy import sparse
from scipy.optimize import nnls

from index import DIM, apart, building, draw, searching
from memory import Anonymous, anonymous_mb
from twinrank.data import Dataset, section_texts
from twinrank.encoding import Encoder, FeatureStore, Store
from twinrank.encoding.hardware import cpu_name
from twinrank.experiments.runs import encode
from twinrank.planning import Measured, Shape, Workload, workload_of
from twinrank.planning.encoding import encode_bytes
from twinrank.planning.indexing import FEW
from twinrank.planning.scoring import scored_seconds, word_tokens
from twinrank.planning.training import Index, held_of, step_of
from twinrank.ranking import (
    INITIAL_WEIGHTS,
    Bm25,
    Confidence,
    DenseSignal,
    Origin,
    Passages,
    PastQueries,
    PastSignal,
    QueryBatch,
    Ranker,
    Reader,
    Scoring,
    Signal,
    past_signals,
)
from twinrank.recipe import Recipe
from twinrank.training import Examples, fit_towers
from twinrank.training.fusing import confidence_of, fused
from twinrank.training.material import Material
from twinrank.training.tower_modules import freeze, towers_of

Figures = dict[str, Any]
MARK = "\N{NUMERO SIGN}"  # not in Latin-1
SAMPLE = 300  # texts of a kind that are encoded
SCORED = 1_000  # queries whose scores are held at once
AT_ONCE = 32  # queries that a service ranks at once
# Answers, passages, queries, queries a step, index: apart enough to tell their costs apart.
STEPS: tuple[tuple[int, int, int, int, Index], ...] = (
    (700, 4_000, 2_000, 128, "exact"),
    (700, 4_000, 400, 128, "exact"),
    (200, 1_000, 4_000, 128, "exact"),
    (3_000, 3_000, 640, 32, "exact"),
    (100, 6_000, 640, 64, "exact"),
    (300, 3_000, 2_048, 512, "exact"),
    (700, 4_000, 2_000, 128, "stale"),
    (100, 8_000, 640, 32, "stale"),
)
COPIES = ((1, 1), (24, 1), (1, 12), (24, 12))  # of answers and of queries, to rank among
HELD = (40, 160)  # copies of the data, for the memory of encoding
VECTORS = (10_000, 40_000)  # of an index


def main(
    data: Path,
    out: Annotated[Path, typer.Option(help="Write the constants there, as JSON.")],
    machine: Annotated[str, typer.Option(help="This machine, in words.")] = "",
) -> None:
    """Measure, and write what `twinrank plan --constants` reads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    values: Figures = {**apart(encoding, data), **apart(words, data)}
    values |= split_holding([apart(holding, data, copies) for copies in HELD], values)
    values |= split_steps([apart(steps, *each) for each in STEPS])
    values |= split_ranking([apart(ranking, data, *each) for each in COPIES])
    values |= split_fusing(apart(fusing, data, 12, 12), values)
    values |= split_index([indexed(number) for number in VECTORS])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    named = data.name if data.is_absolute() else data
    told = {
        "on": f"{machine or cpu_name()}, load {load}",
        "date": f"{date.today():%Y-%m-%d}",
        "command": f"python benchmarks/plan_constants.py {named}",
    }
    rounded = {name: float(f"{values[name]:.4g}") for name in sorted(values)}
    found = Measured.model_validate(told | rounded)
    out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    typer.echo(found.model_dump_json(indent=2))


def times(dataset: Dataset, answers: int, queries: int) -> Dataset:
    """A data set with so many copies of its answers and of its labelled training queries.

    No two copies have the same text, by a mark that Python keeps in two bytes a character, as it
    does texts with curly quotes. Copies of queries point to copies of answers in turn.
    """

    def named(column: str, number: int) -> pl.Expr:
        return pl.col(column) + (f" {MARK}{number}" if number else "")

    some = [
        dataset.answers.with_columns(named("id", j), named("title", j), named("text", j))
        for j in range(answers)
    ]
    train = dataset.labels.filter(pl.col("split") == "train")
    asked = dataset.queries.filter(pl.col("id").is_in(train["query"].implode())).collect()
    others = dataset.queries.filter(~pl.col("id").is_in(train["query"].implode())).collect()
    copies = [
        asked.with_columns(named("id", j), named("thread", j), named("text", j))
        for j in range(queries)
    ]
    labels = [
        train.with_columns(named("query", j), named("answer", j % answers)) for j in range(queries)
    ]
    rest = dataset.labels.filter(pl.col("split") != "train")
    return replace(
        dataset,
        answers=pl.concat(some),
        queries=pl.concat([*copies, others]).lazy(),
        labels=pl.concat([*labels, rest]),
        folder=None,
    )


def made_up(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random features for the feature store to keep, as if an encoder had computed them."""
    rng = np.random.default_rng(0)
    for start in range(0, len(texts), 10_000):
        rows = np.arange(start, min(start + 10_000, len(texts)))
        yield rows, rng.standard_normal((len(rows), 2, encoder.dim), np.float32)


class MadeUp:
    """A store that gives random features at once, to time what comes after them."""

    def features(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        pooling: str,  # noqa: ARG002
        *,
        progress: str | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """As `FeatureStore.features`."""
        return np.random.default_rng(0).standard_normal((len(texts), encoder.dim), np.float32)


def encoding(data: Path) -> Figures:
    """What a text costs to encode and a token to make, and what a process holds that can."""
    torch.set_num_threads(1)
    encoder = Encoder(max_tokens=256)
    shape = Shape.of(encoder.name)
    rows, seconds = [], []
    tokens, tokenising = 0, 0.0
    for texts in samples(Dataset.load(data)).values():
        encoder.encode(texts[:AT_ONCE])
        began = time.process_time()
        encoder.encode(texts)
        seconds.append(time.process_time() - began)
        began = time.process_time()
        lengths = [len(ids) for ids in encoder.tokens(texts)]
        tokenising += time.process_time() - began
        tokens += sum(lengths)
        rows.append((sum(map(shape.flop, lengths)), len(texts)))
    a_flop, a_text = shares(rows, seconds)
    return {
        "encode_flop_s": 1 / a_flop,
        "encode_text_s": a_text,
        "tokenise_tokens_s": tokens / tokenising,
        "process_bytes": held_bytes(),
    }


def samples(dataset: Dataset) -> dict[str, list[str]]:
    """Some queries of each type, and some passages."""
    found = {"passage": pl.Series(section_texts(dataset.answers)[0])}
    for kind in dataset.types:
        of_kind = dataset.queries.filter(pl.col("type") == kind)
        found[kind] = of_kind.select("text").collect()["text"]
    return {
        kind: texts.sample(min(SAMPLE, len(texts)), seed=0).to_list()
        for kind, texts in found.items()
    }


def holding(data: Path, copies: int) -> Figures:
    """What encoding copies of the data holds and leaves in the store, features made up."""
    recipe = Recipe.load("even")
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), batches=made_up)
        times(Dataset.load(data), copies, copies).save(Path(folder, "data"))
        give_back()
        with Anonymous() as memory:
            encode(Dataset.load(Path(folder, "data")), recipe, store=store, device="cpu")
        held = store.entries()[0].bytes
        workload = workload_of(recipe, data=Dataset.load(Path(folder, "data")))
    return {"workload": workload, "stored": held, "bytes": 1e6 * (memory.peak or 0.0)}


def split_holding(rows: list[Figures], known: Figures) -> Figures:
    """What is left of its growth for a token."""
    c = Measured.model_construct(**known, encode_token_bytes=0.0)
    small, large = (row["workload"] for row in rows)
    texts = encode_bytes(large, c) - encode_bytes(small, c)
    grown = rows[1]["bytes"] - rows[0]["bytes"]
    tokens = large.tokens - small.tokens
    return {"encode_token_bytes": max(0.0, grown - texts) / tokens}


def words(data: Path) -> Figures:
    """What a token of the texts costs BM25."""
    texts = times(Dataset.load(data), 40, 1).answer_texts()
    tokens = int(Encoder().count_tokens(texts).sum())
    seconds = timed(lambda: Bm25(texts, language="english"), turns=1)
    tracemalloc.start()
    held = Bm25(texts, language="english")
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del held
    return {"words_token_s": seconds / tokens, "words_token_bytes": size / tokens}


def steps(answers: int, passages: int, queries: int, batch: int, index: Index) -> Figures:
    """Seconds of a step, and the bytes that training takes, on random features."""
    torch.set_num_threads(1)
    _steps(10, 20, 64, 32, "exact")  # what the first step of a process takes besides
    return _steps(answers, passages, queries, batch, index)


def _steps(answers: int, passages: int, queries: int, batch: int, index: Index) -> Figures:
    recipe = of_steps(batch, index)
    workload = sized(recipe, answers, passages, queries)
    rng = np.random.default_rng(0)
    before = held_bytes()
    owner = np.sort(
        np.concatenate([np.arange(answers), rng.integers(0, answers, passages - answers)])
    )
    features = Passages(rng.standard_normal((passages, DIM), np.float32), owner, answers)
    right = (np.arange(queries), rng.integers(0, answers, queries))
    labels = sparse.csr_array((np.ones(queries, np.float32), right), shape=(queries, answers))
    seen = rng.standard_normal((queries, DIM), np.float32)
    train = Examples(seen, labels, np.arange(queries), ["query"] * queries)
    towers = towers_of(recipe, DIM)
    towers.take_offsets(answers)
    marks = []

    def validate(towers: object) -> dict[str, float]:  # noqa: ARG001
        marks.append(time.process_time())
        return {"loss": 1.0}

    assert recipe.training  # noqa: S101 (the recipe is ours)
    with Anonymous() as memory:
        fit_towers(towers, train, features, recipe.training, validate)
    each = (marks[2] - marks[1]) / -(-queries // batch)
    return {
        "step": step_of(workload, index),
        "held": held_of(workload, index),
        "seconds": each,
        "bytes": 1e6 * (memory.peak or 0.0) - before,
    }


def of_steps(batch: int, index: str) -> Recipe:
    """`even` with other steps, for two epochs."""
    recipe = Recipe.load("even")
    assert recipe.training  # noqa: S101 (the recipe is ours)
    changes = {"batch_size": batch, "index": index, "epochs": 2, "keep": "loss"}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


def sized(recipe: Recipe, answers: int, passages: int, queries: int) -> Workload:
    """A workload with so many passages."""
    found = workload_of(recipe, answers=answers, queries=queries)
    return replace(found, sections=passages / answers)


def split_steps(rows: list[Figures]) -> Figures:
    """What steps cost, by what they compute and hold."""
    costs = shares([(*row["step"], 1) for row in rows], [row["seconds"] for row in rows])
    copies = shares([row["held"] for row in rows], [row["bytes"] / 4 for row in rows])
    names = ("train_cell_s", "train_fresh_s", "train_stale_s", "train_step_s")
    held = ("fresh", "vector", "offset", "query", "cell")
    return {
        "train_flop_s": 1 / costs[0],
        **dict(zip(names, costs[1:], strict=True)),
        **{f"train_{name}_copies": share for name, share in zip(held, copies, strict=True)},
    }


def ranker_of(dataset: Dataset) -> Ranker:
    """`even` untrained, on random features: it ranks badly, and as fast as any."""
    recipe = Recipe.load("even")
    reader = Reader(Encoder(max_tokens=256), "mean", cast("Store", MadeUp()), sections=True)
    material = Material.read(dataset, recipe, reader)
    towers, train = freeze(towers_of(recipe, DIM)), dataset.split("train")
    assert material.train  # noqa: S101 (the recipe is ours)
    dense = DenseSignal.from_features(reader, towers, material.answers)
    past = PastQueries(
        texts=train.texts,
        ids=[None] * len(train),
        vectors=towers.project_queries(material.train.features),
        labels=train.labels,
        newcomers=np.zeros(dataset.answers.height, bool),
    )
    signals: dict[str, Signal] = {"dense": dense, **past_signals(past, dense, recipe)}
    signals["words"] = Bm25(dataset.answer_texts(), language="english")
    scoring = Scoring(signals, dict.fromkeys(INITIAL_WEIGHTS, 1.0))
    origin = Origin(data="made up", data_fingerprint="", folder=None, seed=0, labelled={})
    return Ranker(recipe, dataset.answers, scoring, origin, Confidence(slope=1.0, intercept=0.0))


def ranking(data: Path, answers: int, queries: int) -> Figures:
    """Seconds a query to rank among copies of the data, features known; and beside the towers."""
    torch.set_num_threads(1)
    dataset = times(Dataset.load(data), answers, queries)
    ranker = ranker_of(dataset)
    scoring, dense = ranker.scoring, cast("DenseSignal", ranker.dense)
    texts = dataset.split("test").texts[:AT_ONCE]
    batch = scoring.encode(texts)
    others = {name: signal for name, signal in scoring.signals.items() if name != "dense"}
    random = np.random.default_rng(0).standard_normal((SCORED, DIM), np.float32)
    seen = QueryBatch([""] * SCORED, random)
    cells = SCORED * (len(dense.vectors.rows) + len(dataset.split("train")))
    give_back()
    before = held_bytes()
    with Anonymous() as memory:
        towers_alone(scoring).scores(seen)
    return {
        "copies": (1e6 * (memory.peak or 0.0) - before) / (4 * cells),
        "counts": (ranker.answers.height, len(dense.vectors.rows)),
        "past": len(ranker.past.texts) if ranker.past else 0,
        "all": timed(lambda: ranker.rank(texts)) / len(texts),
        "beside": timed(lambda: Scoring(others, scoring.weights).scores(batch)) / len(texts),
    }


def towers_alone(scoring: Scoring) -> Scoring:
    """Return the signals that towers give, as training leaves them."""
    dense = cast("DenseSignal", scoring.dense)
    past = PastSignal(cast("PastQueries", scoring.past), dense.towers, newcomer=0.0)
    return Scoring({"dense": dense, "past": past}, INITIAL_WEIGHTS)


def split_ranking(rows: list[Figures]) -> Figures:
    """What a ranking costs, by answers, passages and past queries."""
    beside = [(row["counts"][0], row["past"]) for row in rows]
    answer, past = shares(beside, [row["beside"] for row in rows])
    rest = [max(row["all"] - row["beside"], 1e-9) for row in rows]
    query, passage = shares([(1, row["counts"][1]) for row in rows], rest)
    return {
        "score_cell_copies": rows[-1]["copies"],  # the largest: others are too soon over
        "rank_query_s": query,
        "rank_passage_s": passage,
        "rank_answer_s": answer,
        "rank_past_s": past,
    }


def fusing(data: Path, answers: int, queries: int) -> Figures:
    """What it takes to weigh channels on the validation split, words included."""
    torch.set_num_threads(1)
    dataset = times(Dataset.load(data), answers, queries)
    recipe = Recipe.load("even")
    towers = towers_alone(ranker_of(dataset).scoring)
    workload = workload_of(recipe, data=dataset)
    validation = dataset.split("validation")
    before = held_bytes()
    with Anonymous() as memory:
        began = time.process_time()
        confidence_of(fused(towers, dataset, recipe), validation)
        seconds = time.process_time() - began
    return {
        "workload": workload,
        "seconds": seconds,
        "bytes": 1e6 * (memory.peak or 0.0) - before,
    }


def split_fusing(row: Figures, known: Figures) -> Figures:
    """What is left of it for a validation query and answer."""
    w: Workload = row["workload"]
    cells, tokens = w.validation * w.answers, word_tokens(w)
    c = Measured.model_construct(**known)
    rest = row["seconds"] - tokens * c.words_token_s - 2 * w.validation * scored_seconds(w, c)
    held = row["bytes"] - tokens * c.words_token_bytes
    return {"fuse_cell_s": max(rest, 0.0) / cells, "fuse_cell_bytes": max(held, 0.0) / cells}


def indexed(number: int) -> Figures:
    """What FAISS takes for so many vectors: built, saved, searched."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        apart(draw, home, number)
        found: Figures = {"vectors": number}
        for room, breadth in (("flat", 0), ("hnsw", 128)):
            built = apart(building, home, room, "", 32, 120)
            asked = apart(searching, home, room, "", breadth)
            found[room] = {**built, **asked}
        return found


def split_index(rows: list[Figures]) -> Figures:
    """What a vector costs, by the kind of index."""
    counts = np.array([row["vectors"] for row in rows], float)

    def of(room: str, name: str) -> np.ndarray:
        return np.array([row[room][name] for row in rows])

    megabytes = 4e-6 * DIM * counts
    copies = [np.polyfit(megabytes, of(room, "build MB"), 1)[0] for room in ("flat", "hnsw")]
    built = [(n, n * np.log2(n / FEW)) for n in counts]
    searched = [(1, np.log2(n / FEW)) for n in counts]
    first, further = shares(searched, (1e-3 * of("hnsw", "p50@200 ms")).tolist())
    each, doubling = shares(built, of("hnsw", "cpu s").tolist())
    vectors = 4 * DIM * counts
    return {
        "index_copies": float(np.mean(copies)),
        "flat_vector_bytes": float(np.median((1e6 * of("flat", "disk MB") - vectors) / counts)),
        "hnsw_vector_bytes": float(np.median((1e6 * of("hnsw", "disk MB") - vectors) / counts)),
        "flat_vector_s": float(np.median(of("flat", "cpu s") / counts)),
        "hnsw_vector_s": each,
        "hnsw_doubling_s": doubling,
        "flat_search_float_s": float(np.median(1e-3 * of("flat", "p50@200 ms") / (DIM * counts))),
        "hnsw_search_s": first,
        "hnsw_search_doubling_s": further,
    }


def shares(rows: Sequence[Sequence[float]], costs: Sequence[float]) -> list[float]:
    """What one of each column costs, none less than nothing, by relative least squares."""
    table, total = np.array(rows, float), np.array(costs, float)
    scale = table.max(axis=0)
    found, _ = nnls(table / scale / total[:, None], np.ones(len(total)))
    return [float(share) for share in found / scale]


def give_back() -> None:
    """Let the system have what was freed, so that what is taken next can be told."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def held_bytes() -> float:
    """What this process holds now, files left out."""
    held = anonymous_mb()
    if held is None:
        raise SystemExit("memory cannot be told here; measure on Linux")
    return 1e6 * held


def timed(work: Callable[[], object], turns: int = 5) -> float:
    """The median seconds of some turns, after one that does not count."""
    work()
    found = []
    for _ in range(turns):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return float(np.median(found))


if __name__ == "__main__":
    typer.run(main)
