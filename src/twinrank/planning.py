"""Plans for a size that is not at hand: memory, disk, hours and machines of every stage.

Products, bytes and searches are counted; how fast a core or GPU does them is in
planning_constants.toml. Small terms are left out: a plan says the order of size, not the second.
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
from twinrank.encoding.encoder import POOLINGS, Encoder
from twinrank.encoding.feature_store import KEY_BYTES
from twinrank.encoding.model_files import resolve
from twinrank.errors import TwinrankError
from twinrank.ranking.faiss_index import kind_for
from twinrank.ranking.reader import encoder_of
from twinrank.recipe import Recipe, TrainingSettings
from twinrank.training.negatives import MIN_SPEEDUP, POOL_FACTOR, saved_by_sampling

GB = 1e9
FLOAT_BYTES = 4
MAX_SAMPLED_TEXTS = 2_000  # whose tokens are counted
MEASURED_HNSW_VECTORS = 10_000
HOST_CORES, HOST_GB, GB_A_CORE = 16, 192.0, 4.0  # of a machine: beside a GPU, or without one
TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card
NOT_PLANNED = (
    "not planned: reading and checking the data set, choosing sentences, validation between "
    "epochs, networks, copies for safety, retries"
)
# What to do where a machine has not the memory.
ENCODE_IN_PARTS = "one process holds all texts: encode them in parts, the store adds up"
TRAIN_ON_SAMPLE = (
    "every process of a team holds all of it: train on a sample of answers and queries"
)
LABEL_FEWER = "label fewer validation queries, or leave [words] out of the recipe"
DIVIDE_VECTORS = "divide the vectors over machines by Milvus: `twinrank index --to http://HOST:PORT`"
HOLD_LESS = (
    "the ranker holds vectors, past queries and words: leave [memory] and [words] out, "
    "or keep fewer past queries"
)


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


@dataclass(frozen=True)
class Machine:
    """One of the machines that a plan counts; without a GPU it computes on its cores."""

    cores: int
    memory: float  # bytes
    gpu: Mapping[str, Any] = field(default_factory=dict)  # a table of the constants

    @property
    def name(self) -> str:
        """Describe it in words."""
        host = f"{self.cores} cores, {self.memory / GB:,.0f} GB"
        return f"{self.gpu['name']}, beside it {host}" if self.gpu else host


def find_machine(
    *, gpu: str | None = None, cpu: int = 1, memory_gb: float | None = None
) -> Machine:
    """Find a GPU by its name, or take a number of cores; None assumes a memory.

    Raises:
        TwinrankError: if no such GPU is known.
    """
    if gpu is None:
        return Machine(cpu, GB * (GB_A_CORE * cpu if memory_gb is None else memory_gb))
    gpus = Constants().tables["gpus"]
    if gpu.lower() not in gpus:
        raise TwinrankError(f"no GPU is called {gpu!r} here; choose one of {', '.join(gpus)}")
    return Machine(HOST_CORES, GB * (HOST_GB if memory_gb is None else memory_gb), gpus[gpu.lower()])


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
    if recipe.tuning or recipe.pretraining:
        stage = "tuning of the encoder" if recipe.tuning else "pre-training"
        raise TwinrankError(f"{recipe.name}: {stage} is not planned; give a recipe without it")
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
        sizes = {
            "sections": len(passages) / data.answers.height,
            "passage_tokens": _average_tokens(passages, encoder),
            "query_tokens": _average_tokens(trained, encoder),
            "validation": float(sum(data.labelled().get("validation", {}).values())),
        }
        answers = data.answers.height if answers is None else answers
        queries = len(trained) if queries is None else queries
    if answers is None or queries is None:
        raise TwinrankError("give --answers and --queries, or a data set (--data) that has both")
    epochs = min(constants["epochs"], recipe.training.epochs) if recipe.training else 0.0
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
    disk: float = 0.0  # bytes that stay, over all machines
    machines: int = 1
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
    planner, recipe = _Planner(workload, machine), workload.recipe
    stages = [planner.encode(3600 * within_hours)] if recipe.encoder else []
    stages += [planner.train()] if recipe.training else []
    stages += [planner.weigh()] if recipe.words or recipe.fused else []
    if recipe.encoder:
        stages += [planner.index_by_faiss(), planner.index_by_milvus()]
    stages.append(planner.serve(indexed=False))
    if recipe.encoder:
        stages.append(planner.serve(indexed=True))
    stages = [replace(stage, room=stage.room or machine.memory) for stage in stages]
    return Plan(workload, machine, tuple(stages), planner.list_assumptions())


class _Planner:
    """Estimates each stage of a workload on machines of one kind."""

    def __init__(self, workload: Workload, machine: Machine) -> None:
        self.w, self.machine, self.c = workload, machine, Constants()
        w, width = workload, workload.encoder.width
        self.passages = w.answers * w.sections
        self.past = w.queries if w.recipe.memory else 0.0
        self.tokens = self.passages * w.passage_tokens + self.past * w.query_tokens
        self.vector_bytes = self.passages * width * FLOAT_BYTES
        self.words_bytes = self.tokens * self.c["words_token_bytes"] if w.recipe.words else 0.0
        self.doublings = max(0.0, math.log2(self.passages / MEASURED_HNSW_VECTORS))

    def encode(self, within_s: float) -> Requirement:
        """Encode all texts into the store, by as many machines as do it in time."""
        w, queries = self.w, self.w.queries + self.w.validation
        texts = self.passages + queries
        tokens = self.passages * w.passage_tokens + queries * w.query_tokens
        flop = self.passages * w.encoder.flop(w.passage_tokens)
        flop += queries * w.encoder.flop(w.query_tokens)
        seconds = self._encoding_s(flop, texts) / (1 if self.machine.gpu else self.machine.cores)
        disk = texts * stored_text_bytes(w.encoder.width)
        memory = self.c["process_bytes"] + tokens * self.c["encode_token_bytes"]
        memory += texts * w.encoder.width * FLOAT_BYTES
        note = f"{texts:.3g} texts, {tokens:.3g} tokens; disk of the feature store"
        machines = max(1, math.ceil(seconds / within_s))
        return Requirement("encode", memory, seconds, note, ENCODE_IN_PARTS, disk, machines)

    def _encoding_s(self, flop: float, texts: float) -> float:
        """Count seconds of the GPU, or of one core, to encode texts of so many FLOPs."""
        if gpu := self.machine.gpu:
            return flop / (gpu["bf16_tflop_s"] * 1e12 * self.c["gpu_encode_share"])
        return flop / self.c["encode_flop_s"] + texts * self.c["encode_text_s"]

    def train(self) -> Requirement:
        """Fit towers, against all answers or a sample of them, as training itself would choose."""
        w, c, gpu = self.w, self.c, self.machine.gpu
        settings = w.recipe.training or TrainingSettings()
        room = gpu["memory_gb"] * GB if gpu else self.machine.memory
        counts = (math.ceil(number) for number in (w.answers, self.passages, w.queries))
        slow = saved_by_sampling(settings, *counts) >= MIN_SPEEDUP
        large = self._training_bytes(sampled=False) > room
        sampled = settings.index == "sampled" or (settings.index == "auto" and (slow or large))
        flop, scores, moved = count_step(w, sampled=sampled)
        if gpu:
            step_s = c["gpu_step_s"] + flop / (gpu["fp32_tflop_s"] * 1e12 * c["gpu_train_share"])
        else:
            work = flop / c["train_flop_s"] + scores * c["train_cell_s"]
            step_s = c["train_step_s"] + (work + moved * c["train_fresh_s"]) / self.machine.cores
        steps = math.ceil(w.queries / settings.batch_size)
        note = f"{w.epochs:.0f} epochs of {steps:,} steps, {format_duration(step_s)} each"
        stage = f"training, {'sampled' if sampled else 'exact'} index"
        memory, seconds = self._training_bytes(sampled=sampled), w.epochs * steps * step_s
        return Requirement(stage, memory, seconds, note, TRAIN_ON_SAMPLE, room=room)

    def _training_bytes(self, *, sampled: bool) -> float:
        w, c, (_, scores, moved) = self.w, self.c, count_step(self.w, sampled=sampled)
        vectors = self.passages * c["train_vector_copies"] + w.queries * c["train_query_copies"]
        in_step = scores * c["train_cell_copies"] + moved * c["train_fresh_copies"]
        return c["process_bytes"] + FLOAT_BYTES * (w.encoder.width * vectors + in_step)

    def weigh(self) -> Requirement:
        """Index words and weigh signals on validation, on the processor."""
        w, c = self.w, self.c
        cells = w.validation * w.answers
        memory = c["process_bytes"] + self.words_bytes + cells * c["fuse_cell_bytes"]
        seconds = self.tokens * c["words_token_s"] if w.recipe.words else 0.0
        seconds += cells * c["fuse_cell_s"] + TIMES_SCORED * w.validation * self._ranking_s()
        note = "words are indexed again whenever the ranker is loaded"
        return Requirement("words and weights", memory, seconds, note, LABEL_FEWER)

    def _ranking_s(self, *, indexed: bool = False) -> float:
        """Count seconds of a core to rank an encoded query, by all passages or an index of them."""
        w, c = self.w, self.c
        seconds = c["rank_query_s"]
        if w.recipe.encoder:
            seconds += self._count_hnsw()[1] if indexed else self.passages * c["rank_passage_s"]
        if w.recipe.words or w.recipe.memory:
            seconds += w.answers * c["rank_answer_s"] + self.past * c["rank_past_s"]
        return seconds

    def _count_hnsw(self) -> tuple[float, float]:
        """Count bytes of a graph, and seconds of a search (Malkov and Yashunin)."""
        search_s = self.c["hnsw_search_s"] + self.doublings * self.c["hnsw_search_doubling_s"]
        return self.vector_bytes + self.passages * self.c["hnsw_vector_bytes"], search_s

    def index_by_faiss(self) -> Requirement:
        """Put vectors into FAISS: as they are, or a graph, whichever `twinrank index` takes."""
        c, kind = self.c, kind_for(math.ceil(self.passages))
        if kind == "flat":
            disk, vector_s = self.vector_bytes, c["flat_vector_s"]
            search_s = self.passages * self.w.encoder.width * c["flat_search_float_s"]
        else:
            disk, search_s = self._count_hnsw()
            vector_s = c["hnsw_vector_s"] + self.doublings * c["hnsw_doubling_s"]
            vector_s /= self.machine.cores
        memory, seconds = c["process_bytes"] + c["index_copies"] * disk, self.passages * vector_s
        note = f"a search takes {format_duration(search_s)}"
        return Requirement(f"index, FAISS {kind}", memory, seconds, note, DIVIDE_VECTORS, disk)

    def index_by_milvus(self) -> Requirement:
        """Put vectors into a Milvus cluster of as many machines as have the memory."""
        total = self.passages * self.c["milvus_bytes_a_vector"]
        machines = max(1, math.ceil(total / self.machine.memory))
        seconds = self.passages * self.c["milvus_s_a_vector"]
        disk, note = self.passages * self.c["milvus_disk_a_vector"], "one replica; time as if of one machine"
        return Requirement("index, Milvus", total / machines, seconds, note, "", disk, machines)

    def serve(self, *, indexed: bool) -> Requirement:
        """Rank questions: score every answer, or the candidates of an index."""
        w, c, machine = self.w, self.c, self.machine
        texts, shared, encoding_s = self.tokens * c["token_bytes"], 0.0, 0.0
        ranking_s = self._ranking_s(indexed=indexed)
        if w.recipe.encoder:
            shared = self.vector_bytes + self.past * w.encoder.width * FLOAT_BYTES
            shared += self._count_hnsw()[0] if indexed else 0.0
            encoding_s = self._encoding_s(w.encoder.flop(w.query_tokens), 1)
        worker = c["process_bytes"] + texts + self.words_bytes
        workers = min(machine.cores, max(1, int((machine.memory - shared) / worker)))
        on_gpu_s = encoding_s if machine.gpu else 0.0
        busy = w.qps * max((ranking_s + encoding_s - on_gpu_s) / workers, on_gpu_s)
        stage = "serving, by FAISS HNSW" if indexed else "serving, all answers"
        note = f"{workers} workers a machine; time is of a query among others"
        memory, seconds = shared + workers * worker, ranking_s + encoding_s
        machines = max(1, math.ceil(busy / c["load_share"]))
        return Requirement(stage, memory, seconds, note, HOLD_LESS, shared + texts, machines)

    def list_assumptions(self) -> tuple[str, ...]:
        """Say each constant that was read, measured ones first."""
        w, source = self.w, self.c.tables["source"]
        texts = (
            f"{w.source}: {w.sections:.3g} passages an answer, {w.passage_tokens:,.0f} tokens a "
            f"passage and {w.query_tokens:,.0f} a query, {w.validation:,.0f} validation queries"
        )
        epochs = f", {w.epochs:,.0f} epochs" if w.epochs else ""
        where = f"measured: on {source['on']}, {source['date']}"
        lines = sorted([*self.c.lines.values(), where], key=lambda line: line.startswith("assumed"))
        kind = "assumed: work on a processor divides over its cores without loss"
        if gpu := self.machine.gpu:
            kind = (
                f"published: {gpu['name']}: {gpu['memory_gb']:g} GB, {gpu['bf16_tflop_s']:g} "
                f"TFLOP/s in bf16 without sparsity, {gpu['fp32_tflop_s']:g} in fp32; a GPU's "
                "figures are estimates from these, and none was measured"
            )
        return (texts + epochs, *lines, kind, NOT_PLANNED)


def count_step(w: Workload, *, sampled: bool) -> tuple[float, float, float]:
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
    return flop, batch * (passages + past + pool), width * (passages + offsets)


def stored_text_bytes(width: int) -> int:
    """Count the bytes of a text in the feature store, without SQLite's own (7 %, 384 wide)."""
    return KEY_BYTES + len(POOLINGS) * width * FLOAT_BYTES


def format_duration(seconds: float) -> str:
    """Write seconds for people: 1.23 h."""
    units = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
    size, unit = next((u for u in units if seconds >= u[0]), units[-1])
    count = seconds / size
    return f"{count:,.0f} {unit}" if count >= 99.95 else f"{count:.3g} {unit}"
