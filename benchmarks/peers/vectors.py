"""Peers on vectors of the encoder as it is: cosine, and logistic regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression

from peers.task import Ready, Task, best_of, over_all_answers, pairs
from twinrank.encoding import POOLINGS, Encoder

SETTINGS: dict[str, Any] = {"C": [1.0, 10.0, 100.0, 1000.0], "iterations": 1000}


def encoder(task: Task) -> Ready:
    """Cosine of what `SentenceTransformer.encode` gives; no code of ours."""
    model = SentenceTransformer(task.model)
    model.max_seq_length = task.max_tokens
    return cosine(model, task.answers)


def cosine(model: SentenceTransformer, answers: Sequence[str]) -> Ready:
    """Answers encoded once, queries when they are asked."""

    def unit(texts: Sequence[str]) -> np.ndarray:
        vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors)

    known = unit(answers)
    return Ready(lambda texts: unit(texts) @ known.T)


def logistic(task: Task) -> Ready:
    """Multinomial logistic regression on unit vectors, one class an answer."""
    backbone = Encoder(task.encoder, max_tokens=task.max_tokens)
    texts = [*task.train.texts, *task.validation.texts]
    features = np.asarray(task.store.features(backbone, texts, "mean", progress="Encoding"))
    seen, unseen = np.split(_unit(features), [len(task.train)])
    rows, right = pairs(task.train)

    def fit(value: float) -> Callable[[np.ndarray], np.ndarray]:
        model = LogisticRegression(C=value, max_iter=SETTINGS["iterations"])
        model.fit(seen[rows], right)
        count = len(task.answers)
        return lambda some: over_all_answers(model.predict_log_proba(some), model.classes_, count)

    best, chosen = best_of(SETTINGS["C"], fit, task, unseen)
    mean = POOLINGS.index("mean")
    return Ready(lambda texts: best(_unit(backbone.encode(texts)[:, mean])), chosen)


def _unit(features: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return scaled
