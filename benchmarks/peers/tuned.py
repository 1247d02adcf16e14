"""Peers that train the whole encoder, as sentence-transformers documents it.

Pairs of a query and the text of each of its right answers; the other answers of a batch are the
wrong ones, and the sampler keeps an answer from being in a batch twice. The checkpoint that ranks
validation best is kept.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset as Pairs
from sentence_transformers import (
    MultiVectorEncoder,
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.multi_vector_encoder.evaluation import (
    MultiVectorInformationRetrievalEvaluator,
)
from sentence_transformers.multi_vector_encoder.losses import (
    MultiVectorMultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from peers.checkpoints import Marks, last_whole
from peers.task import Ready, Task, pairs
from peers.vectors import cosine
from twinrank.data import Queries

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 48, "warmup": 0.1, "checkpoints_an_epoch": 2}
AT = 10  # validation decides by MAP@10, as for all peers


@dataclass(frozen=True)
class _Kind:
    """The library's own parts for one kind of model."""

    trainer: Any
    arguments: Any
    loss: Any
    evaluator: Any
    similarity: str


ONE_VECTOR = _Kind(
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    MultipleNegativesRankingLoss,
    InformationRetrievalEvaluator,
    "cosine",
)
A_VECTOR_A_TOKEN = _Kind(
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
    MultiVectorMultipleNegativesRankingLoss,
    MultiVectorInformationRetrievalEvaluator,
    "maxsim",
)


def tuned(task: Task) -> Ready:
    """The encoder with all its weights trained; ranks by cosine."""
    torch.manual_seed(task.seed)
    model = SentenceTransformer(task.model)
    model.max_seq_length = task.max_tokens
    chosen, earlier = _train(model, ONE_VECTOR, task)
    return Ready(cosine(model, task.answers).score, chosen, earlier)


def colbert(task: Task) -> Ready:
    """The encoder with a new linear layer on each token's vector; ranks by MaxSim."""
    torch.manual_seed(task.seed)  # of the new layer
    model = MultiVectorEncoder(task.model)
    model.max_seq_length = task.max_tokens
    chosen, earlier = _train(model, A_VECTOR_A_TOKEN, task)
    known = model.encode_document(task.answers, show_progress_bar=False)

    def score(texts: Sequence[str]) -> np.ndarray:
        asked = model.encode_query(list(texts), show_progress_bar=False)
        return np.asarray(model.similarity(asked, known).float().cpu())

    return Ready(score, chosen, earlier)


def _train(model: Any, kind: _Kind, task: Task) -> tuple[dict[str, Any], float]:  # noqa: ANN401
    """Train in place from the last whole checkpoint; what validation chose, and earlier seconds."""
    rows, right = pairs(task.train)
    columns = {
        "query": [task.train.texts[i] for i in rows],
        "answer": [task.answers[j] for j in right],
    }
    last, earlier = last_whole(task.folder)
    trainer = kind.trainer(
        model=model,
        args=_arguments(kind, task, len(rows)),
        train_dataset=Pairs.from_dict(columns),
        loss=kind.loss(model),
        evaluator=_evaluator(kind, task.validation, task.answers),
        callbacks=[Marks(earlier)],
    )
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    model.eval()
    state = trainer.state
    return {"step": state.best_global_step, f"map@{AT}": state.best_metric}, earlier


def _arguments(kind: _Kind, task: Task, examples: int) -> Any:  # noqa: ANN401
    steps = math.ceil(examples / SETTINGS["batch_size"] / SETTINGS["checkpoints_an_epoch"])
    return kind.arguments(
        output_dir=str(task.folder),
        num_train_epochs=SETTINGS["epochs"],
        per_device_train_batch_size=SETTINGS["batch_size"],
        learning_rate=task.learning_rate,
        warmup_steps=SETTINGS["warmup"],  # below one: a share of all steps
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        seed=task.seed,
        eval_strategy="steps",
        eval_steps=steps,
        save_strategy="steps",
        save_steps=steps,
        save_total_limit=2,  # the best and the last
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_validation_{kind.similarity}_map@{AT}",
        greater_is_better=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
    )


def _evaluator(kind: _Kind, queries: Queries, answers: Sequence[str]) -> Any:  # noqa: ANN401
    right: dict[str, set[str]] = {}
    for row, answer in zip(*pairs(queries), strict=True):
        right.setdefault(str(row), set()).add(str(answer))
    return kind.evaluator(
        {str(i): text for i, text in enumerate(queries.texts)},
        {str(j): text for j, text in enumerate(answers)},
        right,
        name="validation",
        map_at_k=[AT],
        write_csv=False,
        show_progress_bar=False,
    )
