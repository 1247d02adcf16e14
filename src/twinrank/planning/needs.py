"""What a stage needs, in one machine and in all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinrank.planning.constants import Measured
from twinrank.planning.machine import Machine
from twinrank.planning.workload import Workload

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Needs:
    """What one stage needs.

    Attributes:
        stage: its name.
        memory: bytes in the machine that needs most.
        room: bytes that a machine has for them.
        disk: bytes that stay, over all machines.
        seconds: of one machine that does all of it; of a service, a query.
        machines: how many; 0 where none is kept busy.
        note: what to know of it; may be empty.
        mend: what to do where memory does not suffice.
        rests_on: the constants, by name.
        share: of the answers and queries for which a machine has the memory.
    """

    stage: str
    memory: float
    room: float
    disk: float
    seconds: float
    machines: int
    note: str
    mend: str
    rests_on: tuple[str, ...]
    share: float = 1.0

    @property
    def fits(self) -> bool:
        """Whether a machine has the memory."""
        return self.memory <= self.room


Stage = Callable[[Workload, Machine, Measured], Needs]
