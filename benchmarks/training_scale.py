"""What training costs as answers and queries grow, by each index, and which one `auto` chooses.

Features are random and of 384 numbers, an answer one passage, a query one right answer: this is
about cost, and says nothing of quality. Each setting is fitted in a process of its own, as
`fit_towers` does it, and left after a few steps. An epoch is what it begins with and all its
steps, each the median of those timed, in processor seconds of one thread; validation is not in it.
Memory is the highest resident one less that of what was imported, the features included. What
would take more than `--seconds` or `--gigabytes`, judging by the size before, is left out and
named. Run it as

    python benchmarks/training_scale.py [--minutes 10] [--out FILE.json] [--page FILE.html]
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer
from plotly.graph_objects import Figure, Scatter
from rich.console import Console
from scipy import sparse, stats

from memory import highest_mb
from twinrank.encoding.hardware import cpu_name
from twinrank.files import write_file
from twinrank.ranking import Passages
from twinrank.recipe import TrainingSettings
from twinrank.reports.drawing import panels, styled
from twinrank.reports.geometry import COLOURS
from twinrank.reports.page import Rows, Section, page
from twinrank.reports.terminal import aligned
from twinrank.training import Examples, fit_towers
from twinrank.training.choice import index_of
from twinrank.training.index import POOL
from twinrank.training.loop import Stepper
from twinrank.training.tower_modules import Towers

DIM, BATCH = 384, 128
INDEXES = ("exact", "stale", "sampled")
SIZES = {
    "answers": (1_000, 3_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000),
    "queries": (10_000, 30_000, 100_000, 300_000, 1_000_000),
}
ANSWERS, QUERIES = 10_000, 100_000  # while the other grows
FITTED_FROM = 10_000  # below, what every step costs hides how it grows
COSTS = {"epoch_s": "processor seconds an epoch", "memory_mb": "memory, MB"}
READ = "Each mark is a process of its own; both axes are logarithmic."

Cost = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is fitted: by which index, how many of both, and what of `even` the towers have."""

    index: str
    answers: int = ANSWERS
    queries: int = QUERIES
    past: bool = False
    offsets: bool = False

    @property
    def name(self) -> str:
        """What settings are called that differ in size alone."""
        more = {"past queries": self.past, "offsets": self.offsets}
        return ", ".join([self.index, *(name for name, there in more.items() if there)])


@dataclass(frozen=True)
class Limits:
    """What a setting may take at most, and until when to begin one."""

    seconds: float
    megabytes: float
    until: float

    def allow(self, before: Cost, times: float) -> bool:
        """Whether to go on with a size so many times that of the cost before."""
        late = time.perf_counter() > self.until
        slow = times * before["took_s"] > self.seconds
        return not (late or slow or times * before["memory_mb"] > self.megabytes)


def main(
    steps: Annotated[int, typer.Option(min=2, help="Steps timed, after a first.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of one setting, at most.")] = 60,
    gigabytes: Annotated[float, typer.Option(help="Of one setting, at most.")] = 7,
    minutes: Annotated[float, typer.Option(help="Of all, at most.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
    html: Annotated[Path | None, typer.Option("--page", help="Write a page there.")] = None,
) -> None:
    """Print costs by size, exponents, and where the indexes change places."""
    limits = Limits(seconds, 1e3 * gigabytes, time.perf_counter() + 60 * minutes - seconds)
    costs: list[Cost] = []
    skipped: list[str] = []
    for grows, series in growing():
        found = list(measured(series, grows, steps, limits))
        costs += found
        skipped += [f"{s.name}: {getattr(s, grows):,} {grows}" for s in series[len(found) :]]
    figures = {
        "machine": cpu_name(),
        "batch_size": BATCH,
        "steps": steps,
        "costs": costs,
        "skipped": skipped,
        "exponents": exponents(costs),
        "crossings": crossings(costs),
        "constants": constants(costs),
    }
    if out:
        write_file(out, json.dumps(figures, indent=2) + "\n")
    if html:
        write_file(html, drawn(figures))
    _show(figures)


def growing() -> Iterator[tuple[str, list[Setting]]]:
    """Series of settings, the smallest first, each with what grows in it."""
    for index, offsets in (*((index, False) for index in INDEXES), ("sampled", True)):
        own = [Setting(index, answers=size, offsets=offsets) for size in SIZES["answers"]]
        yield "answers", own
    for index, past in (("sampled", False), ("exact", True), ("sampled", True)):
        yield "queries", [Setting(index, queries=size, past=past) for size in SIZES["queries"]]


def measured(series: list[Setting], grows: str, steps: int, limits: Limits) -> Iterator[Cost]:
    """What the settings of a series cost, as far as the limits allow."""
    before: Cost | None = None
    for setting in series:
        size = getattr(setting, grows)
        if before and not limits.allow(before, size / before["size"]):
            return
        began = time.perf_counter()
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as pool:
            cost = pool.submit(fitted, setting, steps).result()
        about = {"series": setting.name, "grows": grows, "size": size, **asdict(setting)}
        before = about | cost | {"took_s": time.perf_counter() - began}
        yield before


class _EnoughError(Exception):
    """Leaves a training."""


def fitted(setting: Setting, steps: int) -> Cost:
    """Processor seconds of an epoch's beginning, of a step and of an epoch; memory in MB."""
    torch.set_num_threads(1)
    imported = highest_mb()
    rng = np.random.default_rng(0)
    n, m = setting.queries, setting.answers
    train = Examples(_features(rng, n), _labels(rng, n, m), np.arange(n), ["query"] * n)
    answers = Passages(_features(rng, m), None, m)
    torch.manual_seed(0)
    towers = Towers("residual", DIM, dropout=0.5, memory=setting.past)
    towers.take_offsets(m if setting.offsets else None)
    marks: list[float] = []

    def begin(_: Towers) -> dict[str, float]:
        marks.append(time.process_time())
        return {"loss": 0.0}

    def timed(stepper: Stepper, loss: torch.Tensor) -> None:
        step(stepper, loss)
        marks.append(time.process_time())
        if len(marks) == steps + 2:
            raise _EnoughError

    step = Stepper.step
    with mock.patch.object(Stepper, "step", timed), suppress(_EnoughError):
        fit_towers(towers, train, answers, _settings(setting.index), begin)
    first, *others = np.diff(marks)
    step_s = float(np.median(others))
    begin_s = max(float(first) - step_s, 0.0)
    return {
        "begin_s": begin_s,
        "step_s": step_s,
        "epoch_s": begin_s + step_s * -(-n // BATCH),
        "memory_mb": highest_mb() - imported,
    }


def _settings(index: str) -> TrainingSettings:
    return TrainingSettings.model_validate({"index": index, "batch_size": BATCH})


def _features(rng: np.random.Generator, rows: int) -> np.ndarray:
    features = rng.random((rows, DIM), np.float32)
    features -= 0.5
    return features


def _labels(rng: np.random.Generator, n: int, m: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(n), (np.arange(n), rng.integers(m, size=n))), shape=(n, m))


def exponents(costs: list[Cost]) -> list[Cost]:
    """The slope of log cost over log size of each series, with its 95 % interval."""
    found = []
    for (grows, name), own in _by_series(costs).items():
        large = [cost for cost in own if cost["size"] >= FITTED_FROM]
        if len(large) < 3:
            continue
        x = np.log([cost["size"] for cost in large])
        sure = stats.t.ppf(0.975, len(large) - 2)
        fits = {key: stats.linregress(x, np.log([c[key] for c in large])) for key in COSTS}
        told = {
            key: [fit.slope, fit.slope - sure * fit.stderr, fit.slope + sure * fit.stderr]
            for key, fit in fits.items()
        }
        found.append({"grows": grows, "series": name, "settings": len(large), **told})
    return found


def crossings(costs: list[Cost]) -> list[Cost]:
    """Between which indexes, and at how many answers, an epoch begins to take less time."""
    of = {name: own for (grows, name), own in _by_series(costs).items() if grows == "answers"}
    found = []
    for one, other in combinations((name for name in of if name in INDEXES), 2):
        gains = [
            (a["size"], np.log(a["epoch_s"] / b["epoch_s"]))
            for a, b in zip(of[one], of[other], strict=False)
        ]
        for (low, below), (high, above) in pairwise(gains):
            if below <= 0 < above:
                at = low * (high / low) ** (-below / (above - below))
                found.append({"from": one, "to": other, "answers": round(at)})
    return found


def constants(costs: list[Cost]) -> dict[str, float]:
    """What `twinrank.training.choice` reckons with: time of a passage where indexes change places.

    What is looked through, begun with and held is told by the largest settings.
    """
    of = {name: own for (grows, name), own in _by_series(costs).items() if grows == "answers"}
    exact, sampled = of["exact"][-1], of["sampled"][-1]
    a_passage = next(cost["step_s"] for cost in of["exact"] if cost["size"] == ANSWERS) / ANSWERS
    sample = _settings("sampled").answer_sample
    return {
        "RENEWED": sampled["begin_s"] / sampled["size"] / a_passage,
        "SEEN": (sampled["step_s"] / a_passage - sample - BATCH) / (POOL * sample),
        "HELD": exact["memory_mb"] * 1e6 / exact["size"] / 4 / (DIM + BATCH),
    }


def _by_series(costs: list[Cost]) -> dict[tuple[str, str], list[Cost]]:
    groups = groupby(costs, key=lambda cost: (cost["grows"], cost["series"]))
    return {key: list(own) for key, own in groups}


def drawn(figures: dict[str, Any]) -> str:
    """One page: a figure and a table for what grows, and the exponents."""
    sections = [
        Section(
            f"As {grows} grow",
            figures=[(_figure(figures["costs"], grows), READ)],
            tables=[(f"Costs by {grows}", _rows(figures["costs"], grows))],
        )
        for grows in SIZES
    ]
    about = f"{figures['machine']}, one thread; steps of {BATCH} queries, {DIM} numbers a vector."
    left_out = figures["skipped"] and ["Left out: " + "; ".join(figures["skipped"]) + "."]
    short = Section("In short", [about, *left_out], tables=[("Exponents", _fits(figures))])
    return page("What training costs as data grow", [short, *sections])


def _figure(costs: list[Cost], grows: str) -> Figure:
    plot = panels(*COSTS.values())
    own = {name: found for (by, name), found in _by_series(costs).items() if by == grows}
    for i, (name, found) in enumerate(own.items()):
        for place, key in enumerate(COSTS, start=1):
            look = {"color": COLOURS[i]}
            x, y = ([cost[of] for cost in found] for of in ("size", key))
            line = Scatter(x=x, y=y, name=name, legendgroup=name, line=look, showlegend=place == 1)
            plot.add_trace(line, row=1, col=place)
    plot.update_xaxes(type="log", title_text=grows)
    plot.update_yaxes(type="log")
    return styled(plot, "")


def _rows(costs: list[Cost], grows: str) -> Rows:
    rows = [[grows, "index", "begins, s", "step, ms", "epoch, s", "memory, MB", "auto"]]
    for cost in (cost for cost in costs if cost["grows"] == grows):
        times = f"{cost['begin_s']:.2f}", f"{1e3 * cost['step_s']:.0f}", f"{cost['epoch_s']:,.0f}"
        memory = f"{cost['memory_mb']:,.0f}"
        rows.append([f"{cost['size']:,}", cost["series"], *times, memory, _auto(cost)])
    return rows


def _auto(cost: Cost) -> str:
    """What is chosen, given the memory that is free now."""
    answers = torch.empty(cost["answers"], DIM, device="meta")
    there = Passages(answers, None, len(answers))
    return index_of(_settings("auto"), there, cost["queries"])


def _fits(figures: dict[str, Any]) -> Rows:
    rows = [["as these grow", "index", *COSTS.values()]]
    for fit in figures["exponents"]:
        slopes = ["{:.2f} ({:.2f} to {:.2f})".format(*fit[key]) for key in COSTS]
        rows.append([fit["grows"], fit["series"], *slopes])
    return rows


def _show(figures: dict[str, Any]) -> None:
    console = Console(width=120)
    titles = {f"Costs by {grows}": _rows(figures["costs"], grows) for grows in SIZES}
    for title, (head, *rows) in {**titles, "Exponents, 95 %": _fits(figures)}.items():
        table = aligned(title)
        for name in head:
            table.add_column(name, justify="left" if name in ("index", "auto") else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for name in ("skipped", "crossings", "constants"):
        console.print(f"{name}:", figures[name])


if __name__ == "__main__":
    typer.run(main)
