"""Measurements of one run, kept as JSON, and the comparison of two runs.

    python benchmarks/measurements.py BEFORE.json AFTER.json

prints each measurement of both, and their ratio: above one is better now. Two runs are comparable
where they come from one machine, side by side: run before, after, before, after, and compare more
than one pair.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    Attributes:
        name: of the measurement.
        unit: of its value.
        value: the median of its samples.
        lower_is_better: whether it is a time or a size.
        samples: every value measured.
    """

    name: str
    unit: str
    value: float
    lower_is_better: bool = True
    samples: tuple[float, ...] = ()


@dataclass
class Run:
    """The measurements of one run, with the machine and the version that made them."""

    command: str
    measurements: list[Measurement] = field(default_factory=list)

    def add(self, name: str, unit: str, *samples: float, lower_is_better: bool = True) -> float:
        """Keep a measurement and print it; give its median."""
        value = statistics.median(samples)
        self.measurements.append(Measurement(name, unit, value, lower_is_better, samples))
        print(f"{name}: {value:,.4g} {unit}", flush=True)
        return value

    def save(self, file: Path) -> None:
        """Write the run."""
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, check=False
        )
        head = {
            "command": self.command,
            "commit": commit.stdout.decode().strip() or "unknown",
            "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
            "load": [round(load, 1) for load in os.getloadavg()],
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = {**head, "measurements": [asdict(m) for m in self.measurements]}
        file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        print(file)


def time_calls(call: Callable[[], object], repeats: int, *, warm_up: int = 1) -> list[float]:
    """Time calls in seconds, after some that do not count."""
    for _ in range(warm_up):
        call()
    return [time_call(call) for _ in range(repeats)]


def time_call(call: Callable[..., object], *arguments: object) -> float:
    """Time one call in seconds."""
    began = perf_counter()
    call(*arguments)
    return perf_counter() - began


def compare(
    before: Path,
    after: Path,
    at_most: Annotated[
        float, typer.Option(help="Exit with 1 if a measurement is worse by more than this share.")
    ] = float("inf"),
) -> None:
    """Compare two runs, measurement by measurement."""
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in (before, after)]
    old, new = ({m["name"]: m for m in run["measurements"]} for run in runs)
    table = Table(title=f"{runs[0]['commit']} -> {runs[1]['commit']}", title_justify="left")
    table.add_column("")
    for column in ("before", "after", "times as good"):
        table.add_column(column, justify="right")
    worst = 1.0
    for name in [*old, *(name for name in new if name not in old)]:
        values = [f"{run[name]['value']:,.4g}" if name in run else "" for run in (old, new)]
        ratio = ""
        if name in old and name in new:
            times = new[name]["value"] / old[name]["value"]
            good = 1 / times if new[name]["lower_is_better"] else times
            worst, ratio = min(worst, good), f"{good:.2f}"
        unit = (new.get(name) or old[name])["unit"]
        table.add_row(f"{name}, {unit}", *values, ratio)
    Console().print(table)
    if worst < 1 - at_most:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(compare)
