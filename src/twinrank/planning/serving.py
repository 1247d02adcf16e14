"""Ranking what people ask, so many times a second."""

from __future__ import annotations

import math
from functools import partial

from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.encoding import encode_constants, query_seconds
from twinrank.planning.indexing import hnsw_bytes, hnsw_search_seconds, vector_bytes
from twinrank.planning.machine import Machine
from twinrank.planning.needs import FLOAT, Needs, Stage
from twinrank.planning.scoring import beside_seconds, text_bytes, word_tokens
from twinrank.planning.workload import Workload

INDEXED = ("hnsw_search_s", "hnsw_search_doubling_s", "hnsw_vector_bytes")


def serve(*, indexed: bool) -> Stage:
    """The stage that ranks: every answer, or the candidates of an index."""
    return partial(_serve, indexed=indexed)


def _serve(w: Workload, machine: Machine, c: Measured, *, indexed: bool) -> Needs:
    a = Assumed.load()
    shared, own = shared_bytes(w), worker_bytes(w, c)
    shared += hnsw_bytes(w, c) if indexed else 0.0
    workers = min(machine.cores, max(1, int((machine.memory - shared) / own)))
    core, gpu = rank_seconds(w, machine, c, indexed=indexed)
    busy = max(w.qps * core / workers, w.qps * gpu)
    return Needs(
        stage="serving, by FAISS HNSW" if indexed else "serving, all answers",
        memory=shared + workers * own,
        room=machine.memory,
        disk=shared + text_bytes(w),
        seconds=core + gpu,
        machines=max(1, math.ceil(busy / a.load_share)),
        note=f"{workers} workers a machine; time is of a query among others",
        mend="the ranker holds vectors, past queries and words: leave [memory] and [words] out, "
        "or keep fewer past queries",
        rests_on=(
            *("rank_query_s", "rank_answer_s", "rank_past_s", "load_share", "process_bytes"),
            *("words_token_bytes", "token_bytes"),
            *(INDEXED if indexed else ("rank_passage_s",)),
            *(encode_constants(machine) if w.recipe.encoder else ()),
        ),
    )


def rank_seconds(
    w: Workload, machine: Machine, c: Measured, *, indexed: bool
) -> tuple[float, float]:
    """Seconds of a core, and of the GPU, to rank a query that comes with others."""
    core, gpu = query_seconds(w, machine, c) if w.recipe.encoder else (0.0, 0.0)
    scored = 0.0
    if w.recipe.encoder:
        scored = hnsw_search_seconds(w, c) if indexed else w.passages * c.rank_passage_s
    return core + c.rank_query_s + scored + beside_seconds(w, c), gpu


def shared_bytes(w: Workload) -> float:
    """Bytes of the vectors, which all workers map from one file."""
    if not w.recipe.encoder:
        return 0.0
    past = w.queries * w.width * FLOAT if w.recipe.memory else 0.0
    return vector_bytes(w) + past


def worker_bytes(w: Workload, c: Measured) -> float:
    """Bytes that each worker has for itself: texts, and their words."""
    return c.process_bytes + text_bytes(w) + word_tokens(w) * c.words_token_bytes
