"""What a peer is given and gives back, and what several of them do alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from peers.encoding import TimedStore
from twinrank.data import Queries
from twinrank.encoding.model_files import resolve
from twinrank.evaluation import means, measure

Scorer = Callable[[Sequence[str]], np.ndarray]  # n texts to n x m scores
Inputs: TypeAlias = np.ndarray | sparse.csr_matrix
OnInputs = Callable[[Any], np.ndarray]  # rows of inputs to scores
CHOSEN_BY = "map@10"


@dataclass(frozen=True)
class Task:
    """What every peer is given; no test query is among it.

    Attributes:
        answers: texts of the m answers, as our own encoder reads them.
        train: what to train on.
        validation: what to choose settings by.
        encoder: a name or folder.
        max_tokens: longer texts are cut there.
        learning_rate: of those that train the encoder.
        seed: decides everything random.
        folder: for checkpoints; an earlier call that was killed may have left some.
        store: of features; it notes what is asked, so that encoding counts.
    """

    answers: list[str]
    train: Queries
    validation: Queries
    encoder: str
    max_tokens: int
    learning_rate: float
    seed: int
    folder: Path
    store: TimedStore

    @property
    def model(self) -> str:
        """The encoder's folder, for libraries that load it themselves."""
        return str(resolve(self.encoder).folder)


@dataclass(frozen=True)
class Ready:
    """Something that can rank.

    Attributes:
        score: scores of every answer, in the order of the data set.
        chosen: what was picked on validation.
        earlier_s: seconds of making it ready that calls took which were killed.
        rank: ranks answers for one text, where that is not simply the best of `score`.
    """

    score: Scorer
    chosen: dict[str, Any] = field(default_factory=dict)
    earlier_s: float = 0.0
    rank: Callable[[str], object] | None = None


def pairs(queries: Queries) -> tuple[np.ndarray, np.ndarray]:
    """Row of the query and number of the answer, for every label."""
    rows = np.repeat(np.arange(len(queries)), np.diff(queries.labels.indptr))
    return rows, np.asarray(queries.labels.indices)


def over_all_answers(scores: np.ndarray, classes: np.ndarray, answers: int) -> np.ndarray:
    """Scores (n x classes) of the answers that a classifier knows, as n x m scores.

    Answers that were never right in train come last, in corpus order. Their score is finite,
    one below the lowest of their row, so that the loss is a number; it says little.
    """
    if scores.ndim == 1:  # scikit-learn gives one column where there are two classes
        scores = np.stack([-scores, scores], axis=1)
    table = np.repeat(scores.min(axis=1, keepdims=True) - 1, answers, axis=1)
    table[:, classes] = scores
    return table


def best_of(
    grid: Sequence[float], fit: Callable[[float], OnInputs], task: Task, unseen: Inputs
) -> tuple[OnInputs, dict[str, Any]]:
    """The fitted scorer that ranks validation best, of one for each value of C; the first of ties.

    Args:
        grid: values of C.
        fit: gives what scores rows of inputs.
        task: whose validation split decides.
        unseen: its queries as inputs.
    """
    scorers = ((value, fit(value)) for value in grid)  # two at a time in memory
    reached: dict[float, float] = {}
    best_value, best = next(scorers)
    reached[best_value] = _on(best, unseen, task.validation)
    for value, scorer in scorers:
        reached[value] = _on(scorer, unseen, task.validation)
        if reached[value] > reached[best_value]:
            best_value, best = value, scorer
    return best, {"C": best_value, CHOSEN_BY: {str(c): figure for c, figure in reached.items()}}


def _on(scorer: OnInputs, inputs: Inputs, queries: Queries) -> float:
    return reach(lambda part: scorer(inputs[part]), queries)


def reach(score: Callable[[slice], np.ndarray], queries: Queries) -> float:
    """The figure that choices are made by."""
    return means(measure(score, queries))[CHOSEN_BY]
