"""How near pairs of queries are, by how they are related: what joins the types without labels."""

from __future__ import annotations

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import sparse

from twinrank.exploration.findings import Chart, Check, Finding, count_of
from twinrank.exploration.neighbours import TWIN_COSINE
from twinrank.exploration.sample import Subject

MAX_PAIRED = 2_000  # labelled queries of which all pairs are looked at
BIN_WIDTH = 0.02  # of a cosine
MIN_PAIRS = 10  # of a bin whose agreement is drawn
RELATIONS = (
    "same thread",
    "same answer, same type",
    "same answer, other type",
    "other answer, same type",
    "other answer, other type",
)


def check_threads(subject: Subject) -> Check:
    """Do threads join the types without labels, and how near are queries that belong together?"""
    sample, description = subject.sample, subject.description
    rng = np.random.default_rng(subject.seed)
    rows = np.sort(rng.permutation(np.flatnonzero(sample.labelled))[:MAX_PAIRED])
    codes = (sample.codes("type")[rows], sample.codes("thread")[rows])
    pairs = relate_pairs(sample.points[rows], sample.labels[rows], *codes)
    several = description.counts["threads_of_several_types"]
    findings = []
    if several:
        means = dict(pairs.group_by("relation").agg(pl.mean("cosine")).iter_rows())
        names = {"same_thread": RELATIONS[0], "same_answer": RELATIONS[2]}
        cosines = {key: means[name] for key, name in names.items() if name in means}
        text = f"{count_of(several, 'thread holds', 'threads hold')} queries of several types"
        if len(cosines) == 2:
            text += (
                f": their cosine is {cosines['same_thread']:.2f}, that of two queries of one "
                f"answer and different types {cosines['same_answer']:.2f}"
            )
        advice = (
            'Pre-train on them (`pairing = "thread"`, recipe `barlow-inherit`): no label needed.'
        )
        figures = {"threads_of_several_types": several, **cosines}
        findings.append(Finding("threads", "know", f"{text}.", advice, figures))
    elif len(description.splits["train"]["types"]) > 1:
        text = "No thread holds queries of several types."
        advice = (
            "If a ticket has a subject and a transcript, give both the same `thread`: they then "
            "never fall in different splits, and can be paired without labels."
        )
        figures = {"threads_of_several_types": 0}
        findings.append(Finding("threads", "know", text, advice, figures))
    charts = [_draw_relations(pairs), *_draw_agreement(pairs)] if pairs.height else []
    heading = "Do the queries of one answer belong together?"
    return Check("threads", heading, findings, charts, facts={"queries": len(rows)})


def relate_pairs(
    points: Float[np.ndarray, "n d"],
    labels: sparse.csr_array,
    types: Int[np.ndarray, " n"],
    threads: Int[np.ndarray, " n"],
) -> pl.DataFrame:
    """Relate all pairs of n labelled queries.

    Args:
        points: of length one.
        labels: n x m, not 0 where an answer is right.
        types: a code each.
        threads: a code each.

    Returns:
        relation (one of `RELATIONS`), cosine, shared (whether they share a right answer).
    """
    i, j = np.triu_indices(len(points), 1)
    shared = (labels @ labels.T).toarray()[i, j] > 0
    relation = np.where(shared, 1, 3) + (types[i] != types[j])
    relation[threads[i] == threads[j]] = 0
    cosine = (points @ points.T)[i, j].astype(np.float64)
    names = pl.Series(RELATIONS, dtype=pl.Enum(RELATIONS)).gather(relation)
    return pl.DataFrame({"relation": names, "cosine": cosine, "shared": shared})


def _bin_cosines() -> pl.Expr:
    """The middle of the bin of each cosine."""
    return ((pl.col("cosine").clip(-1, 1) / BIN_WIDTH).floor() + 0.5) * BIN_WIDTH


def _draw_relations(pairs: pl.DataFrame) -> Chart:
    of_relation = pairs.with_columns(
        total=pl.len().over("relation"), mean=pl.mean("cosine").over("relation")
    )
    bins = of_relation.group_by("relation", "total", "mean", x=_bin_cosines()).len()
    rows = [
        {
            "name": f"{row['relation']} (mean {row['mean']:.2f})",
            "x": round(row["x"], 3),
            "y": round(row["len"] / row["total"], 5),
            "hover": f"{row['relation']}\n{row['len'] / row['total']:.1%} of {row['total']:,} "
            f"pairs have a cosine about {row['x']:.2f}",
        }
        for row in bins.sort("relation", "x").iter_rows(named=True)
    ]
    grey = [row["name"] for row in rows if row["name"].startswith("other")]
    return Chart("lines", "relations", rows, "cosine", "share of the pairs", grey=grey)


def _draw_agreement(pairs: pl.DataFrame) -> list[Chart]:
    apart = pairs.filter(pl.col("relation") != RELATIONS[0])
    bins = apart.group_by(x=_bin_cosines()).agg(pl.len(), share=pl.mean("shared")).sort("x")
    rows = []
    for x, count, share in bins.filter(pl.col("len") >= MIN_PAIRS).iter_rows():
        margin = 1.96 * (share * (1 - share) / count) ** 0.5
        hover = f"{share:.0%} of {count:,} pairs with a cosine about {x:.2f} share a label"
        values = {"x": round(x, 3), "y": round(share, 4), "hover": hover, "name": ""}
        rows.append({**values, "low": share - margin, "high": share + margin})
    titles = ("cosine of two queries of different threads", "pairs that share a label")
    mark = (TWIN_COSINE, f"near twins, {TWIN_COSINE}")
    return [Chart("lines", "agreement", rows, *titles, threshold=mark)] if rows else []
