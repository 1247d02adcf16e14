"""How much faster training is on stored features than with the frozen encoder in the loop.

Measures, in one process, on the same data, with the same towers and batches:
  * one epoch of the handover's loop: each step runs the frozen encoder on its batch of
    queries and on one batch of answers (the stale index), then trains the towers; with the
    encoder in fp32, as it was, and in the precision that ours chooses here;
  * one epoch on stored features against the exact index (every answer, every step);
  * the whole of training until early stopping: one encoding pass and all epochs with their
    validation, beside as many of the handover's epochs without any.

The handover's epoch is timed on `--steps` steps, spread over the data, and scaled to a whole
epoch: its steps are alike, and a whole one takes minutes. All after a warm-up. Run it as

    python benchmarks/training_speed.py DATA [--encoder bert-base] [--steps 8] [--out FILE]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.nn.utils import clip_grad_norm_

from twinrank.data import Dataset, Queries
from twinrank.encoding import POOLINGS, Encoder
from twinrank.encoding.model_files import resolve
from twinrank.ranking import Passages
from twinrank.recipe import Recipe
from twinrank.training import Examples, cross_entropy, fit_towers
from twinrank.training.index import StaleIndex
from twinrank.training.tower_modules import Towers, towers_of

CLS = POOLINGS.index("cls")


def main(
    data: Path,
    encoder: Annotated[
        str, typer.Option(help="A name or folder, or bert-base: that size, random weights.")
    ] = "all-MiniLM-L6-v2",
    steps: Annotated[int, typer.Option(help="Steps of the handover's loop to time.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print both loops' times and their ratios."""
    dataset = Dataset.load(data)
    recipe = Recipe.load("handover-dual")
    with tempfile.TemporaryDirectory() as folder:
        name = _random_bert_base(Path(folder)) if encoder == "bert-base" else encoder
        backbone = Encoder(name, max_tokens=128)
        figures = _measure(dataset, recipe, backbone, steps)
    figures = {"data": dataset.name, "encoder": encoder, **figures}
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    _show(figures)


def _measure(dataset: Dataset, recipe: Recipe, encoder: Encoder, steps: int) -> dict[str, object]:
    assert recipe.training  # noqa: S101 (the recipe is ours)
    settings = recipe.training.model_copy(update={"index": "exact"})
    train = dataset.split("train")
    answers = dataset.answer_texts()
    encoder.encode(train.texts[:64])  # warm-up

    steps_an_epoch = int(np.ceil(len(train) / settings.batch_size))
    plain = Encoder(encoder.name, max_tokens=encoder.max_tokens, precision="fp32")
    loops = {
        name: float(np.mean(list(_handover_steps(recipe, one, train, answers, steps))))
        for name, one in (("fp32", plain), (f"our {encoder.precision}", encoder))
    }

    began = time.perf_counter()
    validation = dataset.split("validation")
    features = encoder.encode([*train.texts, *validation.texts, *answers])[:, CLS]
    encoding = time.perf_counter() - began
    seen, unseen, known = np.split(features, [len(train), len(train) + len(validation)])
    right = torch.as_tensor(validation.labels.toarray() > 0)

    def validate(towers: Towers) -> dict[str, float]:
        queries, index = (torch.as_tensor(f) for f in (unseen, known))
        scores = towers.scores(towers.query(queries), towers.answer(index))
        return {"loss": cross_entropy(scores, right).mean().item()}

    torch.manual_seed(0)
    towers = towers_of(recipe, encoder.dim)
    began = time.perf_counter()
    index = Passages(known, None, len(known))
    history = fit_towers(towers, Examples.of(seen, train), index, settings, validate)
    training = time.perf_counter() - began
    epochs = len(history) - 1
    stored = float(np.median([record["seconds"] for record in history[2:]]))  # after a warm-up
    return {
        "precision": encoder.precision,
        "queries": len(train),
        "answers": len(answers),
        "epochs until early stopping": epochs,
        "stored: encoding once, s": encoding,
        "stored: an epoch, s": stored,
        "stored: all epochs with validation, s": training,
        **{
            f"loop with {name} encoder: {what}": value
            for name, step in loops.items()
            for what, value in {
                "an epoch, s": step * steps_an_epoch,
                "times slower, an epoch": step * steps_an_epoch / stored,
                "times slower, the whole": step * steps_an_epoch * epochs / (encoding + training),
            }.items()
        },
    }


def _handover_steps(
    recipe: Recipe, encoder: Encoder, train: Queries, answers: list[str], steps: int
) -> Iterator[float]:
    """Seconds of single steps of the handover's loop; the first, a warm-up, is not given."""
    settings = recipe.training
    assert settings  # noqa: S101
    torch.manual_seed(0)
    towers = towers_of(recipe, encoder.dim).train()
    optimizer = torch.optim.AdamW(towers.parameters(), lr=settings.learning_rate, fused=True)
    rng = np.random.default_rng(0)
    zeros = torch.zeros(len(answers), encoder.dim)
    index = StaleIndex(zeros, settings.answer_batch, seed=0)
    for step in range(steps + 1):
        rows = rng.choice(len(train), size=min(settings.batch_size, len(train)), replace=False)
        fresh = rng.choice(len(answers), size=index.batch, replace=False)
        began = time.perf_counter()
        queries = torch.as_tensor(encoder.encode([train.texts[i] for i in rows])[:, CLS])
        index.features[fresh] = torch.as_tensor(encoder.encode([answers[j] for j in fresh])[:, CLS])
        vectors = index.refresh(towers, step)
        right = torch.as_tensor(train.labels[rows].toarray() > 0)
        loss = cross_entropy(towers.scores(towers.query(queries), vectors), right).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(towers.parameters(), settings.clip)
        optimizer.step()
        if step:
            yield time.perf_counter() - began


def _random_bert_base(folder: Path) -> str:
    """A BERT-base of random weights with a real tokenizer, saved for `Encoder` to open."""
    from transformers import BertConfig, BertModel

    source = resolve("all-MiniLM-L6-v2").folder
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    BertModel(BertConfig()).save_pretrained(folder)
    return str(folder)


def _show(figures: dict[str, object]) -> None:
    table = Table(
        title="Training: the encoder in the loop, and stored features", title_justify="left"
    )
    table.add_column("")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
