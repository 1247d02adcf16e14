"""Findings of the handover's study: sentences whose every figure comes from its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from twinrank.reports.terminal import (
    figure,
    metric_name,
    p_value,
    reached,
    signed,
    signed_interval,
)

Json = dict[str, Any]

TOP_3, MAP_10 = "accuracy@3", "map@10"
UNTRAINED = "zero-shot-cls"  # where the published pre-training starts
PUBLISHED = "handover-barlow-zero-shot"
SIGNIFICANT = 0.05  # a corrected p-value below it shows a difference
MIN_SPACES = 3  # of fewer, a median says nothing
OUTCOMES = {
    "collapsed": "collapses",
    "worse": "ranks worse than the untrained encoder, but does not collapse",
    "whole": "does not collapse",
}
# In the order of the story: what was in a batch of pre-training.
BATCHES = {
    UNTRAINED: "untrained encoder",
    PUBLISHED: "one answer a batch, as published",
    "control-large-answers": "one answer a batch, only answers with {min_pairs} pairs or more",
    "control-all-statistics": "one answer a batch, standardised over all answers",
    "control-shuffled": "different answers, shuffled partners",
    "control-across": "different answers, all else as published",
    "control-small-batches": "different answers, {batch_size} pairs a batch",
}
LEARNERS = {
    "published heads on CLS": (
        *("handover-dual", "handover-barlow-inherit", "handover-barlow-freeze"),
        "control-across-freeze",
    ),
    "residual towers on means": ("residual", "barlow-inherit", "barlow-freeze", "barlow-joint"),
}
EVEN = ("zero-shot", "handover-dual", "residual", "barlow-inherit", "barlow-joint")


def find_collapse(results: Json) -> list[str]:
    """Whether the published pre-training collapses."""
    arms = arms_of(results)
    if not (outcome := judge_pretraining(PUBLISHED, arms)):
        return []
    untrained, published = arms[UNTRAINED], arms[PUBLISHED]
    ranks = [arm["geometry"]["effective_rank"]["mean"] for arm in (untrained, published)]
    space = ""
    if None not in ranks:
        space = (
            f" Its queries use {ranks[1]:.1f} directions of the space (effective rank), those of "
            f"the encoder {ranks[0]:.1f}."
        )
    return [
        f"The published pre-training ({PUBLISHED}) {OUTCOMES[outcome]}: its top-3 accuracy on the "
        f"{results['split']} queries is {reached(published)}, that of the untrained encoder "
        f"{reached(untrained)}.{space}"
    ]


def find_mend(results: Json) -> list[str]:
    """Which controls mend a collapse."""
    arms = arms_of(results)
    if judge_pretraining(PUBLISHED, arms) != "collapsed":
        return []
    whole = [n for n in BATCHES if n != PUBLISHED and judge_pretraining(n, arms) == "whole"]
    mended = [f"{describe_batches(arms[n])} ({n}), {reached(arms[n])}" for n in whole]
    return [f"Other batches mend it: {'; '.join(mended)}." if mended else "No control mends it."]


def find_controls(results: Json) -> list[str]:
    """The outcome of every control."""
    arms = arms_of(results)
    outcomes = {name: judge_pretraining(name, arms) for name in BATCHES if name != PUBLISHED}
    return [
        f"{describe_batches(arms[name]).capitalize()} ({name}): {OUTCOMES[outcome]}, "
        f"{reached(arms[name])}."
        for name, outcome in outcomes.items()
        if outcome
    ]


def find_best(results: Json) -> list[str]:
    """The best recipe."""
    best = max(results["arms"], key=lambda arm: arm["overall"][TOP_3])
    return [f"The best recipe here is {best['name']}: top-3 accuracy {reached(best)}."]


def find_rankers(results: Json) -> list[str]:
    """How rankers that learned on top of pre-training rank, and what ranks before any label."""
    groups = {
        "Before any label is seen": ("zero-shot", "barlow-zero-shot"),
        "With all labels, published heads": LEARNERS["published heads on CLS"],
        "With all labels, residual towers": LEARNERS["residual towers on means"],
    }
    return [
        f"{group}, top-3 accuracy is: {'; '.join(lines)}."
        for group, names in groups.items()
        if (lines := _list_reached(results, names))
    ]


def find_worth(results: Json) -> list[str]:
    """What pre-training changes with all labels, over all queries."""
    return _describe_differences("With all labels", _worth_of(results, None))


def find_worth_by_type(results: Json) -> list[str]:
    """What pre-training changes with all labels for each type, and how even rankers are."""
    types = results["queries"]["types"]
    if len(types) < 2:
        return []
    lines = [
        line
        for kind in types
        for line in _describe_differences(f"On queries of type {kind}", _worth_of(results, kind))
    ]
    gaps = [f"{a['name']} {figure(a['gap'][TOP_3])}" for a in results["arms"] if a["name"] in EVEN]
    return [*lines, f"The gap between types in top-3 accuracy is: {', '.join(gaps) or '-'}."]


def find_worth_of_few_labels(results: Json) -> list[str]:
    """What pre-training changes with fewer labels, and how even rankers are then."""
    lines = []
    fewer = results["fewer_labels"]
    keys = dict.fromkeys((d["share"], d["fewer_of"]) for d in fewer["differences"])
    for share, rare in (key for key in keys if key[0] < 1):
        of = f" of type {rare} (and all others), on queries of type {rare}" if rare else ""
        family = [
            d
            for d in fewer["differences"]
            if (d["share"], d["fewer_of"], d["type"]) == (share, rare, rare)
        ]
        lines += _describe_differences(f"With {share:.0%} of the labels{of}", family)
    gaps = [
        f"{row['share']:.0%} {row['name']} {figure(row['gap'][TOP_3])}"
        for row in sorted(fewer["rows"], key=lambda row: row["share"])
        if not row["fewer_of"] and len(row["types"]) > 1
    ]
    head = "The gap between types in top-3 accuracy, by the share of the labels, is: "
    return [*lines, f"{head}{', '.join(gaps)}."] if gaps else lines


def find_reading(results: Json) -> list[str]:
    """What changes with the sentences that are read."""
    families: dict[str, list[str]] = {}
    for d in (d for d in results["reading"] if d["type"] is None):
        pair = f"{d['arm']} against {d['without']}"
        families.setdefault(pair, []).append(describe_difference(d))
    return [f"{pair}: {', '.join(changes)}." for pair, changes in families.items()]


def find_mixing(results: Json) -> list[str]:
    """Whether ranking well needs the types mixed, and whether mixing them is enough."""
    spaces = [(auc, arm) for arm in results["arms"] if (auc := type_auc(arm)) is not None]
    if len(spaces) < MIN_SPACES:
        return []
    best_auc, best = max(spaces, key=lambda pair: pair[1]["overall"][TOP_3])
    least_auc, mixed = min(spaces, key=lambda pair: pair[0])
    middle_auc = median(auc for auc, _ in spaces)
    middle = median(arm["overall"][TOP_3] for _, arm in spaces)
    failed = {
        "necessary": best_auc >= middle_auc,
        "sufficient": mixed["overall"][TOP_3] <= middle,
    }
    words = " and not ".join(word for word, so in failed.items() if so)
    return [
        f"{best['name']} ranks best of all {len(spaces)} spaces, {reached(best)}, and a linear "
        f"probe tells its types apart with an AUC of {figure(best_auc)} (median "
        f"{figure(middle_auc)}). {mixed['name']} mixes the types most, with an AUC of "
        f"{figure(least_auc)}, and reaches {reached(mixed)} (median {figure(middle)})."
        + (f" On these data mixing is not {words} for ranking well." if words else "")
    ]


FINDINGS: dict[str, tuple[Callable[[Json], list[str]], ...]] = {
    "In short": (find_collapse, find_mend, find_best, find_worth),
    "Why: the controls": (find_controls,),
    "Rankers on top of pre-training": (find_rankers,),
    "What pre-training is worth": (find_worth, find_worth_by_type),
    "With fewer labels": (find_worth_of_few_labels,),
    "What the encoder reads": (find_reading,),
    "Does it help to mix the types?": (find_mixing,),
}


def collect_findings(results: Json) -> dict[str, list[str]]:
    """Collect the sentences of a study by heading."""
    return {
        heading: [line for find in functions for line in find(results)]
        for heading, functions in FINDINGS.items()
    }


def judge_pretraining(name: str, arms: Mapping[str, Json]) -> str | None:
    """Judge a recipe by the 95 % interval of the untrained encoder's top-3 accuracy.

    Returns:
        `collapsed`: below half the interval's lower end; `worse`: below that end; `whole`: not
        below it; None if this is not known, or nothing was pre-trained.
    """
    bounds = arms[UNTRAINED]["intervals"]["overall"][TOP_3] if UNTRAINED in arms else None
    if bounds is None or name not in arms or name == UNTRAINED:
        return None
    value, low = arms[name]["overall"][TOP_3], bounds[0]
    return "collapsed" if value < low / 2 else "worse" if value < low else "whole"


def type_auc(arm: Json) -> float | None:
    """Give how well a recipe's space tells types apart; None without one, or with one type."""
    return arm["geometry"]["type_auc"]["mean"] if arm["geometry"] else None


def arms_of(results: Json) -> dict[str, Json]:
    """Give the recipes of a study by name."""
    return {arm["name"]: arm for arm in results["arms"]}


def describe_batches(arm: Json) -> str:
    """Say what was in a batch of a recipe's pre-training."""
    return BATCHES[arm["name"]].format_map(arm["recipe"].get("pretraining", {}))


def _list_reached(results: Json, names: Sequence[str]) -> list[str]:
    arms = arms_of(results)
    return [f"{name} {reached(arms[name])}" for name in names if name in arms]


def _worth_of(results: Json, kind: str | None) -> list[Json]:
    """Take the differences by pre-training; the controls, which are there to fail, stay out."""
    controls = {arm["name"] for arm in results["arms"] if arm["part"] == "controls"}
    return [d for d in results["differences"] if d["type"] == kind and d["arm"] not in controls]


def _describe_differences(where: str, differences: Sequence[Json]) -> list[str]:
    """Say in a sentence which of some differences are beyond chance; nothing if there are none."""
    if not differences:
        return []
    sure = [d for d in differences if d["p_holm"] < SIGNIFICANT]
    if not sure:
        nothing = "makes no difference that the queries measured could show"
        return [f"{where} pre-training {nothing} ({len(differences)} comparisons)."]
    lines = [f"{d['arm']} against {d['without']}: {describe_difference(d)}" for d in sure]
    return [
        f"{where} pre-training makes a difference beyond chance in {len(sure)} of "
        f"{len(differences)} comparisons: {'; '.join(lines)}."
    ]


def describe_difference(d: Json) -> str:
    """Say what differs, by how much and how surely."""
    return (
        f"{metric_name(d['metric'])} {signed(d['difference'])} "
        f"({signed_interval(d['interval'])}, p {p_value(d['p_holm'])})"
    )
