"""A plan: what each stage of a ranker needs, and what that rests on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from twinrank.errors import PlanError
from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.encoding import encode, store
from twinrank.planning.fusing import fuse
from twinrank.planning.indexing import flat, hnsw, milvus
from twinrank.planning.machine import Machine
from twinrank.planning.needs import Needs, Stage
from twinrank.planning.serving import serve
from twinrank.planning.training import train
from twinrank.planning.units import HOUR
from twinrank.planning.workload import Workload

SHARE_TOLD, LEAST_SHARE = 0.01, 1e-9
LEFT_OUT = (
    "not planned: reading and checking the data set, choosing sentences, networks, copies for "
    "safety, retries"
)


@dataclass(frozen=True)
class Plan:
    """What each stage needs.

    Attributes:
        workload: what is planned for.
        machine: one of the machines.
        stages: in the order of the work.
        assumptions: what all of it rests on, a line each, beginning with where it comes from.
    """

    workload: Workload
    machine: Machine
    stages: tuple[Needs, ...]
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        w = self.workload
        texts = ("sections", "passage_tokens", "query_tokens", "validation", "epochs")
        return {
            "recipe": w.recipe.name,
            **{name: getattr(w, name) for name in ("answers", "queries", "qps", *texts)},
            "machine": self.machine.name,
            "stages": [{**asdict(each), "fits": each.fits} for each in self.stages],
            "assumptions": list(self.assumptions),
        }


def plan(
    workload: Workload,
    machine: Machine,
    measured: Measured | None = None,
    *,
    within_hours: float = 24.0,
) -> Plan:
    """What a workload needs on machines of one kind.

    Args:
        workload: what is planned for.
        machine: each of them.
        measured: constants; none takes those of the package.
        within_hours: in which encoding should be done, by as many machines as that takes.

    Raises:
        PlanError: if no time is left.
    """
    if not (math.isfinite(within_hours) and within_hours > 0):
        raise PlanError(f"within {within_hours:g} hours is no time; give more than 0")
    constants = measured or Measured.load()
    stages = [
        _with_share(stage, workload, machine, constants)
        for stage in _stages(workload, within_hours)
    ]
    return Plan(
        workload, machine, tuple(stages), _assumptions(workload, machine, stages, constants)
    )


def _with_share(stage: Stage, w: Workload, machine: Machine, c: Measured) -> Needs:
    """What a stage needs and, if that does not fit, what share of answers and queries does."""
    needs = stage(w, machine, c)
    low, high = 0.0, 1.0
    while not needs.fits and high - low > SHARE_TOLD * high and high > LEAST_SHARE:
        share = (low + high) / 2
        less = {name: max(1.0, share * getattr(w, name)) for name in ("answers", "queries")}
        fits = stage(replace(w, **less), machine, c).fits
        low, high = (share, high) if fits else (low, share)
    return needs if needs.fits else replace(needs, share=low)


def _stages(workload: Workload, within_hours: float) -> list[Stage]:
    recipe = workload.recipe
    found: list[Stage] = []
    if recipe.encoder:
        found += [encode(within_hours * HOUR), store]
    if recipe.training:
        found += [train("exact"), train("sampled")]
        found += [train("stale")] if recipe.training.index == "stale" else []
    if recipe.words or recipe.fused:
        found += [fuse]
    if recipe.encoder:
        found += [flat, hnsw, milvus]
    found += [serve(indexed=False)]
    return [*found, serve(indexed=True)] if recipe.encoder else found


def _assumptions(
    w: Workload, machine: Machine, stages: list[Needs], c: Measured
) -> tuple[str, ...]:
    """Each constant that a stage rests on, measured ones first, and where it comes from."""
    lengths = (
        f"{w.source}: {w.sections:.3g} passages an answer, {w.passage_tokens:,.0f} tokens a "
        f"passage and {w.query_tokens:,.0f} a query, {w.validation:,.0f} validation queries"
    )
    named = dict.fromkeys(name for stage in stages for name in stage.rests_on)
    named |= dict.fromkeys(machine.assumed)
    assumed = Assumed.load()
    lines = [lengths]
    lines += [f"measured: {c.line(name)}" for name in named if name in Measured.model_fields]
    lines.append(f"measured by `{c.command}`, {c.date}, {c.on}")
    if machine.gpu:
        of = machine.gpu
        lines.append(
            f"published: {of.name}: {of.memory_gb:g} GB at {of.bandwidth_gb_s:,g} GB/s, "
            f"{of.bf16_tflop_s:g} TFLOP/s in bf16 without sparsity, {of.fp32_tflop_s:g} in fp32"
        )
        lines.append("assumed: a GPU's figures are estimates from these; none was measured")
    lines += [f"assumed: {assumed.line(name)}" for name in named if name in Assumed.model_fields]
    cores = "assumed: work on a processor divides over its cores without loss"
    return (*lines, *(() if machine.gpu else (cores,)), LEFT_OUT)
