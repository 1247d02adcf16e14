"""Findings of the handover's study: figures of its results, and the sentences that they fill."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from twinrank.reports.page import render_text
from twinrank.reports.terminal import figure

Json = dict[str, Any]

TOP_3, MAP_10 = "accuracy@3", "map@10"
UNTRAINED = "zero-shot-cls"  # where the published pre-training starts
PUBLISHED, PUBLISHED_FROZEN = "handover-barlow-zero-shot", "handover-barlow-freeze"
NO_STEPS, NOISE, ACROSS = "control-no-steps", "control-noise", "control-across"
DUAL, ONE_HEAD, ACROSS_FROZEN = "handover-dual", "handover-baseline", "control-across-freeze"
SIGNIFICANT = 0.05  # a corrected p-value below it shows a difference
FLAT_WITHIN = 0.1  # of the expected loss: what measured losses may differ from it by
LAST_STEPS = 10  # the last tenth of the steps
# In the order of the story: the pre-training of each recipe that ranks right after it.
BATCHES = {
    UNTRAINED: "untrained encoder",
    NO_STEPS: "the same head, no step taken",
    NOISE: "the same head, steps along noise",
    PUBLISHED: "one answer a batch, as published",
    "control-large-answers": "one answer a batch, only answers with {min_pairs} pairs or more",
    "control-all-statistics": "one answer a batch, standardised over all answers",
    "control-shuffled": "different answers, shuffled partners",
    ACROSS: "different answers, all else as published",
    "control-small-batches": "different answers, {batch_size} pairs a batch",
}
STORY = (*BATCHES, DUAL, PUBLISHED_FROZEN, ACROSS_FROZEN)  # recipes that the sentences name
# The headings of the page, and what the template calls their paragraphs.
HEADINGS = {
    "In short": "in_short",
    "Why the loss is flat": "flatness",
    "Where walking on it leads": "walking",
    "Why the space looked better": "near",
    "The controls": "controls",
    "What pre-training is worth": "worth",
    "With fewer labels": "few_labels",
}


def collect_findings(results: Json) -> dict[str, list[str]]:
    """Write the paragraphs under each heading of a study's page; none without their figures."""
    pretrained, arms = pretrained_arms(results), arms_of(results)
    losses = {arm["name"]: summarise_losses(arm) for arm in pretrained}
    ratios = {
        name: {part: loss / arms[name]["expected_loss"] for part, loss in of.items()}
        for name, of in losses.items()
        if arms[name]["expected_loss"]
    }
    families = _group_few_labels(results)
    sure = [k for k, family in families.items() if any(d["p_holm"] < SIGNIFICANT for d in family)]
    facts = {
        "results": results,
        "arms": {**dict.fromkeys(STORY), **arms},
        "outcomes": {name: judge_pretraining(name, arms) for name in STORY},
        "best": max(results["arms"], key=lambda arm: float(arm["overall"][TOP_3])),
        "losses": losses,
        "steps": sorted(arm["steps"] for arm in pretrained),
        "flat": [name for name, of in ratios.items() if abs(of["mean"] - 1) <= FLAT_WITHIN],
        "below": [name for name, of in ratios.items() if of["last"] < 1 - FLAT_WITHIN],
        "batches": {name: describe_batches(arms[name]) for name in BATCHES if name in arms},
        "overall": [d for d in results["differences"] if d["type"] is None],
        "sure": {k: family for k, family in families.items() if k in sure},
        "unsure": [k for k in families if k not in sure],
        "gaps": [
            f"{row['share']:.0%} {row['name']} {figure(row['gap'][TOP_3])}"
            for row in sorted(results["fewer_labels"]["rows"], key=lambda row: float(row["share"]))
            if not row["fewer_of"] and len(row["types"]) > 1
        ],
    }
    texts = {
        heading: render_text("study_report.txt", macro, s=facts)
        for heading, macro in HEADINGS.items()
    }
    return {heading: text.split("\n\n") if text else [] for heading, text in texts.items()}


def _group_few_labels(results: Json) -> dict[str, list[Json]]:
    """Group differences with fewer labels: over all queries, or those of the type with fewer."""
    families: dict[str, list[Json]] = {}
    for d in results["fewer_labels"]["differences"]:
        if d["share"] < 1 and d["type"] == d["fewer_of"]:
            of = f" of type {d['type']} (and all others), on its queries" if d["type"] else ""
            families.setdefault(f"{d['share']:.0%} of the labels{of}", []).append(d)
    return families


def judge_pretraining(name: str, arms: Mapping[str, Json]) -> str | None:
    """Judge a recipe by the 95% interval of the untrained encoder's top-3 accuracy.

    Returns:
        `collapsed`: below half the interval's lower end; `worse`: below that end; `whole`: not
        below it; None if this is not known, or nothing was pre-trained.
    """
    bounds = arms[UNTRAINED]["intervals"]["overall"][TOP_3] if UNTRAINED in arms else None
    if bounds is None or name not in arms or name == UNTRAINED:
        return None
    value, low = arms[name]["overall"][TOP_3], bounds[0]
    return "collapsed" if value < low / 2 else "worse" if value < low else "whole"


def pretrained_arms(results: Json) -> list[Json]:
    """Give the recipes that pre-train in a stage of its own and rank right after it."""
    return [arm for arm in results["arms"] if "steps" in arm and arm["name"] in BATCHES]


def summarise_losses(arm: Json) -> dict[str, float]:
    """Give the mean loss of pre-training over seeds: of all steps, the first and last tenth."""
    n = max(1, arm["steps"] // LAST_STEPS)
    parts = {"mean": slice(None), "first": slice(n), "last": slice(-n, None)}
    return {
        name: fmean(loss for seed in arm["losses"] for loss in seed[part])
        for name, part in parts.items()
    }


def sign(arm: Json, name: str) -> float:
    """Give a figure of `signs_of_collapse`, mean over seeds."""
    return float(arm["signs"][name]["mean"])


def measure(arm: Json, name: str) -> float | None:
    """Give a figure of the geometry, mean over seeds; None where it is undefined."""
    value: float | None = arm["geometry"][name]["mean"] if arm["geometry"] else None
    return value


def arms_of(results: Json) -> dict[str, Json]:
    """Give the recipes of a study by name."""
    return {arm["name"]: arm for arm in results["arms"]}


def describe_batches(arm: Json) -> str:
    """Say how a recipe was pre-trained."""
    return BATCHES[arm["name"]].format_map(arm["recipe"].get("pretraining", {}))
