"""How fast texts are encoded, against `SentenceTransformer.encode` at its defaults, and the floor.

The same weights, token limit, machine and process; after a warm-up all take turns on each type of
query, and a ratio is the median of the turns' ratios, since both of a turn meet the same load of
the machine. `alone` is one text a call, as a search asks. `floor` is the least time that the
arithmetic of these tokens takes (see floor.py), over the time taken; the rate is measured anew in
every turn. The vectors are compared after scaling to unit length. Run it as

    python benchmarks/encode.py DATA [--limit 1000] [--repeats 3] [--all] [--threads 1] [--out FILE]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
import typer
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer

from floor import Floor
from twinrank.data import Dataset
from twinrank.encoding import POOLINGS, Encoder
from twinrank.encoding.hardware import cpu_name
from twinrank.encoding.model_files import resolve

ALONE = 50  # texts, one a call
EVERY = (("fp32", "torch"), ("bf16", "torch"), ("fp32", "openvino"), ("bf16", "openvino"))
COLUMNS = {
    "type": "type",
    "precision": "ours in",
    "backend": "by",
    "texts_per_s": "texts/s",
    "peer_texts_per_s": "peer",
    "ratio": "ratio",
    "floor_share": "of floor",
    "alone_ms": "alone, ms",
    "peer_alone_ms": "peer",
    "alone_ratio": "ratio",
    "cosine_min": "cos min",
}

Run = Callable[[list[str]], np.ndarray]


def main(
    data: Path,
    encoder: Annotated[str, typer.Option(help="A sentence-transformers encoder.")] = (
        "all-MiniLM-L6-v2"
    ),
    limit: Annotated[int, typer.Option(min=1, help="Texts of each type.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Turns each takes.")] = 3,
    precision: Annotated[str, typer.Option(help="Ours: auto, fp32 or bf16.")] = "auto",
    all_: Annotated[
        bool, typer.Option("--all", help="Every precision by every backend, not the chosen alone.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Of both; default: torch's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print texts per second, the ratio, how far from the floor, and how near the vectors are."""
    if threads:
        torch.set_num_threads(threads)
    dataset = Dataset.load(data)
    kinds = EVERY if all_ else ((precision, "auto"),)
    ours = [Encoder(encoder, precision=kind, backend=backend) for kind, backend in kinds]
    peer = SentenceTransformer(str(resolve(encoder).folder), device=ours[0].device)
    peer.max_seq_length = ours[0].max_tokens
    rows = []
    for kind in dataset.types:
        texts = dataset.queries.filter(pl.col("type") == kind).select("text").collect()["text"]
        chosen = texts.sample(min(limit, len(texts)), seed=0).to_list()
        rows += [{"type": kind, **row} for row in _race(ours, peer, chosen, repeats)]
    device = cpu_name() if ours[0].device == "cpu" else ours[0].device
    if out:
        head = {"data": dataset.name, "encoder": encoder, "device": device}
        figures = {**head, "threads": torch.get_num_threads(), "rows": rows}
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(rows, f"{encoder} on {device}, {torch.get_num_threads()} threads")


def _race(
    ours: list[Encoder], peer: SentenceTransformer, texts: list[str], repeats: int
) -> list[dict[str, Any]]:
    """Take turns, and compare each of ours with the peer."""
    floor = Floor(ours, texts)
    runs: list[Run] = [lambda some: np.asarray(peer.encode(some))]
    runs += [mean_of(one) for one in ours]
    vectors = [_unit(run(texts)) for run in runs]  # a warm-up, too
    together: list[list[float]] = [[] for _ in runs]
    alone: list[list[float]] = [[] for _ in runs]
    floors: list[dict[str, float]] = []
    for _ in range(repeats):
        for run, times in zip(runs, together, strict=True):
            times.append(_seconds(run, texts))
        floors.append(floor.seconds())
        for text in texts[:ALONE]:
            for run, times in zip(runs, alone, strict=True):
                times.append(_seconds(run, [text]))
    rows = []
    for number, one in enumerate(ours, 1):
        ratios = _ratios(together[0], together[number])
        shares = _ratios([found.get(one.precision, np.nan) for found in floors], together[number])
        rows.append(
            {
                "texts": len(texts),
                "precision": one.precision,
                "backend": one.backend,
                "texts_per_s": len(texts) / median(together[number]),
                "peer_texts_per_s": len(texts) / median(together[0]),
                "ratio": median(ratios),
                "ratio_of_each_turn": ratios,
                "floor_share": median(shares) if one.precision in floors[0] else None,
                "alone_ms": 1e3 * median(alone[number]),
                "peer_alone_ms": 1e3 * median(alone[0]),
                "alone_ratio": median(_ratios(alone[0], alone[number])),
                "cosine_min": float((vectors[number] * vectors[0]).sum(axis=1).min()),
                "cosine_mean": float((vectors[number] * vectors[0]).sum(axis=1).mean()),
            }
        )
    return rows


def mean_of(encoder: Encoder) -> Run:
    """Features as the peer gives them: means over tokens."""
    return lambda some: encoder.encode(some)[:, POOLINGS.index("mean")]


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _seconds(run: Run, texts: list[str]) -> float:
    began = time.perf_counter()
    run(texts)
    return time.perf_counter() - began


def _ratios(above: list[float], below: list[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _show(rows: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column, label in COLUMNS.items():
        left = column in ("type", "precision", "backend")
        table.add_column(label, justify="left" if left else "right")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in COLUMNS))
    Console().print(table)


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return f"{value:,.5g}" if isinstance(value, float) else value


if __name__ == "__main__":
    typer.run(main)
