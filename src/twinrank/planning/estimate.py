"""The formulas of a plan: the needs of each stage, one method a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from twinrank.encoding import POOLINGS
from twinrank.encoding.feature_store import COMMIT_BYTES, KEY_BYTES
from twinrank.planning.constants import GB, Constants, Machine
from twinrank.planning.workload import Workload
from twinrank.ranking.scoring import CELLS_A_CHUNK
from twinrank.recipe import TrainingSettings
from twinrank.training.negatives import MIN_SPEEDUP, POOL_FACTOR, saved_by_sampling

FLOAT_BYTES = 4
LOOKUP_BYTES = 100  # a text while its features are looked up: its key and its place
MEASURED_HNSW_VECTORS = 10_000
TIMES_SCORED = 3  # validation queries: for the weights, for confidence, for the model card
FAISS_FIX = "divide the vectors over machines by Milvus: `twinrank index --to http://HOST:PORT`"
Index = Literal["exact", "stale", "sampled"]


@dataclass(frozen=True)
class Requirement:
    """The needs of one stage.

    Attributes:
        stage: its name.
        memory: bytes in the machine that needs most.
        room: bytes that a machine has for them.
        disk: bytes that stay, over all machines.
        seconds: of one machine that does all of it; of a service, a query.
        machines: how many; 0 where none is kept busy.
        note: a remark; may be empty.
        mend: how to go on where memory does not suffice.
        rests_on: names of the constants.
        share: of the answers and queries for which a machine has the memory.
    """

    stage: str
    memory: float
    room: float
    disk: float
    seconds: float
    machines: int
    note: str
    mend: str
    rests_on: tuple[str, ...] = ()
    share: float = 1.0

    @property
    def fits(self) -> bool:
        """Whether a machine has the memory."""
        return self.memory <= self.room


@dataclass(frozen=True)
class TrainingStep:
    """The computations of a step of training.

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


@dataclass(frozen=True)
class Estimate:
    """The formulas, one method a stage.

    Attributes:
        w: the workload.
        machine: each of the machines.
        c: constants.
    """

    w: Workload
    machine: Machine
    c: Constants

    def encode(self, within_s: float) -> Requirement:
        """Encode all texts, by as many machines as do it in time; one process has all texts."""
        w, c = self.w, self.c
        flop = w.passages * w.encoder.flop(w.passage_tokens)
        flop += (w.queries + w.validation) * w.encoder.flop(w.query_tokens)
        note = f"{w.texts:.3g} texts, {w.tokens:.3g} tokens"
        if self.machine.gpu:
            seconds = flop / self.gpu_encode_flop_s
            tokenising = w.tokens / (c["tokenise_tokens_s"] * self.machine.cores)
            if tokenising > seconds:
                seconds = tokenising
                note += (
                    f"; {self.machine.cores} cores make tokens more slowly than the GPU takes them"
                )
        else:
            seconds = self.core_encode_s(flop, w.texts) / self.machine.cores
        uncommitted = min(COMMIT_BYTES, w.texts * stored_text_bytes(w.encoder.width))
        memory = c["process_bytes"] + uncommitted + w.tokens * c["encode_token_bytes"]
        memory += w.texts * (LOOKUP_BYTES + w.encoder.width * FLOAT_BYTES)
        machines = max(1, math.ceil(seconds / within_s))
        fix = "one process holds all texts: encode them in parts, the store adds up"
        return Requirement("encode", memory, self.machine.memory, 0.0, seconds, machines, note, fix)

    def store(self) -> Requirement:
        """Keep a key and both poolings of each text in the feature store."""
        a_text = stored_text_bytes(self.w.encoder.width)
        disk = self.w.texts * a_text
        room = self.machine.memory
        return Requirement("feature store", 0.0, room, disk, 0.0, 0, f"{a_text:,} bytes a text", "")

    def train(self, index: Index) -> Requirement:
        """Fit towers against an index of answers."""
        gpu = self.machine.gpu
        room = gpu.memory_gb * GB if gpu else self.machine.memory
        recipes = "as the recipe has it; " if self.choose_index(room) == index else ""
        step_s = format_duration(self.step_s(self.training_step(index)))
        steps = math.ceil(self.w.queries / self.settings.batch_size)
        return Requirement(
            stage=f"training, {index} index",
            memory=self.training_bytes(index),
            room=room,
            disk=0.0,
            seconds=self.w.epochs * self.epoch_s(index),
            machines=1,
            note=f"{recipes}{self.w.epochs:.0f} epochs of {steps:,} steps, {step_s} each",
            mend="every process of a team holds all of it: "
            "train on a sample of answers and queries",
        )

    def weigh(self) -> Requirement:
        """Index words and weigh signals on validation, on the processor."""
        w, c = self.w, self.c
        cells, tokens = w.validation * w.answers, self.word_tokens
        memory = tokens * c["words_token_bytes"] + cells * c["fuse_cell_bytes"]
        passages = w.passages * c["rank_passage_s"] if w.recipe.encoder else 0.0
        scored_s = TIMES_SCORED * w.validation * (passages + self.beside_passages_s)
        return Requirement(
            stage="words and weights",
            memory=c["process_bytes"] + memory,
            room=self.machine.memory,
            disk=0.0,
            seconds=tokens * c["words_token_s"] + cells * c["fuse_cell_s"] + scored_s,
            machines=1,
            note="words are indexed again whenever the ranker is loaded",
            mend="label fewer validation queries, or leave [words] out of the recipe",
        )

    def index_flat(self) -> Requirement:
        """Put vectors into FAISS, where a search compares every one."""
        w, c = self.w, self.c
        search = format_duration(w.passages * w.encoder.width * c["flat_search_float_s"])
        return Requirement(
            stage="index, FAISS flat",
            memory=c["process_bytes"] + c["index_copies"] * self.vector_bytes,
            room=self.machine.memory,
            disk=w.passages * c["flat_vector_bytes"] + self.vector_bytes,
            seconds=w.passages * c["flat_vector_s"],
            machines=1,
            note=f"a search takes {search}",
            mend=FAISS_FIX,
        )

    def index_hnsw(self) -> Requirement:
        """Build a graph in FAISS, O(n log n) as Malkov and Yashunin (2016) have it."""
        w, c = self.w, self.c
        vector_s = c["hnsw_vector_s"] + self.doublings * c["hnsw_doubling_s"]
        return Requirement(
            stage="index, FAISS HNSW",
            memory=c["process_bytes"] + c["index_copies"] * self.hnsw_bytes,
            room=self.machine.memory,
            disk=self.hnsw_bytes,
            seconds=w.passages * vector_s / self.machine.cores,
            machines=1,
            note=f"a search takes {format_duration(self.hnsw_search_s)}",
            mend=FAISS_FIX,
        )

    def index_milvus(self) -> Requirement:
        """Put vectors into a Milvus cluster of as many machines as have the memory."""
        w, c = self.w, self.c
        total = w.passages * c["milvus_bytes_a_vector"]
        machines = max(1, math.ceil(total / self.machine.memory))
        return Requirement(
            stage="index, Milvus",
            memory=total / machines,
            room=self.machine.memory,
            disk=w.passages * c["milvus_disk_a_vector"],
            seconds=w.passages * c["milvus_s_a_vector"],
            machines=machines,
            note="one replica; hours as if one machine indexed all",
            mend="",
        )

    def serve(self, *, indexed: bool) -> Requirement:
        """Rank questions: score every answer, or the candidates of an index."""
        w, c = self.w, self.c
        texts = (w.passages * w.passage_tokens + w.past * w.query_tokens) * c["token_bytes"]
        shared = 0.0
        if w.recipe.encoder:
            shared = self.vector_bytes + w.past * w.encoder.width * FLOAT_BYTES
        shared += self.hnsw_bytes if indexed else 0.0
        worker = c["process_bytes"] + texts + self.word_tokens * c["words_token_bytes"]
        workers = min(self.machine.cores, max(1, int((self.machine.memory - shared) / worker)))
        core_s, gpu_s = self.rank_s(indexed=indexed)
        busy = max(w.qps * core_s / workers, w.qps * gpu_s)
        return Requirement(
            stage="serving, by FAISS HNSW" if indexed else "serving, all answers",
            memory=shared + workers * worker,
            room=self.machine.memory,
            disk=shared + texts,
            seconds=core_s + gpu_s,
            machines=max(1, math.ceil(busy / c["load_share"])),
            note=f"{workers} workers a machine; time is of a query among others",
            mend="the ranker holds vectors, past queries and words: leave [memory] and [words] "
            "out, or keep fewer past queries",
        )

    def rank_s(self, *, indexed: bool) -> tuple[float, float]:
        """Count seconds of a core, and of the GPU, to rank a query that comes with others."""
        w, c = self.w, self.c
        core = c["rank_query_s"] + self.beside_passages_s
        if not w.recipe.encoder:
            return core, 0.0
        core += self.hnsw_search_s if indexed else w.passages * c["rank_passage_s"]
        flop = w.encoder.flop(w.query_tokens)
        if self.machine.gpu:
            return core + w.query_tokens / c["tokenise_tokens_s"], flop / self.gpu_encode_flop_s
        return core + self.core_encode_s(flop, 1), 0.0

    def training_step(self, index: Index) -> TrainingStep:
        """Count a step's computations; towers have two layers, and inputs no slopes.

        That makes five products, not six. A stale index saves the projections of answers, and
        scores against all of them. A sample saves both, and votes of past queries for answers that
        are not in it, but looks through a pool of old vectors.
        """
        w, width = self.w, self.w.encoder.width
        batch, past, fresh, pool = self.batch, w.past, self.fresh_passages(index), 0.0
        passages, stale = w.passages, width * (w.passages - fresh)
        if index == "sampled":
            passages, pool = fresh, min(POOL_FACTOR * self.settings.answer_sample, w.answers)
            past, stale = past * fresh / w.passages, width * pool
        towers = 5 * 2 * width**2 * (fresh + batch)
        flop = towers + 2 * batch * width * (3 * passages + 2 * past + pool)
        scores = batch * (passages + past + pool)
        return TrainingStep(flop, scores, width * (fresh + batch + self.offsets), stale)

    def step_s(self, step: TrainingStep) -> float:
        """Count seconds of a step on all of a machine's cores, or its GPU."""
        c, gpu = self.c, self.machine.gpu
        if gpu:
            rate = c["gpu_train_share"] * gpu.fp32_tflop_s * 1e12
            bandwidth = c["gpu_bandwidth_share"] * gpu.bandwidth_gb_s * 1e9
            numbers = c["gpu_passes"] * (step.scores + step.fresh) + step.stale
            return step.flop / rate + FLOAT_BYTES * numbers / bandwidth + c["gpu_step_s"]
        work = step.flop / c["train_flop_s"] + step.scores * c["train_cell_s"]
        work += step.fresh * c["train_fresh_s"]
        if step.stale:
            work += step.stale * c["train_stale_s"]
        return work / self.machine.cores + c["train_step_s"]

    def epoch_s(self, index: Index) -> float:
        """Count an epoch: its steps, all validation queries scored; old vectors renewed."""
        w, width = self.w, self.w.encoder.width
        scores = w.validation * (w.passages + w.past)
        extra = [TrainingStep(2 * width * scores, scores, 0.0, 0.0)]
        if index == "sampled":
            flop = 2 * 2 * width**2 * w.passages
            extra.append(TrainingStep(flop, 0.0, width * w.passages, 0.0))
        steps = math.ceil(w.queries / self.settings.batch_size)
        return steps * self.step_s(self.training_step(index)) + sum(map(self.step_s, extra))

    def training_bytes(self, index: Index) -> float:
        """Count bytes of training, in a step or, if that is more, in validation."""
        w, c, width = self.w, self.c, self.w.encoder.width
        always = width * w.passages * c["train_vector_copies"]
        always += width * w.queries * c["train_query_copies"]
        always += width * self.offsets * c["train_offset_copies"]
        step = self.training_step(index).scores * c["train_cell_copies"]
        step += width * self.fresh_passages(index) * c["train_fresh_copies"]
        chunk = min(w.validation, max(1.0, CELLS_A_CHUNK / max(w.passages, w.past, 1.0)))
        validation = chunk * (w.passages + w.past) * c["score_cell_copies"]
        return c["process_bytes"] + FLOAT_BYTES * (always + max(step, validation))

    def choose_index(self, room: float) -> Index:
        """Give the index that training would take: the recipe's, or the outcome of its `auto`."""
        if self.settings.index != "auto":
            return self.settings.index
        w = self.w
        counts = (math.ceil(number) for number in (w.answers, w.passages, w.queries))
        slow = saved_by_sampling(self.settings, *counts) >= MIN_SPEEDUP
        return "sampled" if slow or self.training_bytes("exact") > room else "exact"

    def fresh_passages(self, index: Index) -> float:
        """Count the passages that a step projects."""
        w, settings = self.w, self.settings
        if index == "sampled":  # right answers of a batch are hardly ever the same
            return w.passages * min(1.0, (self.batch + settings.answer_sample) / w.answers)
        return w.passages if index == "exact" else min(settings.answer_batch, w.passages)

    @property
    def settings(self) -> TrainingSettings:
        """Settings of the training."""
        return self.w.recipe.training or TrainingSettings()

    @property
    def batch(self) -> float:
        """Queries of a step."""
        return min(self.settings.batch_size, self.w.queries)

    @property
    def offsets(self) -> float:
        """Answers that have an offset."""
        towers = self.w.recipe.towers
        return self.w.answers if towers and towers.offsets else 0.0

    @property
    def word_tokens(self) -> float:
        """Tokens of the texts whose words are indexed: of answers, and of past queries."""
        w = self.w
        if not w.recipe.words:
            return 0.0
        return w.passages * w.passage_tokens + w.past * w.query_tokens

    @property
    def beside_passages_s(self) -> float:
        """Seconds that words and votes of past queries take for every answer."""
        w, c = self.w, self.c
        seconds = w.answers * c["rank_answer_s"] if w.recipe.words or w.recipe.memory else 0.0
        return seconds + (w.past * c["rank_past_s"] if w.past else 0.0)

    @property
    def vector_bytes(self) -> float:
        """Bytes of the vectors alone."""
        return self.w.passages * self.w.encoder.width * FLOAT_BYTES

    @property
    def hnsw_bytes(self) -> float:
        """Bytes of the vectors and the graph."""
        return self.vector_bytes + self.w.passages * self.c["hnsw_vector_bytes"]

    @property
    def hnsw_search_s(self) -> float:
        """Seconds of a core to find one query's candidates in the graph."""
        return self.c["hnsw_search_s"] + self.doublings * self.c["hnsw_search_doubling_s"]

    @property
    def doublings(self) -> float:
        """Times that the passages double the vectors of the measured graph."""
        return max(0.0, math.log2(self.w.passages / MEASURED_HNSW_VECTORS))

    @property
    def gpu_encode_flop_s(self) -> float:
        """FLOP/s that a GPU reaches while it encodes."""
        peak = self.machine.gpu.bf16_tflop_s * 1e12 if self.machine.gpu else 0.0
        return peak * self.c["gpu_encode_share"]

    def core_encode_s(self, flop: float, texts: float) -> float:
        """Count seconds of a core to encode texts with so many FLOPs of products."""
        return flop / self.c["encode_flop_s"] + texts * self.c["encode_text_s"]


def stored_text_bytes(width: int) -> int:
    """Count the bytes of a text in the feature store, without SQLite's own (7 %, 384 wide)."""
    return KEY_BYTES + len(POOLINGS) * width * FLOAT_BYTES


def format_size(count: float) -> str:
    """Write bytes for people: 1.23 GB."""
    for least, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= least:
            return f"{_three_digits(count / least)} {unit}"
    return f"{count:,.0f} B"


def format_duration(seconds: float) -> str:
    """Write seconds for people: 1.23 h."""
    for least, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= least:
            return f"{_three_digits(seconds / least)} {unit}"
    return f"{_three_digits(1e3 * seconds)} ms"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"
