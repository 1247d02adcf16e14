"""SetFit: the encoder trained on pairs of queries with one answer or two, then a classifier."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from datasets import Dataset as Labelled
from setfit import SetFitModel, Trainer, TrainingArguments

from peers.checkpoints import Marks, last_whole
from peers.task import Ready, Task, over_all_answers, pairs

# Pairs: 20 a query of either kind, as in the paper (Tunstall et al. 2022), but for `most` in all:
# its few shots are thousands here, and a pair costs two passes through the encoder.
SETTINGS: dict[str, Any] = {
    "pairs": 20,
    "most": 20_000,
    "batch_size": 16,
    "epochs": 1,
    "checkpoints": 10,
}


def setfit(task: Task) -> Ready:
    """Its two stages with its own defaults, but for the number of pairs."""
    rows, right = pairs(task.train)
    count = min(2 * SETTINGS["pairs"] * len(rows), SETTINGS["most"])
    steps = max(1, count // SETTINGS["batch_size"])
    model = SetFitModel.from_pretrained(task.model)
    model.model_body.max_seq_length = task.max_tokens
    last, earlier = last_whole(task.folder)
    trainer = Trainer(
        model=model,
        args=_arguments(task, steps),
        train_dataset=Labelled.from_dict(
            {"text": [task.train.texts[i] for i in rows], "label": right.tolist()}
        ),
        callbacks=[Marks(earlier)],
    )
    body = trainer.st_trainer  # its `train` alone can go on from a checkpoint
    body.train = partial(body.train, resume_from_checkpoint=str(last) if last else None)
    trainer.train()
    classes = np.asarray(model.model_head.classes_)

    def score(texts: Sequence[str]) -> np.ndarray:
        shares = model.predict_proba(list(texts), as_numpy=True, show_progress_bar=False)
        tiny = np.finfo(np.float64).tiny  # no share is zero: its logarithm must be finite
        logs = np.log(np.maximum(np.asarray(shares, dtype=np.float64), tiny))
        return over_all_answers(logs, classes, len(task.answers))

    return Ready(score, {"pairs": count}, earlier)


def _arguments(task: Task, steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(task.folder),
        batch_size=SETTINGS["batch_size"],
        num_epochs=SETTINGS["epochs"],
        max_steps=steps,  # it draws as many pairs as these steps take, and repeats the rarer kind
        max_length=task.max_tokens,
        seed=task.seed,
        save_strategy="steps",
        save_steps=max(1, steps // SETTINGS["checkpoints"]),
        save_total_limit=1,
        logging_strategy="no",
        report_to="none",
        show_progress_bar=sys.stderr.isatty(),
    )
