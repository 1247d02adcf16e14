"""Plans for a size that is not at hand: memory, disk, hours and machines of every stage.

Products, bytes and searches are counted; how fast a core or GPU does them is in
planning_constants.toml. Small terms are left out: a plan says the order of size, not the second.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import Any, Literal

import numpy as np
import polars as pl

from twinrank.data import Dataset, answer_texts, section_texts
from twinrank.encoding import POOLINGS, Encoder
from twinrank.encoding.feature_store import COMMIT_BYTES, KEY_BYTES
from twinrank.encoding.model_files import resolve
from twinrank.errors import PlanError
from twinrank.ranking import encoder_of
from twinrank.ranking.faiss_index import kind_for
from twinrank.recipe import Recipe, TrainingSettings
from twinrank.training.negatives import MIN_SPEEDUP, POOL_FACTOR, saved_by_sampling

GB = 1e9
FLOAT_BYTES = 4
MAX_SAMPLED_TEXTS = 2_000  # whose tokens are counted
LOOKUP_BYTES = 100  # a text while its features are looked up: its key and its place
MEASURED_HNSW_VECTORS = 10_000
HOST_CORES, HOST_GB, GB_A_CORE = 16, 192.0, 4.0  # of a machine: beside a GPU, or without one
TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card
NOT_PLANNED = (
    "not planned: reading and checking the data set, choosing sentences, validation between "
    "epochs, networks, copies for safety, retries"
)
Index = Literal["exact", "sampled"]


class Constants:
    """The package's constants by name, and the line under a plan of each that was read."""

    def __init__(self) -> None:
        packaged = resources.files("twinrank") / "planning_constants.toml"
        self.tables = tomllib.loads(packaged.read_text(encoding="utf-8"))
        self.lines: dict[str, str] = {}

    def __getitem__(self, name: str) -> float:
        kind = "measured" if name in self.tables["measured"] else "assumed"
        value, meaning = self.tables[kind][name]
        self.lines[name] = f"{kind}: {meaning}: {value:,.4g}"
        return float(value)


def check_number(name: str, value: float, least: float = 0) -> float:
    """Refuse a number that is too small, or not finite, by a PlanError."""
    if not least <= value < math.inf:
        raise PlanError(f"{name} is {value:g}; give a number of {least:g} or more")
    return float(value)


@dataclass(frozen=True)
class Gpu:
    """One card, as its maker publishes it."""

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    bf16_tflop_s: float
    fp32_tflop_s: float


@dataclass(frozen=True)
class Machine:
    """One of the machines that a plan counts; without a GPU it computes on its cores."""

    cores: int
    memory: float  # bytes
    gpu: Gpu | None = None

    @property
    def name(self) -> str:
        """Describe it in words."""
        host = f"{self.cores} cores, {self.memory / GB:,.0f} GB"
        return f"{self.gpu.name}, beside it {host}" if self.gpu else host


def find_machine(
    *, gpu: str | None = None, cpu: int = 1, memory_gb: float | None = None
) -> Machine:
    """Find a GPU by its name, or take a number of cores; None assumes a memory.

    Raises:
        PlanError: if no such GPU is known, or there is no memory.
    """
    gpus = Constants().tables["gpus"]
    if gpu and gpu.lower() not in gpus:
        raise PlanError(f"no GPU is called {gpu!r} here; choose one of {', '.join(gpus)}")
    if memory_gb is None:
        memory_gb = HOST_GB if gpu else GB_A_CORE * cpu
    memory = GB * check_number("memory", memory_gb, 0.001)
    return Machine(HOST_CORES, memory, Gpu(**gpus[gpu.lower()])) if gpu else Machine(cpu, memory)


@dataclass(frozen=True)
class Shape:
    """Layers of an encoder, and their width outside and inside."""

    layers: int
    width: int
    inner: int

    def flop(self, tokens: float) -> float:
        """Count the FLOPs of the products for a text of so many tokens, without padding."""
        matrices = 4 * self.width**2 + 2 * self.width * self.inner
        return self.layers * (2 * tokens * matrices + 4 * tokens**2 * self.width)


def read_shape(encoder: str) -> Shape:
    """Read the shape of an encoder from its configuration.

    Raises:
        EncoderError: if there is no such encoder.
        PlanError: if its configuration does not say.
    """
    config = resolve(encoder).config
    bert = ("num_hidden_layers", "hidden_size", "intermediate_size")
    distilbert = ("n_layers", "dim", "hidden_dim")
    sizes: list[Any] = [config.get(a, config.get(b)) for a, b in zip(bert, distilbert, strict=True)]
    if not all(isinstance(size, int) for size in sizes):
        raise PlanError(f"{encoder}: its config.json lacks a number in {', '.join(bert)}")
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

    def __post_init__(self) -> None:
        for name, least in {"answers": 1, "queries": 1, "qps": 0}.items():
            check_number(name, getattr(self, name), least)

    @property
    def passages(self) -> float:
        """Vectors that stand for answers."""
        return self.answers * self.sections

    @property
    def past(self) -> float:
        """Past queries that vote."""
        return self.queries if self.recipe.memory else 0.0

    @property
    def ranked_tokens(self) -> float:
        """Tokens of the texts that a ranker holds: of answers, and of past queries."""
        return self.passages * self.passage_tokens + self.past * self.query_tokens

    @property
    def vector_bytes(self) -> float:
        """Bytes of the passages' vectors alone."""
        return self.passages * self.encoder.width * FLOAT_BYTES


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
        PlanError: if a number is missing or makes no sense, or the recipe's training is not
            planned.
        DataError: if the data set has no labels to train on.
    """
    if recipe.tuning or recipe.pretraining:
        stage = "tuning of the encoder" if recipe.tuning else "pre-training"
        raise PlanError(f"{recipe.name}: {stage} is not planned; give a recipe without it")
    constants, encoder = Constants(), encoder_of(recipe)
    in_sections = recipe.encoder is not None and recipe.encoder.answers == "sections"
    source = "assumed, as in mozilla-support"
    sizes = {
        "sections": constants["sections"] if in_sections else 1.0,
        "passage_tokens": constants["passage_tokens"],
        "query_tokens": constants["query_tokens"],
        "validation": constants["validation_queries"],
    }
    if data is not None:
        source, trained = f"counted in {data.name}", data.split("train").texts
        passages = section_texts(data.answers)[0] if in_sections else answer_texts(data.answers)
        validation = data.labels.filter(pl.col("split") == "validation")["query"].n_unique()
        sizes = {
            "sections": len(passages) / data.answers.height,
            "passage_tokens": _average_tokens(passages, encoder),
            "query_tokens": _average_tokens(trained, encoder),
            "validation": float(validation),
        }
        answers = data.answers.height if answers is None else answers
        queries = len(trained) if queries is None else queries
    if answers is None or queries is None:
        raise PlanError("give --answers and --queries, or a data set (--data) that has both")
    epochs = min(constants["epochs"], recipe.training.epochs) if recipe.training else 0.0
    shape = read_shape(encoder.name)
    return Workload(recipe, shape, answers, queries, qps, **sizes, epochs=epochs, source=source)


def _average_tokens(texts: Sequence[str], encoder: Encoder) -> float:
    """Average the tokens that the encoder reads of a text, by a sample of the texts."""
    count = min(MAX_SAMPLED_TEXTS, len(texts))
    rows = np.unique(np.linspace(0, len(texts) - 1, count).astype(int))
    counts = encoder.count_tokens([texts[row] for row in rows])
    return float(np.minimum(counts, encoder.max_tokens).mean())


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
        return {
            "recipe": self.workload.recipe.name,
            **{n: getattr(self.workload, n) for n in ("answers", "queries", "qps", *texts)},
            "machine": self.machine.name,
            "stages": [{**asdict(stage), "fits": stage.fits} for stage in self.stages],
            "assumptions": list(self.assumptions),
        }


def plan(workload: Workload, machine: Machine, *, within_hours: float = 24.0) -> Plan:
    """Estimate the needs of a workload on machines of one kind.

    Encoding takes as many machines as do it in time.

    Raises:
        PlanError: if no time is left.
    """
    within_s = 3600 * check_number("within", within_hours, 0.001)
    c, recipe, stages = Constants(), workload.recipe, list[Requirement]()
    if recipe.encoder:
        stages.append(_encode(workload, machine, c, within_s))
    if recipe.training:
        stages.append(_train(workload, machine, c))
    if recipe.words or recipe.fused:
        stages.append(_weigh(workload, c))
    if recipe.encoder:
        stages += [_index_faiss(workload, machine, c), _index_milvus(workload, machine, c)]
    stages.append(_serve(workload, machine, c, indexed=False))
    if recipe.encoder:
        stages.append(_serve(workload, machine, c, indexed=True))
    stages = [replace(stage, room=stage.room or machine.memory) for stage in stages]
    return Plan(workload, machine, tuple(stages), _list_assumptions(workload, machine, c))


def _list_assumptions(w: Workload, machine: Machine, c: Constants) -> tuple[str, ...]:
    """Say each constant that was read, measured ones first."""
    measured = [line for line in c.lines.values() if line.startswith("measured")]
    assumed = [line for line in c.lines.values() if not line.startswith("measured")]
    texts = (
        f"{w.source}: {w.sections:.3g} passages an answer, {w.passage_tokens:,.0f} tokens a "
        f"passage and {w.query_tokens:,.0f} a query, {w.validation:,.0f} validation queries"
    )
    if w.epochs:
        texts += f", {w.epochs:,.0f} epochs"
    where = f"measured: on {c.tables['source']['on']}, {c.tables['source']['date']}"
    if gpu := machine.gpu:
        kind = (
            f"published: {gpu.name}: {gpu.memory_gb:g} GB at {gpu.bandwidth_gb_s:,g} GB/s, "
            f"{gpu.bf16_tflop_s:g} TFLOP/s in bf16 without sparsity, {gpu.fp32_tflop_s:g} in fp32; "
            "a GPU's figures are estimates from these, and none was measured"
        )
    else:
        kind = "assumed: work on a processor divides over its cores without loss"
    return (texts, *measured, where, *assumed, kind, NOT_PLANNED)


def _encode(w: Workload, machine: Machine, c: Constants, within_s: float) -> Requirement:
    """Encode all texts into the store, by as many machines as do it in time."""
    queries = w.queries + w.validation
    texts, tokens = w.passages + queries, w.passages * w.passage_tokens + queries * w.query_tokens
    flop = w.passages * w.encoder.flop(w.passage_tokens)
    flop += queries * w.encoder.flop(w.query_tokens)
    seconds = _encode_s(flop, texts, machine, c)
    if machine.gpu:  # unless its host makes tokens more slowly than it takes them
        seconds = max(seconds, tokens / (c["tokenise_tokens_s"] * machine.cores))
    else:
        seconds /= machine.cores
    disk = texts * stored_text_bytes(w.encoder.width)
    memory = c["process_bytes"] + tokens * c["encode_token_bytes"] + min(COMMIT_BYTES, disk)
    memory += texts * (LOOKUP_BYTES + w.encoder.width * FLOAT_BYTES)
    return Requirement(
        "encode",
        memory,
        seconds,
        f"{texts:.3g} texts, {tokens:.3g} tokens; disk of the feature store",
        "one process holds all texts: encode them in parts, the store adds up",
        disk=disk,
        machines=max(1, math.ceil(seconds / within_s)),
    )


def _encode_s(flop: float, texts: float, machine: Machine, c: Constants) -> float:
    """Count seconds of the GPU, or of one core, to encode texts of so many FLOPs."""
    if gpu := machine.gpu:
        return flop / (gpu.bf16_tflop_s * 1e12 * c["gpu_encode_share"])
    return flop / c["encode_flop_s"] + texts * c["encode_text_s"]


def stored_text_bytes(width: int) -> int:
    """Count the bytes of a text in the feature store, without SQLite's own (7 %, 384 wide)."""
    return KEY_BYTES + len(POOLINGS) * width * FLOAT_BYTES


def count_step(w: Workload, index: Index) -> tuple[float, float, float]:
    """Count a training step: FLOPs of products, scores, and numbers of vectors that it moves.

    Towers have two layers, and inputs no slopes: that makes five products, not six. A sample saves
    projections of answers, scores, and votes of past queries for answers that are not in it, but
    looks through a pool of old vectors.
    """
    settings, width = w.recipe.training or TrainingSettings(), w.encoder.width
    batch = min(settings.batch_size, w.queries)
    share, pool = 1.0, 0.0
    if index == "sampled":
        share = min(1.0, (batch + settings.answer_sample) / w.answers)
        pool = min(POOL_FACTOR * settings.answer_sample, w.answers)
    passages, past = share * w.passages, share * w.past
    flop = 5 * 2 * width**2 * (passages + batch)
    flop += 2 * batch * width * (3 * passages + 2 * past + pool)
    offsets = w.answers if w.recipe.towers and w.recipe.towers.offsets else 0.0
    return flop, batch * (passages + past + pool), width * (passages + offsets)


def _train(w: Workload, machine: Machine, c: Constants) -> Requirement:
    """Fit towers, against all answers or a sample of them, as training itself would choose."""
    settings, gpu = w.recipe.training or TrainingSettings(), machine.gpu
    room = gpu.memory_gb * GB if gpu else machine.memory
    counts = (math.ceil(number) for number in (w.answers, w.passages, w.queries))
    slow = saved_by_sampling(settings, *counts) >= MIN_SPEEDUP
    large = _training_bytes(w, "exact", c) > room
    sampled = settings.index == "sampled" or (settings.index == "auto" and (slow or large))
    index: Index = "sampled" if sampled else "exact"
    (flop, scores, moved), steps = count_step(w, index), math.ceil(w.queries / settings.batch_size)
    if gpu:
        step_s = c["gpu_step_s"] + flop / (gpu.fp32_tflop_s * 1e12 * c["gpu_train_share"])
        traffic = FLOAT_BYTES * c["gpu_passes"] * (scores + moved)
        step_s += traffic / (gpu.bandwidth_gb_s * 1e9 * c["gpu_bandwidth_share"])
    else:
        work = flop / c["train_flop_s"] + scores * c["train_cell_s"] + moved * c["train_fresh_s"]
        step_s = c["train_step_s"] + work / machine.cores
    return Requirement(
        f"training, {index} index",
        _training_bytes(w, index, c),
        w.epochs * steps * step_s,
        f"{w.epochs:.0f} epochs of {steps:,} steps, {format_duration(step_s)} each",
        "every process of a team holds all of it: train on a sample of answers and queries",
        room=room,
    )


def _training_bytes(w: Workload, index: Index, c: Constants) -> float:
    """Count bytes of training, in a step."""
    _, scores, moved = count_step(w, index)
    vectors = w.passages * c["train_vector_copies"] + w.queries * c["train_query_copies"]
    in_step = scores * c["train_cell_copies"] + moved * c["train_fresh_copies"]
    return c["process_bytes"] + FLOAT_BYTES * (w.encoder.width * vectors + in_step)


def _weigh(w: Workload, c: Constants) -> Requirement:
    """Index words and weigh signals on validation, on the processor."""
    cells = w.validation * w.answers
    memory = _words_bytes(w, c) + cells * c["fuse_cell_bytes"]
    seconds = w.ranked_tokens * c["words_token_s"] if w.recipe.words else 0.0
    seconds += cells * c["fuse_cell_s"] + TIMES_SCORED * w.validation * _rank_s(w, c)
    return Requirement(
        "words and weights",
        c["process_bytes"] + memory,
        seconds,
        "words are indexed again whenever the ranker is loaded",
        "label fewer validation queries, or leave [words] out of the recipe",
    )


def _words_bytes(w: Workload, c: Constants) -> float:
    return w.ranked_tokens * c["words_token_bytes"] if w.recipe.words else 0.0


def _rank_s(w: Workload, c: Constants, *, indexed: bool = False) -> float:
    """Count seconds of a core to rank an encoded query, by all passages or an index of them."""
    seconds = c["rank_query_s"]
    if w.recipe.encoder:
        seconds += _count_hnsw(w, c)[2] if indexed else w.passages * c["rank_passage_s"]
    if w.recipe.words or w.recipe.memory:
        seconds += w.answers * c["rank_answer_s"] + w.past * c["rank_past_s"]
    return seconds


def _index_faiss(w: Workload, machine: Machine, c: Constants) -> Requirement:
    """Put vectors into FAISS: as they are, or a graph, whichever `twinrank index` takes."""
    if (kind := kind_for(math.ceil(w.passages))) == "flat":
        disk, seconds = w.vector_bytes, w.passages * c["flat_vector_s"]
        search_s = w.passages * w.encoder.width * c["flat_search_float_s"]
    else:
        disk, seconds, search_s = _count_hnsw(w, c)
        seconds /= machine.cores
    return Requirement(
        f"index, FAISS {kind}",
        c["process_bytes"] + c["index_copies"] * disk,
        seconds,
        f"a search takes {format_duration(search_s)}",
        "divide the vectors over machines by Milvus: `twinrank index --to http://HOST:PORT`",
        disk=disk,
    )


def _count_hnsw(w: Workload, c: Constants) -> tuple[float, float, float]:
    """Count bytes of a graph, seconds of a core to build it (Malkov and Yashunin), of a search."""
    doublings = max(0.0, math.log2(w.passages / MEASURED_HNSW_VECTORS))
    build_s = w.passages * (c["hnsw_vector_s"] + doublings * c["hnsw_doubling_s"])
    search_s = c["hnsw_search_s"] + doublings * c["hnsw_search_doubling_s"]
    return w.vector_bytes + w.passages * c["hnsw_vector_bytes"], build_s, search_s


def _index_milvus(w: Workload, machine: Machine, c: Constants) -> Requirement:
    """Put vectors into a Milvus cluster of as many machines as have the memory."""
    total = w.passages * c["milvus_bytes_a_vector"]
    machines = max(1, math.ceil(total / machine.memory))
    return Requirement(
        "index, Milvus",
        total / machines,
        w.passages * c["milvus_s_a_vector"],
        "one replica; time as if of one machine",
        disk=w.passages * c["milvus_disk_a_vector"],
        machines=machines,
    )


def _serve(w: Workload, machine: Machine, c: Constants, *, indexed: bool) -> Requirement:
    """Rank questions: score every answer, or the candidates of an index."""
    texts = w.ranked_tokens * c["token_bytes"]
    shared = w.vector_bytes + w.past * w.encoder.width * FLOAT_BYTES if w.recipe.encoder else 0.0
    shared += _count_hnsw(w, c)[0] if indexed else 0.0
    worker = c["process_bytes"] + texts + _words_bytes(w, c)
    workers = min(machine.cores, max(1, int((machine.memory - shared) / worker)))
    core_s, gpu_s = _rank_s(w, c, indexed=indexed), 0.0
    if w.recipe.encoder and machine.gpu:
        gpu_s = _encode_s(w.encoder.flop(w.query_tokens), 1, machine, c)
        core_s += w.query_tokens / c["tokenise_tokens_s"]
    elif w.recipe.encoder:
        core_s += _encode_s(w.encoder.flop(w.query_tokens), 1, machine, c)
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


def format_size(count: float) -> str:
    """Write bytes for people: 1.23 GB."""
    units = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B"))
    return _format(count, units)


def format_duration(seconds: float) -> str:
    """Write seconds for people: 1.23 h."""
    return _format(seconds, ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")))


def _format(value: float, units: Sequence[tuple[float, str]]) -> str:
    size, unit = next((u for u in units if value >= u[0]), units[-1])
    shown = value / size
    return f"{shown:,.0f} {unit}" if shown >= 99.95 else f"{shown:.3g} {unit}"
