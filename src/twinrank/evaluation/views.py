"""The handover's pictures: centroids of each answer's queries of each type, in the plane."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from twinrank.data import Dataset
from twinrank.evaluation.space import Points, cells_of, lengths, main_axes, placed, snapped
from twinrank.ranking import Ranker

REDUCED = 30  # dimensions of the second view, as in the handover


@dataclass(frozen=True)
class View:
    """Centroids and queries in one plane.

    Attributes:
        name: how the plane was found.
        centroids: answer, title, type, queries (how many), x, y, text (of the query nearest to
            the centroid in the full space); a row an answer and type.
        queries: id, type, answer (ids, joined by a comma), x, y, text.
        explained: share of the variance that each axis holds, of what the last PCA was given:
            the centroids in the first two views, the queries in the third.
    """

    name: str
    centroids: pl.DataFrame = field(repr=False)
    queries: pl.DataFrame = field(repr=False)
    explained: tuple[float, float]


def centroid_views(
    ranker: Ranker, dataset: Dataset, *, split: str = "test"
) -> tuple[View, View, View]:
    """The handover's pictures of the centroids of each answer's queries of each type, three ways.

    Centroids in the full space, then PCA to 2; PCA of the queries to 30 (d or n if fewer), then
    centroids, then PCA to 2; PCA of the queries to 2, then centroids. Where there is no spread,
    x and y are 0.

    Raises:
        DataError, RankerError: as `geometry`.
    """
    queries, points, _ = placed(ranker, dataset, split)
    points = snapped(points)
    points = points - points[0]  # equal vectors are exactly zero then, and their means too
    cells = cells_of(queries.labels, queries.frame["type"].to_list())
    off = lengths(points[cells.row] - cells.means(points)[cells.owner])
    order = np.lexsort((off, cells.owner))
    nearest = cells.row[order[np.unique(cells.owner[order], return_index=True)[1]]]
    about = queries.frame[nearest].select(
        ranker.answers["id"][cells.answer].alias("answer"),
        ranker.answers["title"][cells.answer].alias("title"),
        "type",
        pl.Series("queries", cells.counts),
        "text",
    )
    ids = [ranker.answers["id"][row.indices].to_list() for row in queries.labels]
    single = queries.frame.select("id", "type", pl.Series("answer", map(", ".join, ids)), "text")

    def view(name: str, space: Points, *, fit_queries: bool = False) -> View:
        centroids = cells.means(space)
        spots, shares = main_axes(space if fit_queries else centroids, 2, centroids, space)
        frames = [
            frame.with_columns(x=pl.Series(spot[:, 0]), y=pl.Series(spot[:, 1]))
            for frame, spot in zip((about, single), spots, strict=True)
        ]
        return View(name, frames[0], frames[1], (float(shares[0]), float(shares[1])))

    size = min(REDUCED, *points.shape)
    (reduced,), _ = main_axes(points, size, points)
    return (
        view("centroids, then 2 dimensions", points),
        view(f"{size} dimensions, then centroids, then 2", reduced),
        view("2 dimensions, then centroids", points, fit_queries=True),
    )
