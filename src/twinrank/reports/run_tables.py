"""The tables of a report of runs, each as rows of text with the head first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from twinrank.data import SPLITS, Description
from twinrank.evaluation import METRICS, Evaluation, reliability
from twinrank.experiments import Run
from twinrank.reports.study import difference_rows
from twinrank.reports.terminal import TYPES_SHOWN, figure, interval

Json = dict[str, Any]
Rows = list[list[str]]
DRAWN = 2000  # points of a scatter at most; of more, some are drawn by lot


def quality_rows(runs: Sequence[Run]) -> Rows:
    """A row a run: top-3 accuracy and MAP@10, overall and by type, worst and gap."""
    types = list(runs[0].evaluation.types)
    shown = types if 1 < len(types) <= TYPES_SHOWN else []
    several = len(types) > 1
    head = ["run", "top-3", *shown, *(["gap"] if several else [])]
    head += ["MAP@10", *shown, *(["worst"] if several else [])]
    rows = []
    for run in runs:
        found = run.evaluation
        row = [run.name]
        for metric, parity in (("accuracy@3", found.gap), ("map@10", found.worst)):
            row += [_cell(found, kind, metric) for kind in (None, *shown)]
            row += [figure(parity[metric])] if several else []
        rows.append(row)
    return [head, *rows]


def metric_rows(evaluation: Evaluation) -> Rows:
    """Every metric, overall and by type, with its interval; the worst type, and the gap."""
    counts = {None: evaluation.counts["overall"], **evaluation.counts["types"]}
    rows = [["type", "queries", *map(metric_name, METRICS)]]
    for kind, count in counts.items():
        cells = (_cell(evaluation, kind, metric) for metric in METRICS)
        rows.append([kind or "overall", f"{count:,}", *cells])
    if len(evaluation.types) > 1:
        for name, figures in (("worst type", evaluation.worst), ("gap", evaluation.gap)):
            rows.append([name, "-", *(figure(figures[metric]) for metric in METRICS)])
    return rows


def tested_rows(differences: Sequence[Json]) -> Rows:
    """Each run minus the first, overall and by type, with p-values."""
    head, *rows = difference_rows(differences, "arm")
    return [["run", "minus", *(name.replace("accuracy@", "top-") for name in head[2:])], *rows]


def overlap_rows(runs: Sequence[Run], k: int = 3) -> Rows:
    """How many queries the first run and each other have right among the first k, or do not."""
    first, *others = runs
    rows = [["run", "beside", "both", "it alone", "the other alone", "neither"]]
    ours = first.evaluation.per_query[f"accuracy@{k}"].to_numpy() > 0
    for other in others:
        theirs = other.evaluation.per_query[f"accuracy@{k}"].to_numpy() > 0
        cells = (ours & theirs, theirs & ~ours, ours & ~theirs, ~ours & ~theirs)
        rows.append([other.name, first.name, *(f"{int(cell.sum()):,}" for cell in cells)])
    return rows


def setting_rows(runs: Sequence[Run]) -> list[tuple[str, Rows]]:
    """Every choice of the recipes, a column a run: first what differs, then what does not."""
    chosen = [dict(_flat(run.ranker.recipe.values())) for run in runs]
    for run, choices in zip(runs, chosen, strict=True):
        choices["seed"] = str(run.ranker.origin.seed)
    names = list(dict.fromkeys(name for choices in chosen for name in choices))
    names.remove("name")  # it heads the column
    rows = {name: [choices.get(name, "-") for choices in chosen] for name in names}
    head = ["setting", *(run.name for run in runs)]
    if len(runs) == 1:
        return [("Every choice", [head, *([n, *cells] for n, cells in rows.items())])]
    differ = [[name, *cells] for name, cells in rows.items() if len(set(cells)) > 1]
    alike = [[name, cells[0]] for name, cells in rows.items() if len(set(cells)) == 1]
    tables = [("Choices that differ", [head, *differ])] if differ else []
    return tables + ([("Choices they share", [["setting", "all"], *alike])] if alike else [])


def data_rows(description: Description) -> Rows:
    """Queries by type and split, then labels, threads and right answers."""
    splits = description.splits
    rows = [["queries", *splits]]
    for kind in splits[SPLITS[0]]["types"]:
        cells = [split["types"][kind] for split in splits.values()]
        rows.append([kind, *(f"{cell['count']:,} ({cell['share']:.0%})" for cell in cells)])
    for name in ("queries", "labels", "threads", "answers"):
        label = "right answers" if name == "answers" else f"all {name}"
        rows.append([label, *(f"{split[name]:,}" for split in splits.values())])
    return rows


def silence_rows(evaluation: Evaluation) -> Rows:
    """Share answered, and right first of those, if the ranker is silent below a confidence."""
    found = evaluation.confidence
    rows = [["silent below", *found]]
    for points in zip(*(calibration.curve for calibration in found.values()), strict=True):
        right = ("-" if p.accuracy is None else figure(p.accuracy) for p in points)
        cells = (f"{p.coverage:.0%} / {r}" for p, r in zip(points, right, strict=True))
        rows.append([f"{points[0].min_confidence:.1f}", *cells])
    return [*rows, ["calibration error", *(figure(c.error) for c in found.values())]]


def reliability_rows(evaluation: Evaluation) -> Rows:
    """The bins of the reliability diagram, over all queries."""
    rows = evaluation.per_query
    bins = reliability(rows["confidence"].to_numpy(), rows["accuracy@1"].to_numpy() > 0)
    head = ["mean confidence", "right first", "queries"]
    return [
        head,
        *(
            [figure(b.confidence), f"{figure(b.accuracy)} ({interval(b.interval)})", f"{b.queries}"]
            for b in bins
        ),
    ]


def confused_pairs(run: Run, most: int) -> list[Json]:
    """The pairs mistaken for each other more than once, or else once; the commonest first."""
    pairs = run.mistakes.confused
    often = pairs.filter(pl.col("misses") > 1)
    return (pairs if often.is_empty() else often).head(most).to_dicts()


def confused_rows(run: Run, pairs: Sequence[Json]) -> Rows:
    """Pairs of answers, with a query of each."""
    titles = titles_of(run)
    head = [
        "no.",
        "first answer",
        "second answer",
        "misses",
        "of queries",
        "first given for second",
    ]
    rows = [[*head, "second given for first", "for instance"]]
    for i, pair in enumerate(pairs, start=1):
        counts = (pair[name] for name in ("misses", "queries", "one_for_other", "other_for_one"))
        row = [str(i), titles[pair["one"]], titles[pair["other"]], *(f"{n:,}" for n in counts)]
        rows.append([*row, example(run, pair)])
    return rows


def example(run: Run, pair: Mapping[str, Any]) -> str:
    """The query of a pair's misses with the highest loss."""
    misses = run.mistakes.misses
    own = {pair["one"], pair["other"]}
    both = pl.col("first").is_in(own) & pl.col("right").is_in(own)
    return str(misses.filter(both).sort("loss", descending=True)["text"][0])


def miss_rows(run: Run, misses: pl.DataFrame) -> Rows:
    """Single misses with their texts."""
    titles = titles_of(run)
    sure = ["confidence"] if "confidence" in misses.columns else []
    rows = [["no.", "query", "type", "right answer", "its rank", "given first", *sure, "loss"]]
    for i, miss in enumerate(misses.to_dicts(), start=1):
        row = [str(i), miss["text"], miss["type"], titles[miss["right"]], f"{miss['rank']:,}"]
        row += [titles[miss["first"]], *(figure(miss[name]) for name in sure)]
        rows.append([*row, figure(miss["loss"])])
    return rows


def titles_of(run: Run) -> dict[str, str]:
    """Each answer's title; its id where it has none."""
    answers = run.ranker.answers
    return {i: title or i for i, title in zip(answers["id"], answers["title"], strict=True)}


def metric_name(metric: str) -> str:
    """A metric as tables call it."""
    return metric.replace("accuracy@", "top-").replace("map", "MAP")


def _cell(evaluation: Evaluation, kind: str | None, metric: str) -> str:
    figures = evaluation.types[kind] if kind else evaluation.overall
    intervals = evaluation.intervals
    around = interval((intervals["types"][kind] if kind else intervals["overall"])[metric])
    return f"{figure(figures[metric])} ({around})" if around else figure(figures[metric])


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", str(value).lower() if isinstance(value, bool) else str(value)
