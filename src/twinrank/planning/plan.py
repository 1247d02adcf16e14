"""A plan: the needs of every stage of a ranker, and the assumptions behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from twinrank.errors import PlanError
from twinrank.planning.constants import Constants, Machine, load_constants
from twinrank.planning.estimate import Estimate, Requirement
from twinrank.planning.workload import Workload
from twinrank.recipe import Recipe

HOUR_S = 3600
SHARE_TOLERANCE, MIN_SHARE = 0.01, 1e-9
NOT_PLANNED = (
    "not planned: reading and checking the data set, choosing sentences, networks, copies for "
    "safety, retries"
)


@dataclass(frozen=True)
class Plan:
    """The needs of every stage, and the assumptions behind them, a line each."""

    workload: Workload
    machine: Machine
    stages: tuple[Requirement, ...]
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        texts = ("sections", "passage_tokens", "query_tokens", "validation", "epochs")
        names = ("answers", "queries", "qps", *texts)
        return {
            "recipe": self.workload.recipe.name,
            **{name: getattr(self.workload, name) for name in names},
            "machine": self.machine.name,
            "stages": [{**asdict(stage), "fits": stage.fits} for stage in self.stages],
            "assumptions": list(self.assumptions),
        }


def plan(
    workload: Workload,
    machine: Machine,
    constants: Constants | None = None,
    *,
    within_hours: float = 24.0,
) -> Plan:
    """Estimate the needs of a workload on machines of one kind.

    Args:
        workload: the size planned for.
        machine: each of the machines.
        constants: None takes those of the package.
        within_hours: time to encode in, by as many machines as that takes.

    Raises:
        PlanError: if no time is left.
    """
    if not (math.isfinite(within_hours) and within_hours > 0):
        raise PlanError(f"within {within_hours:g} hours is no time; give more than 0")
    constants = constants or load_constants()
    stages = [
        _estimate_stage(stage, workload, machine, constants)
        for stage in _list_stages(workload.recipe, within_hours)
    ]
    lines = _list_assumptions(workload, machine, stages, constants)
    return Plan(workload, machine, tuple(stages), lines)


def _list_stages(recipe: Recipe, within_hours: float) -> list[Callable[[Estimate], Requirement]]:
    stages: list[Callable[[Estimate], Requirement]] = []
    if recipe.encoder:
        stages += [lambda e: e.encode(within_hours * HOUR_S), Estimate.store]
    if recipe.training:
        stages += [lambda e: e.train("exact"), lambda e: e.train("sampled")]
        if recipe.training.index == "stale":
            stages.append(lambda e: e.train("stale"))
    if recipe.words or recipe.fused:
        stages.append(Estimate.weigh)
    if recipe.encoder:
        stages += [Estimate.index_flat, Estimate.index_hnsw, Estimate.index_milvus]
    stages.append(lambda e: e.serve(indexed=False))
    if recipe.encoder:
        stages.append(lambda e: e.serve(indexed=True))
    return stages


def _estimate_stage(
    stage: Callable[[Estimate], Requirement], w: Workload, machine: Machine, constants: Constants
) -> Requirement:
    """Estimate a stage and, if it does not fit, the share of answers and queries that does."""
    noted = replace(constants, read={})
    needs = stage(Estimate(w, machine, noted))
    low, high = 0.0, 1.0
    while not needs.fits and high - low > SHARE_TOLERANCE * high and high > MIN_SHARE:
        share = (low + high) / 2
        less = {name: max(1.0, share * getattr(w, name)) for name in ("answers", "queries")}
        fits = stage(Estimate(replace(w, **less), machine, constants)).fits
        low, high = (share, high) if fits else (low, share)
    return replace(needs, rests_on=tuple(noted.read), share=1.0 if needs.fits else low)


def _list_assumptions(
    w: Workload, machine: Machine, stages: Sequence[Requirement], constants: Constants
) -> tuple[str, ...]:
    """Say each constant that a stage rests on, measured ones first."""
    names = dict.fromkeys(name for stage in stages for name in stage.rests_on)
    names |= dict.fromkeys((*machine.assumed, *(["epochs"] if w.epochs else [])))
    lines = [
        f"{w.source}: {w.sections:.3g} passages an answer, {w.passage_tokens:,.0f} tokens a "
        f"passage and {w.query_tokens:,.0f} a query, {w.validation:,.0f} validation queries"
    ]
    lines += [constants.line(name) for name in names if name in constants.measured]
    lines.append(constants.source)
    if gpu := machine.gpu:
        lines.append(
            f"published: {gpu.name}: {gpu.memory_gb:g} GB at {gpu.bandwidth_gb_s:,g} GB/s, "
            f"{gpu.bf16_tflop_s:g} TFLOP/s in bf16 without sparsity, {gpu.fp32_tflop_s:g} in fp32"
        )
        lines.append("assumed: a GPU's figures are estimates from these; none was measured")
    lines += [constants.line(name) for name in names if name not in constants.measured]
    if not machine.gpu:
        lines.append("assumed: work on a processor divides over its cores without loss")
    return (*lines, NOT_PLANNED)
