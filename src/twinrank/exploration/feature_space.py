"""The raw features of the queries: whether types lie apart in them, and how they look."""

from __future__ import annotations

from collections import Counter

import numpy as np

from twinrank.evaluation.geometry import main_axes, measure_space
from twinrank.exploration.findings import Chart, Check, Finding, Level
from twinrank.exploration.sample import Subject

MAX_FITTED = 2_000  # queries whose main axes are found, and labelled ones for a probe of the type
MAX_POINTS = 1_200  # queries of the figure, each with its text
MAX_ANSWERS = 6  # with a colour
TYPES_APART_AUC = 0.9  # from which types are said to lie apart
OTHER_ANSWERS = "all other answers"


def check_space(subject: Subject) -> Check:
    """Do the types lie apart in the raw features?"""
    sample, rng = subject.sample, np.random.default_rng(subject.seed)
    heading, charts = "The raw features", [_draw_plane(subject)] if len(subject.sample) > 1 else []
    rows = rng.permutation(np.flatnonzero(sample.labelled))[:MAX_FITTED]
    if len(rows) < 2:
        return Check("space", heading, charts=charts)
    types, threads = (sample.frame[column][rows].to_list() for column in ("type", "thread"))
    measured = measure_space(
        sample.features[rows], sample.answer_points, sample.labels[rows], types, threads
    )
    names = ("type_auc", "type_share", "answer_share")
    figures = {name: value for name in names if (value := measured[name]) is not None}
    if len(figures) < len(names):
        return Check("space", heading, charts=charts)
    auc, type_share, answer_share = figures.values()
    text = (
        f"A straight cut through the raw features tells the types apart with AUC {auc:.2f}; types "
        f"hold {type_share:.0%} of the variance, answers {answer_share:.0%}."
    )
    advice = (
        "Look at `twinrank geometry` after training; if the types still lie apart and one is "
        "worse, pre-train with `barlow-inherit`."
    )
    if auc < TYPES_APART_AUC:
        advice = "Nothing: the encoder does not tell the types apart."
    level: Level = "know" if auc >= TYPES_APART_AUC else "fine"
    return Check("space", heading, [Finding("space", level, text, advice, figures)], charts)


def _draw_plane(subject: Subject) -> Chart:
    """Queries on the two main axes of their raw features, by type and by answer."""
    sample, rng = subject.sample, np.random.default_rng(subject.seed)
    fitted = sample.features[rng.permutation(len(sample))[:MAX_FITTED]]
    rows = np.sort(rng.permutation(len(sample))[:MAX_POINTS])
    (plane,), shares = main_axes(fitted, 2, sample.features[rows])
    titles = sample.answers["title"]
    answers = [
        titles[int(row.indices[0])] if row.nnz else "no label" for row in sample.labels[rows]
    ]
    common = Counter(answer for answer in answers if answer != "no label").most_common(MAX_ANSWERS)
    coloured = [answer for answer, _ in common]
    points = []
    for xy, answer, (kind, text) in zip(
        plane.round(4).tolist(),
        answers,
        sample.frame[rows].select("type", "text").iter_rows(),
        strict=True,
    ):
        point = {"x": xy[0], "y": xy[1], "hover": f"{answer}\n{kind}\n{text}"}
        name = answer if answer in coloured else OTHER_ANSWERS
        points += [{**point, "panel": "by type", "name": kind}]
        points += [{**point, "panel": "by answer", "name": name}]
    order = [*sample.types, OTHER_ANSWERS, *coloured]
    points.sort(key=lambda point: order.index(point["name"]))  # those with a colour on top
    across, up = (f"axis {i}: {share:.0%} of the variance" for i, share in enumerate(shares, 1))
    facts = {"shown": len(rows), "total": len(sample)}
    return Chart("points", "plane", points, across, up, grey=[OTHER_ANSWERS], facts=facts)
