"""Whether the confidence of every answer is calibrated, not of the first alone.

The curve is fitted on validation, on first answers. Here is, place by place in the ranking, the
mean confidence, the share of answers that are right, and the expected calibration error. Run it as

    python benchmarks/confidence.py RANKER DATA [--split test] [--places 5]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from twinrank import Dataset, Ranker
from twinrank.encoding import FeatureStore
from twinrank.evaluation import expected_calibration_error


def main(
    ranker: Path,
    data: Path,
    split: Annotated[str, typer.Option(help="On which to measure.")] = "test",
    places: Annotated[int, typer.Option(min=1, help="How far down the ranking.")] = 5,
) -> None:
    """Print the table."""
    opened, dataset = Ranker.load(ranker, store=FeatureStore()), Dataset.load(data)
    queries = dataset.split(split)
    rankings = opened.rank(queries.texts, places)
    columns = {id_: column for column, id_ in enumerate(dataset.answers["id"])}
    labels = queries.labels.toarray() > 0
    table = Table("place", "confidence", "right", "calibration error", title=f"{split} split")
    for place in range(places):
        answers = [ranking[place] for ranking in rankings]
        sure = np.array([answer.confidence for answer in answers], np.float64)
        right = np.array([labels[row, columns[a.id]] for row, a in enumerate(answers)])
        error = expected_calibration_error(sure, right)
        table.add_row(f"{place + 1}", *(f"{v:.3f}" for v in (sure.mean(), right.mean(), error)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
