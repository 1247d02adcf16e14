"""What a study found, as the plain values that its tables, figures and page are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from twinrank.evaluation import METRICS, Difference, Evaluation, differences, holm
from twinrank.experiments.compare import Entry
from twinrank.experiments.study import Arm, FewerLabels, Study
from twinrank.recipe import Recipe

TESTED = ("accuracy@3", "map@10")
FOLLOWED = ("accuracy@3", "map@10", "loss", "barlow_loss", "train_loss", "collisions")
Json = dict[str, Any]
Named = tuple[str, Evaluation]


def results(study: Study) -> Json:
    """The contents of results.json."""
    first = study.arms[0].entry.mean
    return {
        "study": study.plan.name,
        "data": study.data,
        "data_fingerprint": study.data_fingerprint,
        "split": study.split,
        "queries": first.counts,
        "labels": study.labels,
        "seeds": study.seeds,
        "arms": [_arm(arm) for arm in study.arms],
        "left_out": study.left_out,
        "differences": _differences(study.arms),
        "reading": _reading(study),
        "fewer_labels": _fewer(study),
    }


def _arm(arm: Arm) -> Json:
    return {
        "name": arm.entry.recipe.name,
        "part": arm.part,
        "recipe": arm.entry.recipe.values(),
        **figures(arm.entry),
        "geometry": _geometry(arm),
        "epochs": {stage: _curves(arm, stage) for stage in ("pretraining", "ranking")},
    }


def figures(entry: Entry) -> Json:
    """Means over seeds, their spread over seeds, and intervals over threads."""
    types = entry.mean.types
    return {
        **entry.mean.as_dict(),
        "spread": {
            "overall": {m: entry.spread(m) for m in METRICS},
            "types": {t: {m: entry.spread(m, t) for m in METRICS} for t in types},
        },
        "seeds": {
            str(seed): {"overall": one.overall, "types": one.types}
            for seed, one in zip(entry.seeds, entry.each, strict=True)
        },
    }


def _geometry(arm: Arm) -> Json | None:
    """Each figure's mean and standard deviation over seeds; none where a seed has none."""
    if not arm.geometry:
        return None
    table: Json = {}
    for name in arm.geometry[0].figures:
        values = [value for space in arm.geometry if (value := space.figures[name]) is not None]
        whole = len(values) == len(arm.geometry)
        spread = float(np.std(values, ddof=1)) if whole and len(values) > 1 else None
        table[name] = {"mean": float(np.mean(values)) if whole else None, "spread": spread}
    return table


def _curves(arm: Arm, stage: str) -> list[Json]:
    """For each seed, what was recorded at each epoch of a stage, a list a figure."""
    curves = []
    for epochs in arm.epochs:
        records = [record for record in epochs if record["stage"] == stage]
        if records:
            curve: Json = {"epoch": [record["epoch"] for record in records]}
            for name in FOLLOWED:
                if any(name in record for record in records):
                    curve[name] = [record.get(name) for record in records]
            for kind in records[0].get("types", {}):
                values = [record["types"][kind]["accuracy@3"] for record in records]
                curve[f"accuracy@3 {kind}"] = values
            curves.append(curve)
    return curves


def _differences(arms: Sequence[Arm]) -> list[Json]:
    """Each recipe that pre-trains against the same without, where the study has both."""
    by_values = {_choices(arm.entry.recipe): arm for arm in arms}
    pairs = []
    for arm in arms:
        recipe = arm.entry.recipe
        without = by_values.get(_choices(_without_pretraining(recipe)))
        if recipe.pretraining and without:
            pairs.append((_named(arm.entry), _named(without.entry)))
    return tested(pairs)


def _reading(study: Study) -> list[Json]:
    """Each recipe that reads texts otherwise against the one it is compared with."""
    entries = {arm.entry.recipe.name: _named(arm.entry) for arm in study.arms}
    return tested((entries[one], entries[other]) for one, other in study.plan.reading)


def tested(pairs: Iterable[tuple[Named, Named]]) -> list[Json]:
    """Differences of each pair, overall and by type; Holm corrects over all, metric by metric."""
    rows: list[tuple[Json, Difference]] = [
        ({"arm": arm, "without": without}, difference)
        for (arm, one), (without, other) in pairs
        for difference in differences(one, other, TESTED)
    ]
    corrected = np.ones(len(rows))
    for metric in TESTED:
        family = [i for i, (_, difference) in enumerate(rows) if difference.metric == metric]
        corrected[family] = holm([rows[i][1].p for i in family])
    return [
        {**who, **difference.as_dict(), "p_holm": float(p)}
        for (who, difference), p in zip(rows, corrected, strict=True)
    ]


def _named(entry: Entry) -> Named:
    return entry.recipe.name, entry.mean


def _without_pretraining(recipe: Recipe) -> Recipe:
    """The same recipe with nothing pre-trained; the bare encoder, if that was all it did."""
    zero_shot = recipe.pretraining and recipe.pretraining.use == "zero-shot"
    gone = {"pretraining": None, **({"towers": None} if zero_shot else {})}
    return recipe.model_copy(update=gone)


def _choices(recipe: Recipe) -> str:
    return recipe.model_dump_json(exclude={"name"})


def _fewer(study: Study) -> Json:
    """Quality by share of labels, the whole included, and differences from the plan's first.

    A row's `fewer_of` says whose labels were fewer; none means all.
    """
    names = [entry.recipe.name for entries in study.fewer.values() for entry in entries]
    whole = {arm.entry.recipe.name: arm.entry for arm in study.arms}
    all_labels = tuple(whole[name] for name in dict.fromkeys(names) if name in whole)
    fewer = {**study.fewer, **({FewerLabels(1.0): all_labels} if all_labels else {})}
    rows, compared = [], []
    for labels, entries in fewer.items():
        which = {"share": labels.share, "fewer_of": labels.kind}
        rows += [{**which, "name": e.recipe.name, **figures(e)} for e in entries]
        first, *others = map(_named, entries)
        compared += [{**which, **d} for d in tested([(other, first) for other in others])]
    return {"rows": rows, "differences": compared}
