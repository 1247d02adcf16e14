"""Rooms of the answer index: how long they take to build, to search, and what they find.

Vectors are drawn from a mixture shaped like the features of help articles: a common mean, topics
of 400 vectors, in each of them themes of 20, and noise, all with a spectrum that falls as theirs
does. A pair has a cosine of .2, of one topic .45, of one theme .65; of mozilla-support's sections
the median pair has .21, the tenth nearest .69, the fiftieth .55. Queries are other draws. Every
room builds, and searches one query at a time, in a process of its own. Run it as

    python benchmarks/index.py [--vectors 100000 --vectors 1000000] [--rooms flat,hnsw] [--out FILE]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from twinrank.ranking import Passages, faiss_index
from twinrank.ranking.answer_index import AnswerIndex
from twinrank.ranking.faiss_index import FaissIndex
from twinrank.ranking.index_place import MilvusPlace
from twinrank.ranking.milvus_index import MilvusIndex

DIM, QUERIES, WARM, BATCH = 384, 500, 50, 10_000
A_TOPIC, A_THEME = 400, 20  # vectors
SHARES = (0.2, 0.25, 0.2, 0.35)  # of the squared length: mean, topic, theme, noise
DEPTHS = (10, 200)  # answers asked for: to show, and as candidates of a ranker
FINGERPRINT = "be" * 16
Figures = dict[str, Any]
Result = TypeVar("Result")


def main(
    vectors: Annotated[list[int], typer.Option(help="How many; repeat.")] = [100_000],  # noqa: B006
    rooms: Annotated[str, typer.Option(help="flat, hnsw, ivf, milvus.")] = "flat,hnsw",
    place: Annotated[
        str, typer.Option(help="Of milvus: a server, with settings; else a file is made.")
    ] = "",
    breadths: Annotated[str, typer.Option(help="HNSW's efSearch, IVF's nprobe.")] = "128",
    links: Annotated[int, typer.Option(help="HNSW's M.")] = faiss_index.LINKS,
    construction: Annotated[
        int, typer.Option(help="Its efConstruction.")
    ] = faiss_index.BUILD_BREADTH,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print build time, memory, size, latencies and recall of each room."""
    rows: list[Figures] = []
    for number in vectors:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            draw(home, number)
            for room in rooms.split(","):
                built = apart(building, home, room, place, links, construction)
                for breadth in breadths.split(",") if room in ("hnsw", "ivf") else ["0"]:
                    found = apart(searching, home, room, place, int(breadth))
                    name = f"{room} {breadth}" if breadth != "0" else room
                    rows.append({"vectors": number, "room": name, **built, **found})
                    print(json.dumps(rows[-1]), flush=True)
    if out:
        out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    table = Table(title=f"{DIM} wide; {os.cpu_count()} cores, load {load}", box=None)
    for name in rows[0]:
        table.add_column(name, justify="left" if name == "room" else "right")
    for row in rows:
        table.add_row(*(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=180).print(table)


def draw(home: Path, number: int) -> None:
    """Write vectors, queries and the exact nearest of each."""
    import faiss

    rng = np.random.default_rng(0)
    spectrum = (1 / np.sqrt(np.arange(DIM) + 4)).astype(np.float32)
    spectrum /= np.linalg.norm(spectrum)
    mean, topic, theme, noise = (root * spectrum for root in np.sqrt(np.array(SHARES, np.float32)))
    topics = _around(rng, _around(rng, np.zeros((1, DIM)), mean, 1), topic, number // A_TOPIC + 1)
    themes = _around(rng, topics, theme, number // A_THEME + 1)
    points = np.lib.format.open_memmap(home / "points.npy", "w+", np.float32, (number, DIM))
    for start in range(0, number, BATCH):
        points[start : start + BATCH] = _unit(
            _around(rng, themes, noise, min(BATCH, number - start))
        )
    queries = _unit(_around(rng, themes, noise, QUERIES + WARM))
    exact = faiss.IndexFlatIP(DIM)
    exact.add(points)
    _, nearest = exact.search(queries, max(DEPTHS))
    np.save(home / "queries.npy", queries)
    np.save(home / "nearest.npy", nearest)


def _around(
    rng: np.random.Generator, centres: np.ndarray, spread: np.ndarray, number: int
) -> np.ndarray:
    """So many points, each around one of the centres."""
    noise = rng.standard_normal((number, DIM), np.float32) * spread
    return np.asarray(centres[rng.integers(len(centres), size=number)] + noise, np.float32)


def _unit(points: np.ndarray) -> np.ndarray:
    unit: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


def building(home: Path, room: str, place: str, links: int, construction: int) -> Figures:
    """Build and save a room of the vectors that were drawn."""
    faiss_index.LINKS, faiss_index.BUILD_BREADTH = links, construction
    points = np.load(home / "points.npy", mmap_mode="r")
    before = _memory()
    began, worked = time.perf_counter(), time.process_time()
    if room == "ivf":
        _build_ivf(points, home / room)
    else:
        index: AnswerIndex
        if room == "milvus":
            to = MilvusPlace.parse(place or f"{home}/milvus.db")
            index = MilvusIndex.create(to, FINGERPRINT, dim=DIM)
        else:
            index = FaissIndex(DIM, "flat" if room == "flat" else "hnsw")
        for start in range(0, len(points), BATCH):
            part = np.array(points[start : start + BATCH])
            ids = [str(row) for row in range(start, start + len(part))]
            index.add(ids, Passages(part, None, len(part)))
        index.settle()
        if isinstance(index, FaissIndex):
            index.write(home / f"{room}.faiss", [str(row) for row in range(len(points))])
        index.publish()
        index.close()
    built = {"build s": time.perf_counter() - began, "cpu s": time.process_time() - worked}
    size = sum(
        file.stat().st_size
        for file in [*home.glob(f"{room}.faiss"), *home.glob(f"{room}*/**/*")]
        if file.is_file()
    )
    return built | {"build MB": _memory("VmHWM") - before, "disk MB": size / 1e6}


def searching(home: Path, room: str, place: str, breadth: int) -> Figures:
    """Search a room that was built, one query at a time."""
    queries, nearest = np.load(home / "queries.npy"), np.load(home / "nearest.npy")
    before = _memory()
    began = time.perf_counter()
    search = _searcher(home, room, place, breadth)
    search(queries[:1], 1)
    figures = {"open s": time.perf_counter() - began}
    for k in DEPTHS:
        took, hits = [], []
        for query, right in zip(queries, nearest, strict=True):
            began = time.perf_counter()
            found = search(query[None], k)
            took.append(time.perf_counter() - began)
            hits.append(len(set(found) & set(right[:k].tolist())) / k)
        p50, p99 = np.percentile(1e3 * np.array(took[WARM:]), [50, 99])
        figures |= {f"p50@{k} ms": float(p50), f"p99@{k} ms": float(p99)}
        figures[f"recall@{k}"] = float(np.mean(hits[WARM:]))
    figures["MB"] = _memory() - before
    return figures


def _searcher(
    home: Path, room: str, place: str, breadth: int
) -> Callable[[np.ndarray, int], Sequence[int]]:
    """What gives the rows of the k nearest to one query."""
    if room == "ivf":
        return _ivf(home / room, breadth)
    index: AnswerIndex
    if room == "milvus":
        index = MilvusIndex.open(MilvusPlace.parse(place or f"{home}/milvus.db"), FINGERPRINT)
    else:
        number = len(np.load(home / "points.npy", mmap_mode="r"))
        index = FaissIndex.open(home / f"{room}.faiss", [str(row) for row in range(number)])
        faiss_index.SEARCH_BREADTH = breadth or faiss_index.SEARCH_BREADTH
    return lambda query, k: [int(answer) for answer in index.search(query, k)[0].answers]


def _build_ivf(points: np.ndarray, folder: Path) -> None:
    import faiss

    lists = int(4 * len(points) ** 0.5)
    index = faiss.index_factory(DIM, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(np.array(points[: 40 * lists]))
    index.add(points)
    folder.mkdir()
    faiss.write_index(index, str(folder / "ivf.faiss"))


def _ivf(folder: Path, probes: int) -> Callable[[np.ndarray, int], Sequence[int]]:
    import faiss

    index: Any = faiss.read_index(str(folder / "ivf.faiss"))
    index.nprobe = probes
    return lambda query, k: index.search(query, k)[1][0].tolist()


def _memory(field: str = "VmRSS") -> float:
    """Of this process, in MB: now, or at its highest (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1e3


def apart(work: Callable[..., Result], *args: Path | str | int) -> Result:
    """What work gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(work, args)
        pool.close()
        pool.join()  # Milvus Lite still writes until its process ends
    return figures


if __name__ == "__main__":
    typer.run(main)
