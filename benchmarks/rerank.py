"""Does a cross-encoder over the twenty first answers pay on this machine?

A cross-encoder reads a query and an answer together, so nothing of it can be stored: every query
costs as many passes through the network as answers are re-ranked. It is trained by
sentence-transformers from the same labels, on what the ranker itself puts first: each right
answer, and the wrong ones among the first. Its logit is added to the ranker's score with the
weight (0 among them) that ranks the validation split best. Run it as

    python benchmarks/rerank.py RANKER DATA [--queries 800] [--epochs 1] [--out FILE]
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from datasets import Dataset as Pairs
from rich.console import Console
from rich.table import Table
from sentence_transformers import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from twinrank import Dataset, Ranker
from twinrank.data import Queries
from twinrank.encoding import FeatureStore
from twinrank.encoding.model_files import resolve
from twinrank.evaluation import measure, summarise
from twinrank.ranking import top_k

FIRST = 20
WRONG_A_QUERY = 4
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
TIMED = 50  # queries


def main(
    ranker: Path,
    data: Path,
    queries: Annotated[int, typer.Option(help="Labelled queries to train on, at most.")] = 800,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    max_tokens: Annotated[int, typer.Option(help="Of a query and an answer together.")] = 256,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print quality with and without re-ranking, and what a query costs in milliseconds."""
    dataset, first = Dataset.load(data), Ranker.load(ranker, store=FeatureStore())
    encoder = first.recipe.encoder
    if encoder is None:
        raise typer.BadParameter("re-ranking starts from the encoder of a dense ranker")
    texts = dataset.answer_texts()
    torch.manual_seed(seed)
    model = CrossEncoder(
        str(resolve(encoder.name).folder), num_labels=1, max_length=max_tokens, device="cpu"
    )
    train = dataset.split("train")
    chosen = np.random.default_rng(seed).permutation(len(train))[:queries]
    began = time.perf_counter()
    _train(model, _pairs(first, train, chosen, texts, seed), epochs, seed)
    trained_s = time.perf_counter() - began

    parts = {
        name: _parts(first, model, dataset.split(name), texts) for name in ("validation", "test")
    }
    weight = max(WEIGHTS, key=lambda w: _figures(dataset, "validation", parts, w)["map@10"])
    rows = {
        f"weight {w:g}{', chosen on validation' if w == weight else ''}": _figures(
            dataset, "test", parts, w
        )
        for w in sorted({0.0, weight})
    }
    found: dict[str, Any] = {
        "train_queries": len(chosen),
        "training_s": trained_s,
        "weight": weight,
        "test": rows,
        **_milliseconds(Ranker.load(ranker), model, dataset.split("test").texts, texts),
    }
    if out:
        out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    Console().print(_table(found, dataset.name))


def _pairs(first: Ranker, train: Queries, chosen: np.ndarray, texts: list[str], seed: int) -> Pairs:
    """Queries with right answers (label 1) and with wrong ones among the first (label 0)."""
    rng = np.random.default_rng(seed)
    asked = [train.texts[row] for row in chosen]
    scores, right = first.scores(asked), train.labels[chosen].toarray() > 0
    rows: list[tuple[str, str, float]] = []
    for query, of_query, is_right in zip(asked, scores, right, strict=True):
        wrong = [j for j in top_k(of_query, FIRST).tolist() if not is_right[j]]
        drawn = rng.choice(wrong, min(WRONG_A_QUERY, len(wrong)), replace=False)
        rows += [(query, texts[j], 1.0) for j in np.flatnonzero(is_right)]
        rows += [(query, texts[j], 0.0) for j in drawn]
    names = ("query", "answer", "label")
    return Pairs.from_dict(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def _train(model: CrossEncoder, pairs: Pairs, epochs: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            learning_rate=5e-5,
            warmup_ratio=0.1,
            seed=seed,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
        )
        loss = BinaryCrossEntropyLoss(model)
        CrossEncoderTrainer(model, args=arguments, train_dataset=pairs, loss=loss).train()


def _parts(
    first: Ranker, model: CrossEncoder, queries: Queries, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The ranker's scores (n x m), and the cross-encoder's logits of the first answers.

    Logits are less that of the first's mean; answers behind the first keep what they have.
    """
    scores = first.scores(queries.texts)
    logits = np.zeros_like(scores)
    places = [top_k(row, FIRST) for row in scores]
    pairs = [(q, texts[j]) for q, js in zip(queries.texts, places, strict=True) for j in js]
    found = iter(model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=True))
    for row, js in enumerate(places):
        given = np.array([next(found) for _ in js], np.float32)
        logits[row, js] = given - given.mean()
    return scores, logits


def _figures(
    dataset: Dataset, split: str, parts: dict[str, tuple[np.ndarray, np.ndarray]], weight: float
) -> dict[str, float]:
    """Figures where only the order among the first may change."""
    scores, logits = parts[split]
    moved = scores + np.float32(weight) * logits
    last = np.sort(scores, axis=1)[:, -min(FIRST, scores.shape[1])][:, None]
    ranked = np.where(scores >= last, moved + 1e3, scores)
    measured = summarise(measure(lambda rows: ranked[rows], dataset.split(split)), resamples=0)
    return {
        "accuracy@3": measured.overall["accuracy@3"],
        "worst accuracy@3": measured.worst["accuracy@3"],
        "map@10": measured.overall["map@10"],
        "worst map@10": measured.worst["map@10"],
    }


def _milliseconds(
    first: Ranker, model: CrossEncoder, queries: list[str], texts: list[str]
) -> dict[str, float]:
    """Medians of single queries: ranking alone, and re-ranking on top."""
    place = {answer: j for j, answer in enumerate(first.answers["id"])}
    ranking, reranking = [], []
    for query in queries[: TIMED + 5]:
        began = time.perf_counter()
        (answers,) = first.rank(query, FIRST)
        ranked = time.perf_counter()
        model.predict([(query, texts[place[a.id]]) for a in answers], show_progress_bar=False)
        ranking.append(ranked - began)
        reranking.append(time.perf_counter() - ranked)
    return {
        "ranking_ms": 1000 * float(np.median(ranking[5:])),
        "reranking_ms": 1000 * float(np.median(reranking[5:])),
    }


def _table(found: dict[str, Any], name: str) -> Table:
    title = (
        f"{name}, test; cross-encoder trained on {found['train_queries']} queries in "
        f"{found['training_s']:.0f} s; a query: {found['ranking_ms']:.0f} ms to rank, and "
        f"{found['reranking_ms']:.0f} ms to re-rank {FIRST}"
    )
    table = Table("", title=title, title_justify="left", box=None)
    for metric in next(iter(found["test"].values())):
        table.add_column(metric, justify="right")
    for label, figures in found["test"].items():
        table.add_row(label, *(f"{value:.3f}" for value in figures.values()))
    return table


if __name__ == "__main__":
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    typer.run(main)
