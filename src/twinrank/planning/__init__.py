"""What a size that is not at hand would take: memory, disk, hours, machines."""

from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.machine import Machine, machine_of
from twinrank.planning.needs import Needs
from twinrank.planning.plan import Plan, plan
from twinrank.planning.workload import Shape, Workload, workload_of

__all__ = [
    "Assumed",
    "Machine",
    "Measured",
    "Needs",
    "Plan",
    "Shape",
    "Workload",
    "machine_of",
    "plan",
    "workload_of",
]
