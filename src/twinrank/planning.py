"""Plans for a size that is not at hand: memory, disk, hours and machines of every stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

from twinrank.encoding import POOLINGS
from twinrank.encoding.feature_store import COMMIT_BYTES, KEY_BYTES
from twinrank.ranking.scoring import CELLS_A_CHUNK
from twinrank.recipe import TrainingSettings
from twinrank.training.negatives import MIN_SPEEDUP, POOL_FACTOR, saved_by_sampling
from twinrank.workload import (
    FLOAT_BYTES,
    GB,
    Constants,
    Machine,
    Workload,
    check_number,
    load_constants,
)

LOOKUP_BYTES = 100  # a text while its features are looked up: its key and its place
MEASURED_HNSW_VECTORS = 10_000
TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card
SHARE_TOLERANCE, MIN_SHARE = 0.01, 1e-9
FAISS_FIX = "divide the vectors over machines by Milvus: `twinrank index --to http://HOST:PORT`"
NOT_PLANNED = (
    "not planned: reading and checking the data set, choosing sentences, networks, copies for "
    "safety, retries"
)
SIZES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
DURATIONS = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
Index = Literal["exact", "sampled"]


@dataclass(frozen=True)
class Requirement:
    """The needs of one stage."""

    stage: str
    memory: float  # bytes in the machine that needs most
    seconds: float  # of one machine that does all of it; of a service, a query
    note: str
    mend: str = ""  # how to go on where memory does not suffice
    disk: float = 0.0  # bytes that stay, over all machines
    machines: int = 1  # 0 where none is kept busy
    room: float = 0.0  # bytes that a machine has
    rests_on: tuple[str, ...] = ()  # names of the constants
    share: float = 1.0  # of the answers and queries for which a machine has the memory

    @property
    def fits(self) -> bool:
        """Whether a machine has the memory."""
        return self.memory <= self.room


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


Stage = Callable[[Workload, Machine, Constants], Requirement]


def plan(
    workload: Workload,
    machine: Machine,
    constants: Constants | None = None,
    *,
    within_hours: float = 24.0,
) -> Plan:
    """Estimate the needs of a workload on machines of one kind.

    Without `constants` they are the package's; encoding takes as many machines as do it in time.

    Raises:
        PlanError: if no time is left.
    """
    within_s = 3600 * check_number("within", within_hours, 0.001)
    constants, recipe, stages = constants or load_constants(), workload.recipe, list[Stage]()
    if recipe.encoder:
        stages += [partial(_encode, within_s=within_s), _store]
    if recipe.training:
        stages += [partial(_train, index="exact"), partial(_train, index="sampled")]
    if recipe.words or recipe.fused:
        stages.append(_weigh)
    if recipe.encoder:
        stages += [_index_flat, _index_hnsw, _index_milvus]
    stages.append(partial(_serve, indexed=False))
    if recipe.encoder:
        stages.append(partial(_serve, indexed=True))
    needs = tuple(_estimate(stage, workload, machine, constants) for stage in stages)
    return Plan(workload, machine, needs, _list_assumptions(workload, machine, needs, constants))


def _estimate(stage: Stage, w: Workload, machine: Machine, c: Constants) -> Requirement:
    """Estimate a stage and, if it does not fit, the share of answers and queries that does."""
    noted = replace(c, read={})
    needs = stage(w, machine, noted)
    room = needs.room or machine.memory
    needs = replace(needs, room=room, rests_on=tuple(noted.read))
    low, high = 0.0, 1.0
    while not needs.fits and high - low > SHARE_TOLERANCE * high and high > MIN_SHARE:
        share = (low + high) / 2
        less = {name: max(1.0, share * getattr(w, name)) for name in ("answers", "queries")}
        fits = stage(replace(w, **less), machine, c).memory <= room
        low, high = (share, high) if fits else (low, share)
    return replace(needs, share=1.0 if needs.fits else low)


def _list_assumptions(
    w: Workload, machine: Machine, stages: Sequence[Requirement], constants: Constants
) -> tuple[str, ...]:
    """Say each constant that a stage rests on, measured ones first."""
    names = dict.fromkeys(name for stage in stages for name in stage.rests_on)
    names |= dict.fromkeys((*machine.assumed, *(["epochs"] if w.epochs else [])))
    lines = [constants.lines[name] for name in names]
    measured = [line for line in lines if line.startswith("measured")]
    assumed = [line for line in lines if not line.startswith("measured")]
    texts = (
        f"{w.source}: {w.sections:.3g} passages an answer, {w.passage_tokens:,.0f} tokens a "
        f"passage and {w.query_tokens:,.0f} a query, {w.validation:,.0f} validation queries"
    )
    if gpu := machine.gpu:
        published = (
            f"published: {gpu.name}: {gpu.memory_gb:g} GB at {gpu.bandwidth_gb_s:,g} GB/s, "
            f"{gpu.bf16_tflop_s:g} TFLOP/s in bf16 without sparsity, {gpu.fp32_tflop_s:g} in fp32"
        )
        estimates = "assumed: a GPU's figures are estimates from these; none was measured"
        assumed = [published, estimates, *assumed]
    else:
        assumed.append("assumed: work on a processor divides over its cores without loss")
    return (texts, *measured, constants.source, *assumed, NOT_PLANNED)


def _encode(w: Workload, machine: Machine, c: Constants, *, within_s: float) -> Requirement:
    """Encode all texts, by as many machines as do it in time; one process has all texts."""
    flop = w.passages * w.encoder.flop(w.passage_tokens)
    flop += (w.queries + w.validation) * w.encoder.flop(w.query_tokens)
    seconds = _encode_s(flop, w.texts, machine, c)
    if machine.gpu:  # unless its host makes tokens more slowly than it takes them
        seconds = max(seconds, w.tokens / (c["tokenise_tokens_s"] * machine.cores))
    else:
        seconds /= machine.cores
    uncommitted = min(COMMIT_BYTES, w.texts * stored_text_bytes(w.encoder.width))
    memory = c["process_bytes"] + uncommitted + w.tokens * c["encode_token_bytes"]
    memory += w.texts * (LOOKUP_BYTES + w.encoder.width * FLOAT_BYTES)
    note = f"{w.texts:.3g} texts, {w.tokens:.3g} tokens"
    mend = "one process holds all texts: encode them in parts, the store adds up"
    machines = max(1, math.ceil(seconds / within_s))
    return Requirement("encode", memory, seconds, note, mend, machines=machines)


def _encode_s(flop: float, texts: float, machine: Machine, c: Constants) -> float:
    """Count seconds of the GPU, or of one core, to encode texts of so many FLOPs."""
    if gpu := machine.gpu:
        return flop / (gpu.bf16_tflop_s * 1e12 * c["gpu_encode_share"])
    return flop / c["encode_flop_s"] + texts * c["encode_text_s"]


def _store(w: Workload, _machine: Machine, _c: Constants) -> Requirement:
    """Keep a key and both poolings of each text in the feature store."""
    a_text = stored_text_bytes(w.encoder.width)
    note, disk = f"{a_text:,} bytes a text", w.texts * a_text
    return Requirement("feature store", 0.0, 0.0, note, disk=disk, machines=0)


def stored_text_bytes(width: int) -> int:
    """Count the bytes of a text in the feature store, without SQLite's own (7 %, 384 wide)."""
    return KEY_BYTES + len(POOLINGS) * width * FLOAT_BYTES


@dataclass(frozen=True)
class TrainingStep:
    """The computations of a step of training."""

    flop: float  # of its matrix products
    scores: float  # of queries against passages and past queries
    fresh: float  # numbers of the vectors that it projects and moves
    old: float = 0.0  # numbers of the vectors that it looks through

    def seconds(self, machine: Machine, c: Constants) -> float:
        """Count seconds on all of a machine's cores, or its GPU."""
        if gpu := machine.gpu:
            rate = c["gpu_train_share"] * gpu.fp32_tflop_s * 1e12
            bandwidth = c["gpu_bandwidth_share"] * gpu.bandwidth_gb_s * 1e9
            numbers = c["gpu_passes"] * (self.scores + self.fresh) + self.old
            return self.flop / rate + FLOAT_BYTES * numbers / bandwidth + c["gpu_step_s"]
        work = self.flop / c["train_flop_s"] + self.scores * c["train_cell_s"]
        work += self.fresh * c["train_fresh_s"]
        work += self.old * c["train_stale_s"] if self.old else 0.0
        return work / machine.cores + c["train_step_s"]


def count_step(w: Workload, index: Index) -> TrainingStep:
    """Count a step's computations; towers have two layers, and inputs no slopes.

    That makes five products, not six. A sample saves projections of answers, scores, and votes of
    past queries for answers that are not in it, but looks through a pool of old vectors.
    """
    settings, width = w.recipe.training or TrainingSettings(), w.encoder.width
    batch, share = min(settings.batch_size, w.queries), _share_projected(w, index)
    passages, past = share * w.passages, share * w.past
    pool = min(POOL_FACTOR * settings.answer_sample, w.answers) if index == "sampled" else 0.0
    towers = 5 * 2 * width**2 * (passages + batch)
    flop = towers + 2 * batch * width * (3 * passages + 2 * past + pool)
    fresh = width * (passages + batch + _count_offsets(w))
    return TrainingStep(flop, batch * (passages + past + pool), fresh, width * pool)


def _share_projected(w: Workload, index: Index) -> float:
    """Give the share of the answers that a step projects; those of a batch hardly ever repeat."""
    settings = w.recipe.training or TrainingSettings()
    sample = min(settings.batch_size, w.queries) + settings.answer_sample
    return min(1.0, sample / w.answers) if index == "sampled" else 1.0


def _count_offsets(w: Workload) -> float:
    return w.answers if w.recipe.towers and w.recipe.towers.offsets else 0.0


def _train(w: Workload, machine: Machine, c: Constants, *, index: Index) -> Requirement:
    """Fit towers against an index of answers: epochs of steps, each followed by a validation."""
    settings, width = w.recipe.training or TrainingSettings(), w.encoder.width
    step = count_step(w, index)
    step_s = step.seconds(machine, c)
    steps = math.ceil(w.queries / settings.batch_size)
    memory = _training_bytes(w, index, c)
    scores = w.validation * (w.passages + w.past)
    extra = [TrainingStep(2 * width * scores, scores, 0.0)]
    if index == "sampled":  # old vectors are renewed
        renewed = width * w.passages
        extra.append(TrainingStep(2 * 2 * width * renewed, 0.0, renewed))
    epoch_s = steps * step_s + sum(step.seconds(machine, c) for step in extra)
    room = machine.gpu.memory_gb * GB if machine.gpu else machine.memory
    chosen: str = settings.index
    if chosen == "auto":
        counts = (math.ceil(number) for number in (w.answers, w.passages, w.queries))
        slow = saved_by_sampling(settings, *counts) >= MIN_SPEEDUP
        chosen = "sampled" if slow or _training_bytes(w, "exact", c) > room else "exact"
    recipes = "as the recipe has it; " if chosen == index else ""
    return Requirement(
        f"training, {index} index",
        memory,
        w.epochs * epoch_s,
        f"{recipes}{w.epochs:.0f} epochs of {steps:,} steps, {format_duration(step_s)} each",
        "every process of a team holds all of it: train on a sample of answers and queries",
        room=room,
    )


def _training_bytes(w: Workload, index: Index, c: Constants) -> float:
    """Count bytes of training, in a step or, if that is more, in validation."""
    step, width = count_step(w, index), w.encoder.width
    always = width * w.passages * c["train_vector_copies"]
    always += width * w.queries * c["train_query_copies"]
    always += width * _count_offsets(w) * c["train_offset_copies"]
    in_step = step.scores * c["train_cell_copies"]
    in_step += width * _share_projected(w, index) * w.passages * c["train_fresh_copies"]
    chunk = min(w.validation, max(1.0, CELLS_A_CHUNK / max(w.passages, w.past, 1.0)))
    validation = chunk * (w.passages + w.past) * c["score_cell_copies"]
    return c["process_bytes"] + FLOAT_BYTES * (always + max(in_step, validation))


def _weigh(w: Workload, _machine: Machine, c: Constants) -> Requirement:
    """Index words and weigh signals on validation, on the processor."""
    cells = w.validation * w.answers
    memory = w.word_tokens * c["words_token_bytes"] + cells * c["fuse_cell_bytes"]
    passages_s = w.passages * c["rank_passage_s"] if w.recipe.encoder else 0.0
    seconds = TIMES_SCORED * w.validation * (passages_s + _votes_s(w, c))
    return Requirement(
        "words and weights",
        c["process_bytes"] + memory,
        w.word_tokens * c["words_token_s"] + cells * c["fuse_cell_s"] + seconds,
        "words are indexed again whenever the ranker is loaded",
        "label fewer validation queries, or leave [words] out of the recipe",
    )


def _votes_s(w: Workload, c: Constants) -> float:
    """Count seconds that words and votes of past queries take for every answer."""
    seconds = w.answers * c["rank_answer_s"] if w.recipe.words or w.recipe.memory else 0.0
    return seconds + (w.past * c["rank_past_s"] if w.past else 0.0)


def _index_flat(w: Workload, _machine: Machine, c: Constants) -> Requirement:
    """Put vectors into FAISS, where a search compares every one."""
    search = format_duration(w.passages * w.encoder.width * c["flat_search_float_s"])
    memory = c["process_bytes"] + c["index_copies"] * w.vector_bytes
    disk = w.passages * c["flat_vector_bytes"] + w.vector_bytes
    seconds, note = w.passages * c["flat_vector_s"], f"a search takes {search}"
    return Requirement("index, FAISS flat", memory, seconds, note, FAISS_FIX, disk)


def _index_hnsw(w: Workload, machine: Machine, c: Constants) -> Requirement:
    """Build a graph in FAISS, O(n log n) as Malkov and Yashunin (2016) have it."""
    vector_s = c["hnsw_vector_s"] + _count_doublings(w) * c["hnsw_doubling_s"]
    seconds, memory = w.passages * vector_s / machine.cores, c["process_bytes"]
    memory += c["index_copies"] * (disk := _hnsw_bytes(w, c))
    note = f"a search takes {format_duration(_hnsw_search_s(w, c))}"
    return Requirement("index, FAISS HNSW", memory, seconds, note, FAISS_FIX, disk)


def _index_milvus(w: Workload, machine: Machine, c: Constants) -> Requirement:
    """Put vectors into a Milvus cluster of as many machines as have the memory."""
    total, disk = (w.passages * c[f"milvus_{name}_a_vector"] for name in ("bytes", "disk"))
    machines = max(1, math.ceil(total / machine.memory))
    seconds = w.passages * c["milvus_s_a_vector"]
    note = "one replica; hours as if one machine indexed all"
    return Requirement(
        "index, Milvus", total / machines, seconds, note, disk=disk, machines=machines
    )


def _hnsw_bytes(w: Workload, c: Constants) -> float:
    return w.vector_bytes + w.passages * c["hnsw_vector_bytes"]


def _hnsw_search_s(w: Workload, c: Constants) -> float:
    return c["hnsw_search_s"] + _count_doublings(w) * c["hnsw_search_doubling_s"]


def _count_doublings(w: Workload) -> float:
    return max(0.0, math.log2(w.passages / MEASURED_HNSW_VECTORS))


def _serve(w: Workload, machine: Machine, c: Constants, *, indexed: bool) -> Requirement:
    """Rank questions: score every answer, or the candidates of an index."""
    texts = w.ranked_tokens * c["token_bytes"]
    past_bytes = w.past * w.encoder.width * FLOAT_BYTES
    shared = w.vector_bytes + past_bytes if w.recipe.encoder else 0.0
    shared += _hnsw_bytes(w, c) if indexed else 0.0
    worker = c["process_bytes"] + texts + w.word_tokens * c["words_token_bytes"]
    workers = min(machine.cores, max(1, int((machine.memory - shared) / worker)))
    core_s, gpu_s = _rank_s(w, machine, c, indexed=indexed)
    busy = max(w.qps * core_s / workers, w.qps * gpu_s)
    return Requirement(
        "serving, by FAISS HNSW" if indexed else "serving, all answers",
        shared + workers * worker,
        core_s + gpu_s,
        f"{workers} workers a machine; time is of a query among others",
        "the ranker holds vectors, past queries and words: leave [memory] and [words] out, "
        "or keep fewer past queries",
        disk=shared + texts,
        machines=max(1, math.ceil(busy / c["load_share"])),
    )


def _rank_s(w: Workload, machine: Machine, c: Constants, *, indexed: bool) -> tuple[float, float]:
    """Count seconds of a core, and of the GPU, to rank a query that comes with others."""
    core_s = c["rank_query_s"] + _votes_s(w, c)
    if not w.recipe.encoder:
        return core_s, 0.0
    core_s += _hnsw_search_s(w, c) if indexed else w.passages * c["rank_passage_s"]
    core_s += w.query_tokens / c["tokenise_tokens_s"] if machine.gpu else 0.0
    encode_s = _encode_s(w.encoder.flop(w.query_tokens), 1, machine, c)
    return (core_s, encode_s) if machine.gpu else (core_s + encode_s, 0.0)


def format_size(count: float) -> str:
    """Write bytes for people: 1.23 GB."""
    return _format(count, SIZES)


def format_duration(seconds: float) -> str:
    """Write seconds for people: 1.23 h."""
    return _format(seconds, DURATIONS)


def _format(value: float, units: Sequence[tuple[float, str]]) -> str:
    size, unit = next((u for u in units if value >= u[0]), units[-1])
    shown = value / size
    return f"{shown:,.0f} {unit}" if shown >= 99.95 else f"{shown:.3g} {unit}"
