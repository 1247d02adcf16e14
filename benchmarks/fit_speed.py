"""What a training step costs, beside its matrix products alone, and beside other code.

Fits the towers of `even` for two epochs on stored features, in a fresh process each time,
`--rounds` times in turn: with leave for bf16, without and, with `--before`, by the code of
another checkout. Processor time of a step in the second epoch is what tells on a busy machine.
The floor is the arithmetic of a step's products over the rate at which this machine carries
out the largest of them, measured in the same processes. Run it as

    python benchmarks/fit_speed.py DATA [--before CHECKOUT] [--threads 1] [--rounds 5]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.recipe import Recipe
from twinrank.training import fit_towers
from twinrank.training.material import Material, reader_for
from twinrank.training.tower_modules import towers_of

HERE = Path(__file__).resolve().parents[1]


def main(
    data: Path,
    before: Annotated[Path | None, typer.Option(help="A checkout to compare with.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Print medians over the rounds, and the share of a step that is products."""
    if child:
        print(json.dumps(_measure(data, child, threads)))
        return
    codes = {"bf16": (HERE, "bf16"), "fp32": (HERE, "fp32")}
    if before:
        codes = {"before": (before.resolve(), "as it is"), **codes}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, (checkout, precision) in codes.items():
            found[name].append(_in_a_process(data, checkout, precision, threads))
    _show({name: _medians(rows) for name, rows in found.items()}, threads)


def _in_a_process(data: Path, checkout: Path, precision: str, threads: int) -> dict[str, float]:
    paths = f"{checkout / 'src'}{os.pathsep}{checkout}"
    command = [sys.executable, __file__, str(data), "--child", precision]
    done = subprocess.run(
        [*command, "--threads", str(threads)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        check=True,
        text=True,
    )
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _measure(data: Path, precision: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    dataset, recipe = Dataset.load(data), Recipe.load("even")
    material = Material.read(dataset, recipe, reader_for(dataset, recipe, FeatureStore(), "cpu"))
    train, training = material.train, recipe.training
    assert train and training  # noqa: S101 (the recipe is ours)
    changes: dict[str, Any] = {"epochs": 2, "keep": "loss"}
    if precision != "as it is":
        changes["precision"] = precision
    marks: list[tuple[float, float]] = []

    def validate(towers: object) -> dict[str, float]:  # noqa: ARG001
        marks.append((time.process_time(), time.perf_counter()))
        return {"loss": 1.0}

    torch.manual_seed(0)
    towers = towers_of(recipe, material.answers.rows.shape[1])
    settings = training.model_copy(update=changes)
    history = fit_towers(towers, train, material.answers, settings, validate)
    steps = -(-len(train.features) // settings.batch_size)
    cpu, wall = (np.subtract(marks[2], marks[1]) / steps).tolist()
    products = _products(len(material.answers.rows), len(train.features), settings.batch_size)
    floor = products / _rate(len(material.answers.rows), precision)
    return {"cpu": cpu, "wall": wall, "floor": floor, "loss": history[2]["train_loss"]}


def _products(passages: int, past: int, batch: int, dim: int = 384) -> float:
    """Operations of a step's products: of both layers, the scores, and the memory's cosines."""
    layers = 5 * 2 * dim * dim * (passages + batch)  # inputs have no slopes: five, not six
    return layers + 3 * 2 * batch * passages * dim + 2 * 2 * batch * past * dim


def _rate(rows: int, precision: str, dim: int = 384) -> float:
    """Operations a second of processor time of a layer's product, the best of twenty."""
    if precision == "bf16":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    x, weight = torch.randn(rows, dim), torch.randn(dim, dim)
    out = torch.empty(rows, dim)
    seconds = []
    for _ in range(20):
        began = time.process_time()
        torch.mm(x, weight, out=out)
        seconds.append(time.process_time() - began)
    return 2 * rows * dim * dim / min(seconds)


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.median([row[name] for row in rows])) for name in rows[0]}


def _show(figures: dict[str, dict[str, float]], threads: int) -> None:
    title = f"A step of even, {threads} thread(s)"
    table = Table(title=title, title_justify="left")
    names = ("", "processor, ms", "wall, ms", "floor, ms", "share reached", "loss of epoch 2")
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    for name, row in figures.items():
        times = [f"{1e3 * row[key]:.1f}" for key in ("cpu", "wall", "floor")]
        table.add_row(name, *times, f"{row['floor'] / row['cpu']:.0%}", f"{row['loss']:.6f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
