"""Whether ranking by an index's candidates ranks as scoring every answer does.

For each number of candidates: the share of a split's queries whose first answer, and whose first
ten in their order, are the same, by how much the first answer's confidence differs at most, and
how many candidates there were in the mean. Run it as

    python benchmarks/candidates.py RANKER DATA [--split test]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.ranking import RankedAnswer, Ranker, shortlist
from twinrank.ranking.index import build_index

NUMBERS = (200, 100, 50, 20)
AT = 10


def main(
    ranker: Path,
    data: Path,
    split: Annotated[str, typer.Option(help="Whose queries: train, validation or test.")] = "test",
) -> None:
    """Print how far rankings agree, for several numbers of candidates."""
    texts = Dataset.load(data).split(split).texts
    plain = Ranker.load(ranker, store=FeatureStore())
    right = plain.rank(texts, AT)
    table = Table("candidates", title=f"{len(texts):,} queries, {plain.answers.height:,} answers")
    for name in ("first", f"first {AT}", "confidence", "scored"):
        table.add_column(name, justify="right")
    with TemporaryDirectory() as folder:
        build_index(
            folder,
            home=ranker,
            fingerprint=plain.fingerprint,
            ids=plain.answers["id"].to_list(),
            vectors=plain.vectors,
        )
        quick = Ranker.load(ranker, store=FeatureStore(), index=folder)
        for number in NUMBERS:
            shortlist.CANDIDATES = number
            table.add_row(str(number), *_agreement(quick, texts, right))
    Console().print(table)


def _agreement(
    ranker: Ranker, texts: Sequence[str], right: list[list[RankedAnswer]]
) -> tuple[str, ...]:
    pairs = list(zip(ranker.rank(texts, AT), right, strict=True))
    first = np.mean([some[0].id == others[0].id for some, others in pairs])
    all_ = np.mean([[a.id for a in some] == [a.id for a in others] for some, others in pairs])
    sure = [abs((a[0].confidence or 0) - (b[0].confidence or 0)) for a, b in pairs]
    queries = ranker.scoring.encode(texts)
    candidates = ranker.scoring.score_candidates(queries, AT, ranker.shortlist)
    counts = [len(rows) for rows, _ in candidates]
    return f"{first:.4f}", f"{all_:.4f}", f"{max(sure):.3f}", f"{np.mean(counts):.0f}"


if __name__ == "__main__":
    typer.run(main)
