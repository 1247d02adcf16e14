"""The machines of a plan: cores with their memory, and a GPU beside them or none."""

from __future__ import annotations

import math
from dataclasses import dataclass

from twinrank.errors import PlanError
from twinrank.planning.constants import Assumed, Gpu, gpus

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """One of the machines that a plan counts.

    Attributes:
        cores: of its processor.
        memory: bytes beside them.
        gpu: one card; none computes on the processor.
        assumed: which constants its cores and memory are, if nobody gave them.
    """

    cores: int
    memory: float
    gpu: Gpu | None = None
    assumed: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """In words."""
        host = f"{self.cores} cores, {self.memory / GB:,.0f} GB"
        return f"{self.gpu.name}, beside it {host}" if self.gpu else host

    @property
    def training_memory(self) -> float:
        """Bytes where a training step computes."""
        return self.gpu.memory_gb * GB if self.gpu else self.memory


def machine_of(*, gpu: str | None = None, cpu: int = 1, memory_gb: float | None = None) -> Machine:
    """A GPU by its name, or so many cores.

    Args:
        gpu: as `--gpu` names it; none computes on the processor.
        cpu: cores, without a GPU.
        memory_gb: of the processor; none is what is assumed.

    Raises:
        PlanError: if no such GPU is known, or there is no memory.
    """
    assumed, known = Assumed.load(), gpus()
    if memory_gb is not None and not (math.isfinite(memory_gb) and memory_gb > 0):
        raise PlanError(f"memory is {memory_gb:g} GB; give more than 0")
    if gpu is None:
        names = () if memory_gb else ("memory_a_core_gb",)
        memory = GB * (memory_gb or cpu * assumed.memory_a_core_gb)
        return Machine(cpu, memory, assumed=names)
    if gpu.lower() not in known:
        raise PlanError(f"no GPU is called {gpu!r} here; choose one of {', '.join(known)}")
    memory = GB * (memory_gb or assumed.host_memory_gb)
    beside = ("host_cores", *(() if memory_gb else ("host_memory_gb",)))
    return Machine(assumed.host_cores, memory, known[gpu.lower()], beside)
