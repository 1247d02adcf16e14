"""Fitting towers on stored features."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple

from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.machine import Machine
from twinrank.planning.needs import FLOAT, Needs, Stage
from twinrank.planning.units import duration
from twinrank.planning.workload import Workload
from twinrank.ranking.scoring import CELLS_A_CHUNK
from twinrank.recipe import TrainingSettings
from twinrank.training.choice import WORTH, saved_by_sampling
from twinrank.training.index import POOL

Index = Literal["exact", "stale", "sampled"]


class Step(NamedTuple):
    """What a step of training computes.

    Attributes:
        flop: of its matrix products.
        scores: of queries against passages and past queries.
        fresh: numbers of the vectors that it projects and moves.
        stale: numbers of the vectors that it takes over.
    """

    flop: float
    scores: float
    fresh: float
    stale: float


class Held(NamedTuple):
    """Numbers (4 bytes each) of which training holds copies.

    Attributes:
        fresh: of the vectors that a step projects.
        vectors: of all passages.
        offsets: of answers.
        queries: of the labelled queries.
        scores: of a step.
    """

    fresh: float
    vectors: float
    offsets: float
    queries: float
    scores: float


def train(index: Index) -> Stage:
    """The stage that fits towers against an index."""
    return partial(_train, index=index)


def index_of(w: Workload, machine: Machine, c: Measured) -> Index:
    """The index that training would take: the recipe's, or what its `auto` comes to."""
    settings = _settings(w)
    if settings.index != "auto":
        return settings.index
    counts = (math.ceil(number) for number in (w.answers, w.passages, w.queries))
    slow = saved_by_sampling(settings, *counts) >= WORTH
    large = training_bytes(w, "exact", c) > machine.training_memory
    return "sampled" if slow or large else "exact"


def _train(w: Workload, machine: Machine, c: Measured, *, index: Index) -> Needs:
    own = w.recipe.training is not None and index_of(w, machine, c) == index
    each = step_seconds(step_of(w, index), machine, c)
    epoch = epoch_seconds(w, index, machine, c)
    return Needs(
        stage=f"training, {index} index",
        memory=training_bytes(w, index, c),
        room=machine.training_memory,
        disk=0.0,
        seconds=w.epochs * epoch,
        machines=1,
        note=f"{'as the recipe has it; ' if own else ''}{w.epochs:.0f} epochs of {steps_of(w):,} "
        f"steps, {duration(each)} each",
        mend="every process of a team holds all of it: train on a sample of answers and queries",
        rests_on=_train_constants(machine, index),
    )


def steps_of(w: Workload) -> int:
    """Steps of an epoch."""
    return math.ceil(w.queries / _settings(w).batch_size)


def step_of(w: Workload, index: Index) -> Step:
    """What a step computes; towers have two layers, and inputs no slopes: five products, not six.

    A stale index saves the projections of answers, and scores against all of them; a sample saves
    both, and votes of past queries for what is not in it, but looks through a pool of old vectors.
    """
    batch, d = _batch(w), w.width
    past, fresh, pool = _past(w), _fresh(w, index), 0.0
    scored, stale = w.passages, d * (w.passages - fresh)
    if index == "sampled":
        scored, pool = fresh, min(POOL * _settings(w).answer_sample, w.answers)
        past, stale = past * fresh / w.passages, d * pool
    towers = 5 * 2 * d**2 * (fresh + batch)
    flop = towers + 2 * batch * d * (3 * scored + 2 * past + pool)
    cells = batch * (scored + past + pool)
    return Step(flop, cells, d * (fresh + batch + _offsets(w)), stale)


def step_seconds(step: Step, machine: Machine, c: Measured) -> float:
    """Seconds of a step on all of a machine's cores, or its GPU."""
    if machine.gpu:
        a = Assumed.load()
        rate = a.gpu_train_share * machine.gpu.fp32_tflop_s * 1e12
        bandwidth = a.gpu_bandwidth_share * machine.gpu.bandwidth_gb_s * 1e9
        numbers = a.gpu_passes * (step.scores + step.fresh) + step.stale
        return step.flop / rate + FLOAT * numbers / bandwidth + a.gpu_step_s
    work = step.flop / c.train_flop_s + step.scores * c.train_cell_s
    work += step.fresh * c.train_fresh_s + step.stale * c.train_stale_s
    return work / machine.cores + c.train_step_s


def epoch_seconds(w: Workload, index: Index, machine: Machine, c: Measured) -> float:
    """Seconds of an epoch: its steps, all validation queries scored once; old vectors renewed."""
    d, scores = w.width, w.validation * (w.passages + _past(w))
    parts = [Step(2 * d * scores, scores, 0.0, 0.0)]
    if index == "sampled":
        parts.append(Step(2 * 2 * d**2 * w.passages, 0.0, d * w.passages, 0.0))
    steps = steps_of(w) * step_seconds(step_of(w, index), machine, c)
    return steps + sum(step_seconds(part, machine, c) for part in parts)


def held_of(w: Workload, index: Index) -> Held:
    """What training holds while it takes steps, in numbers."""
    d, scores = w.width, step_of(w, index).scores
    return Held(d * _fresh(w, index), d * w.passages, d * _offsets(w), d * w.queries, scores)


def training_bytes(w: Workload, index: Index, c: Measured) -> float:
    """Bytes that training holds, with its process: in a step or, if that is more, in validation."""
    held = held_of(w, index)
    always = held.vectors * c.train_vector_copies + held.queries * c.train_query_copies
    always += held.offsets * c.train_offset_copies
    step = held.fresh * c.train_fresh_copies + held.scores * c.train_cell_copies
    widest = max(w.passages, _past(w), 1.0)
    at_once = min(w.validation, max(1.0, CELLS_A_CHUNK / widest))
    validation = at_once * (w.passages + _past(w)) * c.score_cell_copies
    return c.process_bytes + FLOAT * (always + max(step, validation))


def _settings(w: Workload) -> TrainingSettings:
    return w.recipe.training or TrainingSettings()


def _batch(w: Workload) -> float:
    return min(_settings(w).batch_size, w.queries)


def _fresh(w: Workload, index: Index) -> float:
    """Passages that a step projects."""
    settings = _settings(w)
    if index == "sampled":  # right answers of a batch are hardly ever the same
        return w.passages * min(1.0, (_batch(w) + settings.answer_sample) / w.answers)
    return w.passages if index == "exact" else min(settings.answer_batch, w.passages)


def _past(w: Workload) -> float:
    return w.queries if w.recipe.memory else 0.0


def _offsets(w: Workload) -> float:
    return w.answers if w.recipe.towers and w.recipe.towers.offsets else 0.0


def _train_constants(machine: Machine, index: Index) -> tuple[str, ...]:
    held: tuple[str, ...] = (
        "process_bytes",
        "train_vector_copies",
        "train_offset_copies",
        "score_cell_copies",
        "train_query_copies",
        "train_cell_copies",
    )
    if index != "stale":
        held += ("train_fresh_copies",)
    rates: tuple[str, ...]
    if machine.gpu:
        rates = ("gpu_train_share", "gpu_bandwidth_share", "gpu_passes", "gpu_step_s")
    else:
        rates = ("train_flop_s", "train_cell_s", "train_fresh_s", "train_step_s")
        rates += ("train_stale_s",) if index != "exact" else ()
    return (*rates, *held, "epochs")
