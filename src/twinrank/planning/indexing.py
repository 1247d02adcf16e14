"""The answers' vectors in an index: FAISS in one machine's memory, or Milvus over several."""

from __future__ import annotations

import math

from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.machine import Machine
from twinrank.planning.needs import FLOAT, Needs
from twinrank.planning.units import duration
from twinrank.planning.workload import Workload

FEW = 10_000  # vectors; at which HNSW is measured first
FAISS_MEND = "divide the vectors over machines by Milvus: `twinrank index --to http://HOST:PORT`"


def flat(w: Workload, machine: Machine, c: Measured) -> Needs:
    """FAISS, every vector compared."""
    return Needs(
        stage="index, FAISS flat",
        memory=c.process_bytes + c.index_copies * vector_bytes(w),
        room=machine.memory,
        disk=w.passages * c.flat_vector_bytes + vector_bytes(w),
        seconds=w.passages * c.flat_vector_s,
        machines=1,
        note=f"a search takes {duration(flat_search_seconds(w, c))}",
        mend=FAISS_MEND,
        rests_on=(
            *("index_copies", "flat_vector_bytes", "flat_vector_s", "flat_search_float_s"),
            "process_bytes",
        ),
    )


def hnsw(w: Workload, machine: Machine, c: Measured) -> Needs:
    """FAISS, a graph."""
    return Needs(
        stage="index, FAISS HNSW",
        memory=c.process_bytes + c.index_copies * (hnsw_bytes(w, c)),
        room=machine.memory,
        disk=hnsw_bytes(w, c),
        seconds=hnsw_build_seconds(w.passages, c) / machine.cores,
        machines=1,
        note=f"a search takes {duration(hnsw_search_seconds(w, c))}",
        mend=FAISS_MEND,
        rests_on=(
            *("index_copies", "hnsw_vector_bytes", "hnsw_vector_s", "hnsw_doubling_s"),
            *("hnsw_search_s", "hnsw_search_doubling_s", "process_bytes"),
        ),
    )


def milvus(w: Workload, machine: Machine, c: Measured) -> Needs:  # noqa: ARG001 (as all stages)
    """A Milvus cluster, with as many machines as have the memory."""
    a = Assumed.load()
    total = w.passages * a.milvus_bytes_a_vector
    machines = max(1, math.ceil(total / machine.memory))
    return Needs(
        stage="index, Milvus",
        memory=total / machines,
        room=machine.memory,
        disk=w.passages * a.milvus_disk_a_vector,
        seconds=w.passages * a.milvus_s_a_vector,
        machines=machines,
        note="one replica; hours as if one machine indexed all",
        mend="",
        rests_on=("milvus_bytes_a_vector", "milvus_disk_a_vector", "milvus_s_a_vector"),
    )


def vector_bytes(w: Workload) -> float:
    """Bytes of the vectors alone."""
    return w.passages * w.width * FLOAT


def hnsw_bytes(w: Workload, c: Measured) -> float:
    """Bytes of the vectors and the graph."""
    return vector_bytes(w) + w.passages * c.hnsw_vector_bytes


def hnsw_build_seconds(vectors: float, c: Measured) -> float:
    """Seconds of a core, O(n log n) as Malkov and Yashunin (2016) have it."""
    return vectors * (c.hnsw_vector_s + _doublings(vectors) * c.hnsw_doubling_s)


def flat_search_seconds(w: Workload, c: Measured) -> float:
    """Seconds of a core to compare one query with all vectors."""
    return w.passages * w.width * c.flat_search_float_s


def hnsw_search_seconds(w: Workload, c: Measured) -> float:
    """Seconds of a core to find one query's candidates in the graph."""
    return c.hnsw_search_s + _doublings(w.passages) * c.hnsw_search_doubling_s


def _doublings(vectors: float) -> float:
    """Beyond a few."""
    return max(0.0, math.log2(vectors / FEW))
