"""Signs of a collapse: is near what should be near, and does ranking see it?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.spatial.distance import cdist

from twinrank.data import Dataset
from twinrank.evaluation.geometry import main_axes, read_vectors, unit_vectors
from twinrank.evaluation.metrics import per_query
from twinrank.ranking import Ranker

COMMON_ANSWERS = 3  # whose first places are counted


@dataclass(frozen=True)
class Signs:
    """Whether a ranker's space has collapsed.

    Attributes:
        figures: see `signs_of_collapse`.
        hubs: of the commonest first answers: id, title, share of the queries they come first for.
        plane: PCA of the queries to two axes: side (`query` or `answer`), type, id, text, x, y.
        explained: share of the variance of the queries on each axis.
    """

    figures: dict[str, float]
    hubs: list[dict[str, Any]]
    plane: pl.DataFrame
    explained: tuple[float, float]


def signs_of_collapse(ranker: Ranker, dataset: Dataset, *, split: str = "test") -> Signs:
    """Measure, on one split, which vectors are near which, and how the same vectors rank.

    - `nearest_past_query`: share of queries whose nearest labelled query of `train` (Euclidean)
      has an answer in common with them; a query is not its own.
    - `right_over_wrong`: distance to the right answers over that to all others, each the mean of
      a query's; mean over queries. Below 1 the right ones are nearer.
    - `dot_accuracy`, `cosine_accuracy`: top-3 accuracy of both scores of the same vectors.
    - `first_places`: share of queries for which one of the 3 commonest first answers (by the dot
      product) comes first.
    - `first_axis`: share of the queries' variance on their main axis.
    - `axis_low`, `axis_high`: where the queries lie on that axis.

    Raises:
        DataError: if the split or `train` is missing or holds no label.
        RankerError: as `geometry`.
    """
    queries, points, answers = read_vectors(ranker, dataset, split)
    past, past_points, _ = read_vectors(ranker, dataset, "train")
    answers = answers.astype(np.float64)
    right = queries.labels.toarray() > 0
    distances = cdist(points, past_points)
    names, past_names = (of.frame["id"].to_numpy() for of in (queries, past))
    distances[names[:, None] == past_names] = np.inf
    nearest = distances.argmin(axis=1)
    solved = right & (past.labels.toarray()[nearest] > 0)
    apart = cdist(points, answers)
    to_right = (apart * right).sum(axis=1) / right.sum(axis=1)
    to_wrong = (apart * ~right).sum(axis=1) / np.maximum((~right).sum(axis=1), 1)
    products = points @ answers.T
    first = Counter(products.argmax(axis=1).tolist()).most_common(COMMON_ANSWERS)
    (plane, answer_plane), shares = main_axes(points, 2, points, answers)

    def accuracy(scores: Float[np.ndarray, "n m"]) -> float:
        return float(per_query(scores, queries.labels)["accuracy@3"].mean())

    figures = {
        "nearest_past_query": solved.any(axis=1).mean(),
        "right_over_wrong": np.mean(to_right / np.where(to_wrong > 0, to_wrong, 1)),
        "dot_accuracy": accuracy(products),
        "cosine_accuracy": accuracy(unit_vectors(points) @ unit_vectors(answers).T),
        "first_places": sum(count for _, count in first) / len(points),
        "first_axis": shares[0],
        "axis_low": plane[:, 0].min(),
        "axis_high": plane[:, 0].max(),
    }
    ids, titles = ranker.answers["id"], ranker.answers["title"]
    hubs = [{"id": ids[j], "title": titles[j], "share": n / len(points)} for j, n in first]
    query, answer = pl.lit("query"), pl.lit("answer")
    sides = [
        queries.frame.select(side=query, type="type", id="id", text="text"),
        ranker.answers.select(side=answer, type=answer, id="id", text="title"),
    ]
    x, y = np.concatenate([plane, answer_plane]).T
    places = pl.concat(sides).with_columns(x=pl.Series(x), y=pl.Series(y))
    values = {name: float(value) for name, value in figures.items()}
    return Signs(values, hubs, places, (float(shares[0]), float(shares[1])))
