"""The constants of a plan: measured on one core, published by makers, or assumed."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from twinrank.errors import PlanError
from twinrank.files import read_text

GB = 1e9


@dataclass
class Constants:
    """The constants by name; it notes the names that are read.

    Attributes:
        values: of each name.
        lines: meaning of each name.
        measured: names that were measured; the others are assumed.
        source: a line that says when, where and how they were measured.
        read: names that were read, in order.
    """

    values: Mapping[str, float]
    lines: Mapping[str, str]
    measured: frozenset[str]
    source: str
    read: dict[str, None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """Give a constant, and note that it was read."""
        self.read[name] = None
        return self.values[name]

    def line(self, name: str) -> str:
        """Say what a constant means, and its value."""
        kind = "measured" if name in self.measured else "assumed"
        return f"{kind}: {self.lines[name]}: {self.values[name]:,.4g}"


def load_constants(file: Path | None = None) -> Constants:
    """Read the package's constants, with the values of a TOML file in place of some.

    Args:
        file: has a table [measured] or [assumed] with `name = value`, and may have [source].

    Raises:
        PlanError: if the file cannot be read, or has an unknown name or a value below 0.
    """
    tables = _packaged_constants()
    pairs = {**tables["measured"], **tables["assumed"]}
    values = {name: float(value) for name, (value, _) in pairs.items()}
    source = tables["source"]
    if file is not None:
        try:
            given = tomllib.loads(read_text(file, "file of constants", PlanError))
        except tomllib.TOMLDecodeError as error:
            raise PlanError(f"{file}: no TOML: {error}; see docs/guides/plan.md") from None
        source = source | given.pop("source", {"on": str(file)})
        for table, entries in given.items():
            for name, value in entries.items() if isinstance(entries, dict) else [(table, entries)]:
                if name not in values:
                    raise PlanError(
                        f"{file}: no constant is called {name}; see docs/guides/plan.md"
                    )
                if not isinstance(value, int | float) or not 0 <= value < math.inf:
                    raise PlanError(f"{file}: {name} is {value!r}; give a number of 0 or more")
                values[name] = float(value)
    line = f"measured by `{source['command']}`, {source['date']}, {source['on']}"
    lines = {name: line for name, (_, line) in pairs.items()}
    return Constants(values, lines, frozenset(tables["measured"]), line)


@cache
def _packaged_constants() -> dict[str, Any]:
    packaged = resources.files("twinrank.planning") / "constants.toml"
    return tomllib.loads(packaged.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Gpu:
    """One card, as its maker publishes it."""

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    bf16_tflop_s: float
    fp32_tflop_s: float


@dataclass(frozen=True)
class Machine:
    """One of the machines that a plan counts.

    Attributes:
        cores: of its processor.
        memory: bytes beside them.
        gpu: one card; None computes on the processor.
        assumed: names of the constants that its cores and memory are, if nobody gave them.
    """

    cores: int
    memory: float
    gpu: Gpu | None = None
    assumed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Describe it in words."""
        host = f"{self.cores} cores, {self.memory / GB:,.0f} GB"
        return f"{self.gpu.name}, beside it {host}" if self.gpu else host


def find_machine(
    *, gpu: str | None = None, cpu: int = 1, memory_gb: float | None = None
) -> Machine:
    """Find a GPU by its name, or take a number of cores.

    Args:
        gpu: as `--gpu` names it; None computes on the processor.
        cpu: cores, without a GPU.
        memory_gb: of the processor; None takes the assumption.

    Raises:
        PlanError: if no such GPU is known, or there is no memory.
    """
    constants, gpus = load_constants(), _packaged_constants()["gpus"]
    if memory_gb is not None and not (math.isfinite(memory_gb) and memory_gb > 0):
        raise PlanError(f"memory is {memory_gb:g} GB; give more than 0")
    if gpu is None:
        names = () if memory_gb else ("memory_a_core_gb",)
        return Machine(cpu, GB * (memory_gb or cpu * constants["memory_a_core_gb"]), assumed=names)
    if gpu.lower() not in gpus:
        raise PlanError(f"no GPU is called {gpu!r} here; choose one of {', '.join(gpus)}")
    names = ("host_cores", *(() if memory_gb else ("host_memory_gb",)))
    memory = GB * (memory_gb or constants["host_memory_gb"])
    return Machine(int(constants["host_cores"]), memory, Gpu(**gpus[gpu.lower()]), names)
