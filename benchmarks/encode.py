"""How fast texts are encoded, against `SentenceTransformer.encode` at its defaults.

The same weights, token limit, machine and process; after a warm-up both take turns on each type
of query, and the ratio is the median of the turns' ratios, since both of a turn meet the same
load of the machine. The vectors are compared after scaling to unit length. Run it as

    python benchmarks/encode.py DATA [--limit 1000] [--repeats 3] [--out FILE]
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import torch
import typer
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer

from twinrank.data import Dataset
from twinrank.encode import POOLINGS, Encoder
from twinrank.encode.resolve import resolve

COLUMNS = {
    "type": "type",
    "texts": "texts",
    "precision": "ours in",
    "texts_per_s": "texts/s",
    "peer_texts_per_s": "peer",
    "ratio": "ratio",
    "cosine_min": "cos min",
    "cosine_mean": "mean",
}


def main(
    data: Path,
    encoder: Annotated[str, typer.Option(help="A sentence-transformers encoder.")] = (
        "all-MiniLM-L6-v2"
    ),
    limit: Annotated[int, typer.Option(min=1, help="Texts of each type.")] = 1000,
    repeats: Annotated[int, typer.Option(min=1, help="Turns each takes.")] = 3,
    precision: Annotated[str, typer.Option(help="Ours: auto, fp32 or bf16.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print texts per second, the ratio, and how near the vectors are."""
    dataset = Dataset.load(data)
    ours = Encoder(encoder, max_tokens=128, precision=precision)
    peer = SentenceTransformer(str(resolve(encoder).folder), device=ours.device)
    peer.max_seq_length = ours.max_tokens
    rows = []
    for kind in dataset.types:
        texts = dataset.queries.filter(pl.col("type") == kind).select("text").collect()["text"]
        chosen = texts.sample(min(limit, len(texts)), seed=0).to_list()
        rows.append({"type": kind, **_race(ours, peer, chosen, repeats)})
    if out:
        head = {"data": dataset.name, "encoder": encoder, "device": ours.device}
        figures = {**head, "threads": torch.get_num_threads(), "rows": rows}
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(rows, f"{encoder} on {ours.device}, {torch.get_num_threads()} threads")


def _race(
    ours: Encoder, peer: SentenceTransformer, texts: list[str], repeats: int
) -> dict[str, Any]:
    runners: dict[str, Callable[[list[str]], np.ndarray]] = {
        "ours": lambda some: ours.encode(some)[:, POOLINGS.index("mean")],
        "peer": lambda some: np.asarray(peer.encode(some)),
    }
    times: dict[str, list[float]] = {name: [] for name in runners}
    vectors: dict[str, np.ndarray] = {}
    for run in runners.values():
        run(texts[:64])
    for _ in range(repeats):
        for name, run in runners.items():
            began = time.perf_counter()
            vectors[name] = run(texts)
            times[name].append(time.perf_counter() - began)
    unit = {name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in vectors.items()}
    cosines = (unit["ours"] * unit["peer"]).sum(axis=1)
    turn = [peer / own for own, peer in zip(times["ours"], times["peer"], strict=True)]
    mine, theirs = (statistics.median(times[name]) for name in ("ours", "peer"))
    return {
        "texts": len(texts),
        "precision": ours.precision,
        "texts_per_s": len(texts) / mine,
        "peer_texts_per_s": len(texts) / theirs,
        "ratio": statistics.median(turn),
        "ratio_of_each_turn": turn,
        "cosine_min": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
    }


def _show(rows: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column, label in COLUMNS.items():
        table.add_column(label, justify="left" if column in ("type", "precision") else "right")
    for row in rows:
        cells = (row[column] for column in COLUMNS)
        table.add_row(*(f"{c:,.5g}" if isinstance(c, float) else str(c) for c in cells))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
