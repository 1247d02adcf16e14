"""sentence-transformers' own trainer with a frozen backbone: a linear layer on top is trained.

It has no store of features, so that every step runs the backbone on its batch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from datasets import Dataset as Pairs
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Dense
from torch import nn
from transformers import TrainerCallback

from peers.task import pairs
from twinrank.data import Queries


class _StepEnds(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.at.append(time.perf_counter())


def seconds_a_query(
    encoder: SentenceTransformer,
    queries: Queries,
    answers: list[str],
    *,
    batch: int,
    steps: int,
    folder: Path,
) -> float:
    """Seconds of training a query, tokenising included; the first step, a warm-up, left out."""
    width = encoder.get_embedding_dimension()
    assert width  # noqa: S101 (it pools)
    head = Dense(width, width, bias=False)
    nn.init.eye_(head.linear.weight)
    model = SentenceTransformer(modules=[*encoder, head], device=str(encoder.device))
    for weight in encoder.parameters():
        weight.requires_grad_(False)
    rows, right = pairs(queries)
    columns = {
        "query": [queries.texts[i] for i in rows],
        "answer": [answers[j] for j in right],
    }
    arguments: dict[str, Any] = {"report_to": "none", "logging_strategy": "no", "seed": 0}
    ends = _StepEnds()
    SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder),
            max_steps=1 + steps,
            per_device_train_batch_size=batch,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=encoder.device.type == "cpu",
            **arguments,
        ),
        train_dataset=Pairs.from_dict(columns),
        loss=MultipleNegativesRankingLoss(model),
        callbacks=[ends],
    ).train()
    return (ends.at[-1] - ends.at[0]) / (steps * batch)
