"""Measure how well twinrank ranks, against what people would pick instead.

All systems get the same splits, texts, encoder, token limit and evaluator: each gives scores of
every answer for every test query, and `twinrank.evaluation` measures them, with intervals and
paired tests over threads. Training sees the train split, choices (C, the best checkpoint, the
recipe that peers are compared with) the validation split; test is only measured.

  * training s: from texts to a system that ranks, with encoding and validation;
  * ms a query: median of single calls from a text to scores of all answers, after a warm-up.

Every system and seed leaves its result in the folder, and a second call computes only what is
missing. Run it as

    python benchmarks/quality.py DATA [--peers all] [--recipes a,b] [--seeds 3] [--out FOLDER]

To choose between recipes, give `--fold N`, once or more: it measures on a fifth of the threads that
train and validation ask about, and never reads test. With `--labels N` as many labelled queries are
left to train and to validate on. Both take features that are stored, so that training times are
without encoding.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median, stdev
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from measurements import time_calls
from peers import PEERS, SEEDED, System, Task, map_at_10
from twinrank import Dataset, Ranker, Recipe, train
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import TwinrankError
from twinrank.evaluation import METRICS, Evaluation, differences, holm, measure, summarise

TESTED = ("accuracy@3", "map@10")
TIMED_QUERIES = 50
FOLDS = 5
QUICK_PEERS = "bm25s,encoder,logistic,svm"
MAIN_RECIPES = "bm25,zero-shot,handover-dual,residual,even"


def main(
    data: Path,
    peers: Annotated[str, typer.Option(help=f"Of {', '.join(PEERS)}; or all.")] = QUICK_PEERS,
    recipes: Annotated[str, typer.Option(help="Names or TOML files.")] = MAIN_RECIPES,
    against: Annotated[str, typer.Option(help="Default: the best on validation.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Where a seed matters.")] = 3,
    encoder: Annotated[str, typer.Option(help="Of the peers.")] = "all-MiniLM-L6-v2",
    max_tokens: Annotated[int, typer.Option(min=3, help="Peers cut texts there.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of peers that tune it.")] = 5e-5,
    fold: Annotated[list[int] | None, typer.Option(help="Of 0 to 4, instead of test.")] = None,
    labels: Annotated[int | None, typer.Option(min=4, help="To learn from; default: all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Default: runs/DATA/quality.")] = None,
) -> None:
    """Print and write the quality, training time and latency of every system."""
    whole = Dataset.load(data)
    store = FeatureStore() if fold or labels else None
    datasets = [divide_anew(whole, number) for number in fold or ()] or [whole]
    if labels:
        datasets = [leave_labels(dataset, labels) for dataset in datasets]
    out = out or Path("runs") / whole.name / "quality"
    settings = {"encoder": encoder, "max_tokens": max_tokens, "learning_rate": learning_rate}
    results: dict[str, list[dict[str, Any]]] = {}
    for name in _list_names(peers if peers != "all" else ",".join(PEERS)):
        if name not in PEERS:
            raise typer.BadParameter(f"no peer is called {name!r}; there are {', '.join(PEERS)}")
        for seed in range(seeds if name in SEEDED else 1):
            measured = [_measure_peer(name, dataset, settings, seed, out) for dataset in datasets]
            results.setdefault(name, []).append(_join_folds(measured))
    ours = []
    for name in _list_names(recipes):
        recipe = Recipe.load(name)
        ours.append(f"twinrank {recipe.name}")
        for seed in range(seeds if recipe.towers else 1):
            measured = []
            for dataset in datasets:
                key = [recipe.model_dump(mode="json"), seed, dataset.fingerprint]
                file = out / f"twinrank-{recipe.name}-{_digest(key)}.json"
                prepare = partial(_carry_out, dataset, recipe, seed, store)
                measured.append(_measure_once(file, prepare, dataset))
            results.setdefault(ours[-1], []).append(_join_folds(measured))
    # Test must not choose which recipe all others are compared with.
    best = max(ours, key=lambda name: np.mean([r["validation"] for r in results[name]]), default="")
    best = f"twinrank {against}" if against else best
    _report(whole, results, best, settings, out)


def _measure_peer(
    name: str, dataset: Dataset, settings: dict[str, Any], seed: int, out: Path
) -> dict[str, Any]:
    identity = {**settings, "encoder": Encoder(settings["encoder"]).identity}
    key = [name, seed, {**identity, "data": dataset.fingerprint}]
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            answers=dataset.answer_texts(),
            train=dataset.split("train"),
            validation=dataset.split("validation"),
            seed=seed,
            folder=Path(folder),
            **settings,
        )
        file = out / f"{name}-{_digest(key)}.json"
        return _measure_once(file, partial(PEERS[name], task), dataset)


def _join_folds(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the queries of all folds together; times and validation are means."""
    rows = [pl.DataFrame(result["rows"]) for result in results]
    keys = ("training_s", "query_ms", "validation")
    joined = {key: float(np.mean([result[key] for result in results])) for key in keys}
    chosen = [result["chosen"] for result in results]
    return {**joined, "chosen": chosen, "rows": pl.concat(rows).to_dict(as_series=False)}


def divide_anew(dataset: Dataset, fold: int) -> Dataset:
    """Return the labels of train and validation with one fold of their threads as test.

    The next fold is validation, the rest train. All that test asks about, by thread, is gone.
    """
    asked = dataset.labels.filter(pl.col("split") == "test")["query"]
    threads = dataset.queries.filter(pl.col("id").is_in(asked.implode()))["thread"]
    queries = dataset.queries.filter(~pl.col("thread").is_in(threads.unique().implode()))
    labels = dataset.labels.filter(pl.col("query").is_in(queries["id"].implode()))
    labels = labels.join(queries.select("thread", query="id"), on="query", maintain_order="left")
    names = labels["thread"].unique().sort()
    folds = np.random.default_rng(0).permutation(len(names)) % FOLDS
    labels = labels.join(pl.DataFrame({"thread": names, "fold": folds}), on="thread")
    split = (
        pl.when(pl.col("fold") == fold)
        .then(pl.lit("test"))
        .when(pl.col("fold") == (fold + 1) % FOLDS)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    labels = labels.with_columns(split=split).select(dataset.labels.columns)
    return replace(dataset, queries=queries, labels=labels, folder=None)


def leave_labels(dataset: Dataset, number: int) -> Dataset:
    """Leave the labels of a number of queries, drawn at random, to train and validate on."""
    is_test = pl.col("split") == "test"
    asked = dataset.labels.filter(~is_test)["query"].unique().sort()
    drawn = asked.sample(min(number, len(asked)), seed=0)
    labels = dataset.labels.filter(is_test | pl.col("query").is_in(drawn.implode()))
    return replace(dataset, labels=labels, folder=None)


def _list_names(names: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def _digest(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _carry_out(dataset: Dataset, recipe: Recipe, seed: int, store: FeatureStore | None) -> System:
    """Train in an empty folder; without a store with an empty one, so that encoding counts."""
    with tempfile.TemporaryDirectory() as folder:
        store = store or FeatureStore(Path(folder) / "features")
        train(dataset, recipe, seed=seed, out=Path(folder) / "ranker", store=store)
        ranker = Ranker.load(Path(folder) / "ranker")
    return System(ranker.scores)


def _measure_once(file: Path, prepare: Callable[[], System], dataset: Dataset) -> dict[str, Any]:
    """Measure a system, or read what an earlier call measured."""
    if not file.exists():
        print(f"{file.stem} ...", file=sys.stderr)
        test, validation = dataset.split("test"), dataset.split("validation")
        began = perf_counter()
        system = prepare()
        seconds = perf_counter() - began
        rows = np.linspace(0, len(test) - 1, min(TIMED_QUERIES, len(test))).round().astype(int)
        texts = iter([*(test.texts[row] for row in rows), test.texts[0]])
        calls = time_calls(lambda: system.score([next(texts)]), len(rows))
        result = {
            "training_s": seconds,
            "query_ms": 1e3 * median(calls),
            "validation": map_at_10(lambda part: system.score(validation.texts[part]), validation),
            "chosen": {key: str(value) for key, value in system.chosen.items()},
            "rows": measure(lambda part: system.score(test.texts[part]), test).to_dict(
                as_series=False
            ),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(result), encoding="utf-8")
        partial.replace(file)
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def _report(
    dataset: Dataset,
    results: dict[str, list[dict[str, Any]]],
    best: str,
    settings: dict[str, Any],
    out: Path,
) -> None:
    evaluations = {name: _average(of_seeds) for name, of_seeds in results.items()}
    types = list(next(iter(evaluations.values())).types)
    table = Table(title=f"{dataset.name}: means over seeds, 95 % intervals over threads")
    table.add_column("system")
    for column in ("top-3", *types, "gap", "MAP@10", "worst", "training s", "ms a query"):
        table.add_column(column, justify="right")
    lines = {}
    for name, evaluation in evaluations.items():
        seeds = [float(np.mean(result["rows"]["accuracy@3"])) for result in results[name]]
        spread = f" ±{stdev(seeds):.3f}" if len(seeds) > 1 else ""
        low, high = evaluation.intervals["overall"]["accuracy@3"] or (float("nan"),) * 2
        times = [np.mean([r[key] for r in results[name]]) for key in ("training_s", "query_ms")]
        table.add_row(
            name,
            f"{evaluation.overall['accuracy@3']:.3f}{spread}\n[dim]{low:.3f} to {high:.3f}[/]",
            *(f"{evaluation.types[kind]['accuracy@3']:.3f}" for kind in types),
            f"{evaluation.gap['accuracy@3']:.3f}",
            f"{evaluation.overall['map@10']:.3f}",
            f"{evaluation.worst['map@10']:.3f}",
            *(f"{value:,.1f}" for value in times),
        )
        figures = [{k: v for k, v in seed.items() if k != "rows"} for seed in results[name]]
        lines[name] = {**evaluation.as_dict(), "seeds": figures}
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    compared = _compare(evaluations, best) if best else []
    for line in compared:
        if line["type"] is None:
            low, high = line["interval"] or (float("nan"),) * 2
            console.print(
                f"{line['system']} minus {line['ours']}, {line['metric']}: "
                f"{line['difference']:+.3f} ({low:+.3f} to {high:+.3f}), "
                f"Holm's p {line['p_holm']:.4f}"
            )
    content = {"data": dataset.name, **settings, "systems": lines, "differences": compared}
    (out / "quality.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(out / "quality.json")


def _average(results: list[dict[str, Any]]) -> Evaluation:
    """Evaluate each query's mean over seeds, with intervals over threads."""
    frames = [pl.DataFrame(result["rows"]) for result in results]
    averages = [
        pl.Series(metric, np.mean([frame[metric].to_numpy() for frame in frames], axis=0))
        for metric in METRICS
    ]
    return summarise(frames[0].with_columns(averages))


def _compare(evaluations: dict[str, Evaluation], best: str) -> list[dict[str, Any]]:
    """Compare all systems with one of them."""
    lines = [
        {"system": name, "ours": best, **difference.as_dict()}
        for name in evaluations
        if name != best
        for difference in differences(evaluations[name], evaluations[best], TESTED)
    ]
    for metric in TESTED:
        overall = [line for line in lines if line["metric"] == metric and line["type"] is None]
        corrected = holm([line["p"] for line in overall])
        for line, p in zip(overall, corrected.tolist(), strict=True):
            line["p_holm"] = p
    return lines


if __name__ == "__main__":
    try:
        typer.run(main)
    except TwinrankError as error:
        sys.exit(f"{error}")
