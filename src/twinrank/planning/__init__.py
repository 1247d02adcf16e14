"""Plans for a size that is not at hand: memory, disk, hours, machines."""

from twinrank.planning.constants import Machine, find_machine, load_constants
from twinrank.planning.estimate import Requirement
from twinrank.planning.plan import Plan, plan
from twinrank.planning.workload import Shape, Workload, build_workload, read_shape

__all__ = [
    "Machine",
    "Plan",
    "Requirement",
    "Shape",
    "Workload",
    "build_workload",
    "find_machine",
    "load_constants",
    "plan",
    "read_shape",
]
