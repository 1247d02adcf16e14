"""Plans for a size that is not at hand: memory, disk, hours and machines of every stage.

What a size has is counted; what each of it takes is in planning_constants.toml, by stage. Small
terms are left out: a plan says the order of size, not the second.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from twinrank.data.dataset import Dataset
from twinrank.data.texts import answer_texts, section_texts
from twinrank.encoding.encoder import Encoder
from twinrank.encoding.feature_store import COMMIT_BYTES
from twinrank.encoding.model_files import resolve
from twinrank.errors import TwinrankError
from twinrank.ranking.faiss_index import kind_for
from twinrank.ranking.reader import encoder_of
from twinrank.recipe import Recipe, TrainingSettings
from twinrank.training.negatives import MIN_SPEEDUP, POOL_FACTOR, saved_by_sampling

GB = 1e9
MAX_SAMPLED_TEXTS = 2_000  # whose tokens are counted
MEASURED_HNSW_VECTORS = 10_000
TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card
HOST_CORES, HOST_GB, GB_A_CORE = 16, 192.0, 4.0  # of a machine: beside a GPU, or without one
# What a plan rests on.
TEXTS = (
    "{source}: {sections:.3g} passages an answer, {passage_tokens:,.0f} tokens a passage and "
    "{query_tokens:,.0f} a query, {validation:,.0f} validation queries"
)
MEASURED = "measured: on {on}, {date}; planning_constants.toml has each constant"
PUBLISHED = (
    "published: {name}: {memory_gb:g} GB at {bandwidth_gb_s:,g} GB/s, {bf16_tflop_s:g} TFLOP/s in "
    "bf16 without sparsity, {fp32_tflop_s:g} in fp32; a GPU's figures are estimates from "
    "these, and from what an H200 took"
)
UNDIVIDED = "assumed: work on a processor divides over its cores without loss"
NOT_PLANNED = (
    "not planned: reading and checking the data set, choosing sentences, validation between "
    "epochs, networks, copies for safety, retries"
)
CONSTANTS: dict[str, Any] = tomllib.loads(
    (resources.files("twinrank") / "planning_constants.toml").read_text(encoding="utf-8")
)
Counts = dict[str, float]


@dataclass(frozen=True)
class Machine:
    """One of the machines that a plan counts; without a GPU it computes on its cores."""

    cores: int
    memory: float  # bytes
    gpu: Mapping[str, Any] = field(default_factory=dict)  # of the constants

    @property
    def name(self) -> str:
        """Describe it in words."""
        host = f"{self.cores} cores, {self.memory / GB:,.0f} GB"
        return f"{self.gpu['name']}, beside it {host}" if self.gpu else host


def find_machine(
    *, gpu: str | None = None, cpu: int = 1, memory_gb: float | None = None
) -> Machine:
    """Find a GPU by its name, or take a number of cores; None assumes a memory."""
    if gpu is None:
        return Machine(cpu, GB * (GB_A_CORE * cpu if memory_gb is None else memory_gb))
    known = CONSTANTS["gpus"].get(gpu.lower())
    if known is None:
        names = ", ".join(CONSTANTS["gpus"])
        raise TwinrankError(f"no GPU is called {gpu!r} here; choose one of {names}")
    return Machine(HOST_CORES, GB * (HOST_GB if memory_gb is None else memory_gb), known)


class Shape(NamedTuple):
    """Layers of an encoder, and their width outside and inside."""

    layers: int
    width: int
    inner: int

    def flop(self, tokens: float) -> float:
        """Count the FLOPs of the products for a text of so many tokens, without padding."""
        matrices = 4 * self.width**2 + 2 * self.width * self.inner
        return self.layers * (2 * tokens * matrices + 4 * tokens**2 * self.width)


def read_shape(encoder: str) -> Shape:
    """Read the shape of an encoder from its configuration, in the words of BERT or DistilBERT."""
    config = resolve(encoder).config
    bert = ("num_hidden_layers", "hidden_size", "intermediate_size")
    distilbert = ("n_layers", "dim", "hidden_dim")
    sizes: list[Any] = [config.get(a, config.get(b)) for a, b in zip(bert, distilbert, strict=True)]
    if not all(isinstance(size, int) for size in sizes):
        raise TwinrankError(f"{encoder}: its config.json lacks a number in {', '.join(bert)}")
    return Shape(*sizes)


@dataclass(frozen=True)
class Workload:
    """The size that is planned for."""

    recipe: Recipe
    encoder: Shape  # of no effect if the recipe takes none
    answers: float
    queries: float  # labelled ones, to train on; they are the past queries that vote, too
    qps: float  # questions a second; 0 serves none
    sections: float  # passages an answer
    passage_tokens: float  # as the encoder reads them, on average
    query_tokens: float
    validation: float  # labelled queries, to validate on
    epochs: float
    source: str  # of the lengths of texts and the number of validation queries


def build_workload(
    recipe: Recipe,
    *,
    answers: float | None = None,
    queries: float | None = None,
    qps: float = 0.0,
    data: Dataset | None = None,
) -> Workload:
    """Build a workload whose texts are as long as those of a data set, or as assumed.

    Without a number of answers, or of queries to train on, it is the data set's.

    Raises:
        TwinrankError: if a number is missing, or the recipe's training is not planned.
        DataError: if the data set has no labels to train on.
    """
    unplanned = {
        "tuning of the encoder": recipe.tuning,
        "pre-training": recipe.pretraining,
        "more than one encoder": recipe.encoder and recipe.encoder.others,
    }
    if stage := next((stage for stage, asked in unplanned.items() if asked), None):
        raise TwinrankError(f"{recipe.name}: {stage} is not planned; give a recipe without it")
    assumed, encoder = CONSTANTS["assumed"], encoder_of(recipe)
    in_sections = recipe.encoder is not None and recipe.encoder.answers == "sections"
    source = "assumed, as in mozilla-support"
    sizes: dict[str, float] = {
        "sections": assumed["sections"] if in_sections else 1.0,
        "passage_tokens": assumed["passage_tokens"],
        "query_tokens": assumed["query_tokens"],
        "validation": assumed["validation_queries"],
    }
    if data is not None:
        source, trained = f"counted in {data.name}", data.split("train").texts
        passages = section_texts(data.answers)[0] if in_sections else answer_texts(data.answers)
        sizes = {
            "sections": len(passages) / data.answers.height,
            "passage_tokens": _average_tokens(passages, encoder),
            "query_tokens": _average_tokens(trained, encoder),
            "validation": sum(data.labelled().get("validation", {}).values()),
        }
        answers = data.answers.height if answers is None else answers
        queries = len(trained) if queries is None else queries
    if answers is None or queries is None:
        raise TwinrankError("give --answers and --queries, or a data set (--data) that has both")
    epochs = min(assumed["epochs"], recipe.training.epochs) if recipe.training else 0
    shape = read_shape(encoder.name)
    return Workload(recipe, shape, answers, queries, qps, **sizes, epochs=epochs, source=source)


def _average_tokens(texts: Sequence[str], encoder: Encoder) -> float:
    """Average the tokens that the encoder reads of a text, by a sample of the texts."""
    rows = np.linspace(0, len(texts) - 1, min(MAX_SAMPLED_TEXTS, len(texts))).astype(int)
    counts = encoder.count_tokens([texts[row] for row in rows])
    return float(np.minimum(counts, encoder.max_tokens).mean())


@dataclass(frozen=True)
class Requirement:
    """What a stage takes."""

    stage: str
    memory: float  # bytes, in the machine that has most
    seconds: float  # of one machine; of serving: of a query
    note: str
    mend: str  # where it does not fit
    disk: float  # bytes that stay, over all machines
    machines: int = 1
    room: float = 0.0  # bytes that a machine has

    @property
    def fits(self) -> bool:
        """Whether a machine has the memory."""
        return self.memory <= self.room


@dataclass(frozen=True)
class Plan:
    """The needs of every stage, and what they rest on, a line each."""

    workload: Workload
    machine: Machine
    stages: tuple[Requirement, ...]
    assumptions: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        sizes = {n: v for n, v in vars(self.workload).items() if isinstance(v, int | float)}
        return {
            "recipe": self.workload.recipe.name,
            **sizes,
            "machine": self.machine.name,
            "stages": [{**asdict(stage), "fits": stage.fits} for stage in self.stages],
            "assumptions": list(self.assumptions),
        }


def plan(workload: Workload, machine: Machine, *, within_hours: float = 24.0) -> Plan:
    """Estimate the needs of a workload on machines of one kind.

    Encoding takes as many machines as do it in time.

    Raises:
        TwinrankError: if a number is too small, or not finite.
    """
    for name, value, least in (
        *(("answers", workload.answers, 1), ("queries", workload.queries, 1)),
        *(("qps", workload.qps, 0), ("within", within_hours, 0.001)),
        ("memory", machine.memory / GB, 0.001),
    ):
        if not least <= value < math.inf:
            raise TwinrankError(f"{name} is {value:g}; give a number of {least:g} or more")
    recipe, counts, stages = workload.recipe, _count(workload, machine), list[Requirement]()
    if recipe.encoder:
        note = (
            f"{counts['texts']:.3g} texts, {counts['tokens']:.3g} tokens; disk of the feature store"
        )
        encode = _estimate("encode", counts, machine, note=note)
        machines = max(1, math.ceil(encode.seconds / (3600 * within_hours)))
        memory = encode.memory + min(COMMIT_BYTES, encode.disk)
        stages.append(replace(encode, memory=memory, machines=machines))
    if recipe.training:
        stages.append(_train(workload, machine, counts))
    if recipe.words or recipe.fused:
        note = "words are indexed again whenever the ranker is loaded"
        words = _estimate("words", counts, machine, "words and weights", note)
        ranking_s = _add("serving", "core_s", counts) + _add("serving", "search_s", counts)
        seconds = words.seconds + TIMES_SCORED * workload.validation * ranking_s
        stages.append(replace(words, seconds=seconds))
    if recipe.encoder:
        kind = kind_for(math.ceil(counts["vectors"]))
        note = f"a search takes {format_duration(_add(kind, 'search_s', counts))}"
        stages.append(_estimate(kind, counts, machine, f"index, FAISS {kind}", note))
        note = "one replica; time as if of one machine"
        milvus = _estimate("milvus", counts, machine, "index, Milvus", note)
        machines = max(1, math.ceil(milvus.memory / machine.memory))
        stages.append(replace(milvus, memory=milvus.memory / machines, machines=machines))
    stages.append(_serve(workload, machine, counts, indexed=False))
    if recipe.encoder:
        stages.append(_serve(workload, machine, counts, indexed=True))
    stages = [replace(stage, room=stage.room or machine.memory) for stage in stages]
    return Plan(workload, machine, tuple(stages), _list_assumptions(workload, machine))


def _count(w: Workload, machine: Machine) -> Counts:
    """Count what the constants are amounts for; what the recipe does without is 0."""
    passages, queries = w.answers * w.sections, w.queries + w.validation
    past = w.queries if w.recipe.memory else 0.0
    held_tokens = passages * w.passage_tokens + past * w.query_tokens
    flop = passages * w.encoder.flop(w.passage_tokens) + queries * w.encoder.flop(w.query_tokens)
    vectors, width = (passages, w.encoder.width) if w.recipe.encoder else (0.0, 0)
    doublings = max(0.0, math.log2(passages / MEASURED_HNSW_VECTORS))
    return {
        **dict.fromkeys(("process", "query", "step"), 1.0),
        **_count_encoding(flop, passages + queries, machine),
        "tokens": passages * w.passage_tokens + queries * w.query_tokens,
        "text_floats": (passages + queries) * width,
        "query_floats": w.queries * width,
        "vectors": vectors,
        "floats": vectors * width,
        "doublings": doublings,
        "vector_doublings": vectors * doublings,
        "past": past,
        "past_floats": past * width,
        "held_tokens": held_tokens,
        "word_tokens": held_tokens if w.recipe.words else 0.0,
        "worded_answers": w.answers if w.recipe.words or w.recipe.memory else 0.0,
        "cells": w.validation * w.answers,
    }


def _count_encoding(flop: float, texts: float, machine: Machine) -> Counts:
    peak = 1e12 * machine.gpu.get("bf16_tflop_s", math.inf)
    return {"texts": texts, "flop": flop, "bf16_s": flop / peak}


def count_step(w: Workload, machine: Machine, *, sampled: bool) -> Counts:
    """Count a training step: FLOPs of products, scores, and numbers of vectors that it moves.

    Towers have two layers, and inputs no slopes: that makes five products, not six. A sample saves
    projections of answers, scores, and votes of past queries for answers that are not in it, but
    looks through a pool of old vectors.
    """
    settings, width = w.recipe.training or TrainingSettings(), w.encoder.width
    batch = min(settings.batch_size, w.queries)
    share = min(1.0, (batch + settings.answer_sample) / w.answers) if sampled else 1.0
    pool = min(POOL_FACTOR * settings.answer_sample, w.answers) if sampled else 0.0
    passages = share * w.answers * w.sections
    past = share * w.queries if w.recipe.memory else 0.0
    flop = 5 * 2 * width**2 * (passages + batch)
    flop += 2 * batch * width * (3 * passages + 2 * past + pool)
    offsets = w.answers if w.recipe.towers and w.recipe.towers.offsets else 0.0
    scores, floats = batch * (passages + past + pool), width * (passages + offsets)
    return {
        "step_flop": flop,
        "step_fp32_s": flop / (1e12 * machine.gpu.get("fp32_tflop_s", math.inf)),
        "step_scores": scores,
        "step_floats": floats,
        "step_bytes_s": 4 * (scores + floats) / (1e9 * machine.gpu.get("bandwidth_gb_s", math.inf)),
    }


def _add(stage: str, kind: str, counts: Counts) -> float:
    """Add up the memory, disk or seconds of a stage by its constants."""
    amounts: dict[str, float] = CONSTANTS[stage].get(kind, {})
    return sum(amount * counts[name] for name, amount in amounts.items())


def _estimate(
    name: str, counts: Counts, machine: Machine, title: str = "", note: str = ""
) -> Requirement:
    if machine.gpu and "gpu_s" in CONSTANTS[name]:
        seconds = _add(name, "gpu_s", counts)
    else:
        seconds = _add(name, "core_s", counts) + _add(name, "cores_s", counts) / machine.cores
    memory, disk = _add(name, "memory", counts), _add(name, "disk", counts)
    return Requirement(title or name, memory, seconds, note, CONSTANTS[name].get("mend", ""), disk)


def _train(w: Workload, machine: Machine, counts: Counts) -> Requirement:
    """Fit towers, against all answers or a sample of them, as training itself would choose."""
    settings = w.recipe.training or TrainingSettings()
    room = machine.gpu["memory_gb"] * GB if machine.gpu else machine.memory
    exact, sample = (
        _estimate("training", counts | count_step(w, machine, sampled=sampled), machine)
        for sampled in (False, True)
    )
    numbers = (math.ceil(number) for number in (w.answers, counts["vectors"], w.queries))
    is_needed = saved_by_sampling(settings, *numbers) >= MIN_SPEEDUP or exact.memory > room
    sampled = settings.index == "sampled" or (settings.index == "auto" and is_needed)
    step, steps = sample if sampled else exact, math.ceil(w.queries / settings.batch_size)
    return replace(
        step,
        stage=f"training, {'sampled' if sampled else 'exact'} index",
        seconds=w.epochs * steps * step.seconds,
        note=f"{w.epochs:.0f} epochs of {steps:,} steps, {format_duration(step.seconds)} each",
        room=room,
    )


def _serve(w: Workload, machine: Machine, counts: Counts, *, indexed: bool) -> Requirement:
    """Rank questions: score every answer, or the candidates of an index."""
    stage = "serving, by FAISS HNSW" if indexed else "serving, all answers"
    serving, encoding_s = _estimate("serving", counts, machine, stage), 0.0
    ranking_s = serving.seconds + _add("hnsw" if indexed else "serving", "search_s", counts)
    if w.recipe.encoder:
        query = _count_encoding(w.encoder.flop(w.query_tokens), 1, machine)
        encoding_s = _add("encode", "gpu_s" if machine.gpu else "cores_s", query)
    index = _add("hnsw", "disk", counts) if indexed else 0.0
    shared = 4 * (counts["floats"] + counts["past_floats"]) + index
    workers = min(machine.cores, max(1, int((machine.memory - shared) / serving.memory)))
    on_gpu_s = encoding_s if machine.gpu else 0.0
    busy = w.qps * max((ranking_s + encoding_s - on_gpu_s) / workers, on_gpu_s)
    return replace(
        serving,
        memory=shared + workers * serving.memory,
        seconds=ranking_s + encoding_s,
        note=f"{workers} workers a machine; time is of a query among others",
        disk=serving.disk + index,
        machines=max(1, math.ceil(busy / CONSTANTS["assumed"]["busy_share"])),
    )


def _list_assumptions(w: Workload, machine: Machine) -> tuple[str, ...]:
    """Say what the figures rest on, a line each."""
    epochs = f", {w.epochs:,.0f} epochs" if w.epochs else ""
    return (
        TEXTS.format(**vars(w)) + epochs,
        MEASURED.format(**CONSTANTS["source"]),
        PUBLISHED.format(**machine.gpu) if machine.gpu else UNDIVIDED,
        NOT_PLANNED,
    )


def format_duration(seconds: float) -> str:
    """Write seconds for people: 1.23 h."""
    units = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
    size, unit = next((u for u in units if seconds >= u[0]), units[-1])
    count = seconds / size
    return f"{count:,.0f} {unit}" if count >= 99.95 else f"{count:.3g} {unit}"
