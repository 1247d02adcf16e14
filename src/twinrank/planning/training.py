"""Fitting towers on stored features, and weighing the channels beside them."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple

from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.machine import Machine
from twinrank.planning.needs import FLOAT, Needs, Stage
from twinrank.planning.units import duration
from twinrank.planning.workload import Workload
from twinrank.recipe import TrainingSettings

TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card
Index = Literal["exact", "stale"]


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
        vectors: of all passages and offsets.
        queries: of the labelled queries.
        scores: of a step.
    """

    fresh: float
    vectors: float
    queries: float
    scores: float


def train(index: Index) -> Stage:
    """The stage that fits towers against an exact or a stale index."""
    return partial(_train, index=index)


def _train(w: Workload, machine: Machine, c: Measured, *, index: Index) -> Needs:
    own = w.recipe.training is not None and w.recipe.training.index == index
    each = step_seconds(step_of(w, index), machine, c)
    epoch = epoch_seconds(w, index, machine, c)
    return Needs(
        stage=f"training, {index} index",
        memory=training_bytes(held_of(w, index), c),
        room=machine.training_memory,
        disk=0.0,
        seconds=w.epochs * epoch,
        machines=1,
        note=f"{'as the recipe has it; ' if own else ''}{w.epochs:.0f} epochs of {steps_of(w):,} "
        f"steps, {duration(each)} each",
        mend="every process of a team holds all of it: train on a sample of answers and queries",
        rests_on=_train_constants(machine, index),
    )


def fuse(w: Workload, machine: Machine, c: Measured) -> Needs:
    """The stage that indexes words and weighs channels on validation, on the processor."""
    tokens, cells = word_tokens(w), w.validation * w.answers
    scored = TIMES_SCORED * w.validation * scored_seconds(w, c)
    return Needs(
        stage="words and weights",
        memory=c.process_bytes + tokens * c.words_token_bytes + cells * c.fuse_cell_bytes,
        room=machine.memory,
        disk=0.0,
        seconds=tokens * c.words_token_s + cells * c.fuse_cell_s + scored,
        machines=1,
        note="words are indexed again whenever the ranker is loaded",
        mend="label fewer validation queries, or leave [words] out of the recipe",
        rests_on=(
            *("words_token_bytes", "words_token_s", "fuse_cell_bytes", "fuse_cell_s"),
            *("rank_passage_s", "rank_answer_s", "rank_past_s", "process_bytes"),
        ),
    )


def scored_seconds(w: Workload, c: Measured) -> float:
    """Seconds of a core to score every answer for a query whose features are known."""
    words = w.answers * c.rank_answer_s if w.recipe.fused or w.recipe.words else 0.0
    past = w.queries * c.rank_past_s if w.recipe.memory else 0.0
    passages = w.passages * c.rank_passage_s if w.recipe.encoder else 0.0
    return passages + words + past


def word_tokens(w: Workload) -> float:
    """Tokens of the texts whose words are indexed: of answers, and of past queries."""
    if not w.recipe.words:
        return 0.0
    past = w.queries * w.query_tokens if w.recipe.memory else 0.0
    return w.passages * w.passage_tokens + past


def steps_of(w: Workload) -> int:
    """Steps of an epoch."""
    return math.ceil(w.queries / _settings(w).batch_size)


def step_of(w: Workload, index: Index) -> Step:
    """What a step computes; towers have two layers, and inputs no slopes: five products, not six.

    A stale index saves the projections of answers; scores are against all of them either way.
    """
    batch, d = _batch(w), w.width
    past = w.queries if w.recipe.memory else 0.0
    fresh = _fresh(w, index)
    towers = 5 * 2 * d**2 * (fresh + batch)
    flop = towers + 3 * 2 * batch * d * w.passages + 2 * 2 * batch * d * past
    stale = d * (w.passages - fresh)
    return Step(flop, batch * (w.passages + past), d * (fresh + batch + _offsets(w)), stale)


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
    """Seconds of an epoch: its steps, and all validation queries scored once."""
    width, past = w.width, w.queries if w.recipe.memory else 0.0
    scores = w.validation * (w.passages + past)
    measured = Step(2 * width * scores, scores, 0.0, 0.0)
    steps = steps_of(w) * step_seconds(step_of(w, index), machine, c)
    return steps + step_seconds(measured, machine, c)


def held_of(w: Workload, index: Index) -> Held:
    """What training holds, in numbers."""
    step = step_of(w, index)
    vectors = w.width * (w.passages + _offsets(w))
    return Held(w.width * _fresh(w, index), vectors, w.width * w.queries, step.scores)


def training_bytes(held: Held, c: Measured) -> float:
    """Bytes that training holds, with its process."""
    copies = held.fresh * c.train_fresh_copies + held.vectors * c.train_vector_copies
    copies += held.queries * c.train_query_copies + held.scores * c.train_cell_copies
    return c.process_bytes + FLOAT * copies


def _settings(w: Workload) -> TrainingSettings:
    return w.recipe.training or TrainingSettings()


def _batch(w: Workload) -> float:
    return min(_settings(w).batch_size, w.queries)


def _fresh(w: Workload, index: Index) -> float:
    return w.passages if index == "exact" else min(_settings(w).answer_batch, w.passages)


def _offsets(w: Workload) -> float:
    return w.answers if w.recipe.towers and w.recipe.towers.offsets else 0.0


def _train_constants(machine: Machine, index: Index) -> tuple[str, ...]:
    held: tuple[str, ...] = (
        "process_bytes",
        "train_vector_copies",
        "train_query_copies",
        "train_cell_copies",
    )
    if index == "exact":
        held += ("train_fresh_copies",)
    rates: tuple[str, ...]
    if machine.gpu:
        rates = ("gpu_train_share", "gpu_bandwidth_share", "gpu_passes", "gpu_step_s")
    else:
        rates = ("train_flop_s", "train_cell_s", "train_fresh_s", "train_step_s")
        rates += ("train_stale_s",) if index == "stale" else ()
    return (*rates, *held, "epochs")
