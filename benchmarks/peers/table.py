"""The figures of all systems: a row a system, and how far each peer is from our best recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from rich.table import Table
from rich.text import Text

from peers.results import Result
from twinrank.evaluation import METRICS, Difference, Evaluation, differences, holm, summarise
from twinrank.reports.terminal import TYPES_SHOWN, aligned, figure, interval

TESTED = ("accuracy@3", "map@10")
Cells = list[tuple[str, str]]  # a figure, and what is said in small print


@dataclass(frozen=True)
class Measured:
    """A system over its seeds.

    Attributes:
        name: of the peer or recipe.
        ours: whether it is a recipe.
        results: one for each seed.
    """

    name: str
    ours: bool
    results: tuple[Result, ...]

    @cached_property
    def each(self) -> list[Evaluation]:
        """The evaluation of every seed."""
        return [summarise(result.rows, resamples=0) for result in self.results]

    @cached_property
    def mean(self) -> Evaluation:
        """The evaluation of each query's mean over seeds, with intervals over threads."""
        rows = self.results[0].rows
        over = [
            pl.Series(m, np.mean([r.rows[m].to_numpy() for r in self.results], axis=0))
            for m in METRICS
        ]
        return summarise(rows.with_columns(over))

    def spread(self, metric: str, kind: str | None = None) -> float | None:
        """Standard deviation over seeds; none for one seed."""
        if len(self.each) < 2:
            return None
        figures = [e.types[kind][metric] if kind else e.overall[metric] for e in self.each]
        return float(np.std(figures, ddof=1))

    def average(self, name: str) -> float:
        """Mean over seeds of a field of the results."""
        return float(np.mean([getattr(result, name) for result in self.results]))


def best_of_ours(systems: Sequence[Measured]) -> Measured | None:
    """The recipe that ranks the validation split best: test must not choose."""
    ours = [system for system in systems if system.ours]
    return max(ours, key=lambda system: system.average("validation")) if ours else None


def compared(systems: Sequence[Measured]) -> list[dict[str, Any]]:
    """Each peer minus our best recipe; Holm corrects overall p-values metric by metric."""
    best = best_of_ours(systems)
    peers = [system for system in systems if not system.ours]
    if best is None:
        return []
    rows: list[tuple[str, Difference]] = [
        (peer.name, difference)
        for peer in peers
        for difference in differences(peer.mean, best.mean, TESTED)
    ]
    overall = {
        m: [i for i, (_, d) in enumerate(rows) if (d.metric, d.kind) == (m, None)] for m in TESTED
    }
    corrected: dict[int, float] = {}
    for places in overall.values():
        found = holm([rows[i][1].p for i in places])
        corrected |= dict(zip(places, found.tolist(), strict=True))
    return [
        {"peer": name, "ours": best.name, **d.as_dict(), "p_holm": corrected.get(i)}
        for i, (name, d) in enumerate(rows)
    ]


def systems_cells(systems: Sequence[Measured]) -> tuple[list[str], list[tuple[str, Cells]]]:
    """Column names, and each system's cells."""
    types = list(systems[0].mean.types)
    shown = types if 1 < len(types) <= TYPES_SHOWN else []
    parity = len(types) > 1
    head = ["system", "top-3", *shown, *(["gap"] if parity else []), "MAP@10"]
    head += [*(["worst"] if parity else []), "training s", "ms a query"]
    return head, [(_label(system), _cells(system, shown, parity)) for system in systems]


def _label(system: Measured) -> str:
    return f"twinrank {system.name}" if system.ours else system.name


def _cells(system: Measured, shown: Sequence[str], parity: bool) -> Cells:
    mean = system.mean

    def cell(metric: str, kind: str | None = None) -> tuple[str, str]:
        figures = mean.types[kind] if kind else mean.overall
        around = mean.intervals["types"][kind] if kind else mean.intervals["overall"]
        spread = system.spread(metric, kind)
        value = figure(figures[metric]) + ("" if spread is None else f"±{figure(spread)}")
        return value, interval(around[metric])

    cells = [cell("accuracy@3"), *(cell("accuracy@3", kind) for kind in shown)]
    cells += [(figure(mean.gap["accuracy@3"]), "")] if parity else []
    cells += [cell("map@10")]
    cells += [(figure(mean.worst["map@10"]), "")] if parity else []
    seconds, milliseconds = system.average("training_s"), system.average("query_ms")
    return [*cells, (f"{seconds:,.1f}", ""), (f"{milliseconds:,.1f}", "")]


def difference_cells(found: Sequence[dict[str, Any]]) -> tuple[list[str], list[tuple[str, Cells]]]:
    """Column names, and each peer's differences over all queries."""
    rows: dict[str, Cells] = {}
    for row in found:
        if row["type"] is None:
            around = row["interval"]
            ends = f"{around[0]:+.3f} to {around[1]:+.3f}" if around else ""
            cells = [(f"{row['difference']:+.3f}", ends), (f"{row['p_holm']:.4f}", "")]
            rows.setdefault(row["peer"], []).extend(cells)
    return ["peer", "top-3", "p", "MAP@10", "p"], list(rows.items())


def as_table(title: str, head: Sequence[str], rows: Sequence[tuple[str, Cells]]) -> Table:
    """For the terminal."""
    table = aligned(title)
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for name, cells in rows:
        texts = [Text(v).append(f"\n{s}", style="dim") if s else Text(v) for v, s in cells]
        table.add_row(Text(name), *texts)
    return table


def as_markdown(title: str, head: Sequence[str], rows: Sequence[tuple[str, Cells]]) -> str:
    """For a page."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)]]
    lines += [[name, *(f"{v} ({s})" if s else v for v, s in cells)] for name, cells in rows]
    return f"{title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
