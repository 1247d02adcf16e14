"""The published system's expectations and guesses, beside the figures of a study and a verdict.

Each function gives, from the recipes of a study, what is found here and the verdict that follows
from it; None where a figure is undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twinrank.reports.study_findings import (
    ACROSS,
    ACROSS_FROZEN,
    DUAL,
    NO_STEPS,
    ONE_HEAD,
    PUBLISHED,
    PUBLISHED_FROZEN,
    SIGNIFICANT,
    TOP_3,
    UNTRAINED,
    arms_of,
    judge_pretraining,
    measure,
    sign,
)
from twinrank.reports.terminal import figure, reached

Json = dict[str, Any]
Arms = Mapping[str, Json]
Outcome = tuple[str, str]  # found here, verdict
Judge = Callable[[Arms], Outcome | None]

INHERIT, MEAN = "handover-barlow-inherit", "zero-shot"
NEAR_BEST = 0.9  # of the dual encoder's best validation accuracy: where an epoch counts as there
SEPARABLE = 0.7  # an AUC above it tells types apart better than not


# Theirs in short, their finding, the recipes that judge it, and how.
GUESSES: list[tuple[str, str, tuple[str, ...], Judge]] = []


def guess(thought: str, reported: str, *needed: str) -> Callable[[Judge], Judge]:
    """Add the function that judges a guess to `GUESSES`."""

    def add(judge: Judge) -> Judge:
        GUESSES.append((thought, reported, needed, judge))
        return judge

    return add


def list_expectations(results: Json) -> list[list[str]]:
    """Make a row of each expectation or guess: theirs, their finding, ours, the verdict."""
    tests = {
        d["arm"]: d for d in results["differences"] if d["metric"] == TOP_3 and d["type"] is None
    }
    arms = {name: {**arm, "test": tests.get(name)} for name, arm in arms_of(results).items()}
    rows = [["expected or guessed", "found by them", "found here", "verdict"]]
    rows += [
        [thought, reported, *outcome]
        for thought, reported, needed, judge in GUESSES
        if arms.keys() >= set(needed) and (outcome := judge(arms))
    ]
    return rows


def _measure_all(figure_name: str, arms: Arms, *names: str) -> list[float] | None:
    """Give a figure of the geometry of some recipes; None where one is undefined."""
    values = [measure(arms[name], figure_name) for name in names]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _reached_by(arms: Arms, *names: str) -> str:
    return "; ".join(f"{name} {reached(arms[name])}" for name in names)


@guess(
    "Centroids of an answer's questions and conversations: much nearer for the zero-shot head, "
    "nearer for the pre-trained",
    "dual 2.09, zero-shot 1.6, frozen 1.07",
    *(DUAL, PUBLISHED, PUBLISHED_FROZEN),
)
def _judge_centroids(arms: Arms) -> Outcome | None:
    values = _measure_all("centroid_distance", arms, DUAL, PUBLISHED, PUBLISHED_FROZEN)
    if values is None:
        return None
    nearer = sum(value < values[0] for value in values[1:])
    verdict = ("not reproduced", "in part reproduced", "reproduced")[nearer]
    return "dual {}, zero-shot {}, frozen {}".format(*map(figure, values)), verdict


@guess(
    "Distance to the answer: a little higher for the zero-shot head, the same for the pre-trained",
    "dual .059, zero-shot .058, frozen .032",
    *(DUAL, PUBLISHED, PUBLISHED_FROZEN),
)
def _judge_answer_distance(arms: Arms) -> Outcome | None:
    values = _measure_all("answer_distance", arms, DUAL, PUBLISHED, PUBLISHED_FROZEN)
    if values is None:
        return None
    measured = "dual {}, zero-shot {}, frozen {}".format(*map(figure, values))
    if values[2] >= values[0]:
        return measured, "the frozen variant is not nearer"
    worse = arms[PUBLISHED_FROZEN]["overall"][TOP_3] < arms[DUAL]["overall"][TOP_3]
    blind = " and ranks worse, so this distance does not measure ranking" if worse else ""
    return measured, f"the frozen variant is nearer{blind}"


@guess("BERT puts the two types in two planes", "not in a PCA of raw BERT", UNTRAINED)
def _judge_raw_planes(arms: Arms) -> Outcome | None:
    auc = measure(arms[UNTRAINED], "type_auc")
    if auc is None:
        return None
    apart = "a linear probe finds them apart where two axes of a PCA may not show it"
    return f"type AUC of the encoder {figure(auc)}", apart if auc > SEPARABLE else "they are mixed"


@guess("... and so does the ranker", "the trained dual encoder did", UNTRAINED, DUAL)
def _judge_trained_planes(arms: Arms) -> Outcome | None:
    values = _measure_all("type_auc", arms, UNTRAINED, DUAL)
    if values is None:
        return None
    verb = "separates" if values[1] > values[0] else "mixes"
    return "type AUC {} before, {} after".format(
        *map(figure, values)
    ), f"training to rank {verb} them"


@guess(
    "Pre-training makes ranking converge quicker",
    "hoped for, not reported",
    *(ONE_HEAD, DUAL, PUBLISHED_FROZEN, ACROSS_FROZEN),
)
def _judge_convergence(arms: Arms) -> Outcome | None:
    names = (ONE_HEAD, DUAL, PUBLISHED_FROZEN, ACROSS_FROZEN)
    curves = {name: arms[name]["epochs"]["ranking"] for name in names}
    goal = NEAR_BEST * max(value for seed in curves[DUAL] for value in seed[TOP_3])
    reach = {
        name: [
            next((e for e, v in zip(seed["epoch"], seed[TOP_3], strict=True) if v >= goal), None)
            for seed in seeds
        ]
        for name, seeds in curves.items()
    }
    cells = "; ".join(
        f"{name} {', '.join('never' if e is None else str(e) for e in epochs)}"
        for name, epochs in reach.items()
    )
    dual, mended = (
        max(float("inf") if epoch is None else epoch for epoch in reach[name])
        for name in (DUAL, ACROSS_FROZEN)
    )
    verdict = "not quicker" if mended >= dual else "quicker where batches mix answers"
    return f"epochs to {figure(goal)} on validation, by seed: {cells}", verdict


@guess(
    "The scale of the outputs is the cause",
    "validation loss 1.4e5 beside 340, axes to 80 beside 5; BatchNorm everywhere, no change",
    *(UNTRAINED, PUBLISHED, PUBLISHED_FROZEN, DUAL),
)
def _judge_scale(arms: Arms) -> Outcome | None:
    before = [arms[name]["epochs"]["ranking"][0]["loss"][0] for name in (PUBLISHED_FROZEN, DUAL)]
    ranges = [
        f"{sign(arms[n], 'axis_low'):.3g} to {sign(arms[n], 'axis_high'):.3g}"
        for n in (PUBLISHED, DUAL)
    ]
    cosine, encoder = sign(arms[PUBLISHED], "cosine_accuracy"), arms[UNTRAINED]["overall"][TOP_3]
    low, _ = arms[UNTRAINED]["intervals"]["overall"][TOP_3] or (encoder, encoder)
    outcome = "a symptom: {} does not bring" if cosine < low else "it may be the cause: {} brings"
    return (
        f"validation loss before ranking starts {before[0]:,.1f}, the dual's {before[1]:,.1f}; "
        f"main axis {ranges[0]}, the dual's {ranges[1]}",
        f"{outcome.format('cosine, which knows no scale,')} the ranking back "
        f"({figure(cosine)}, the encoder {figure(encoder)})",
    )


@guess(
    "The head is too small: the second objective overwrites the first",
    "why they froze it",
    *(INHERIT, DUAL),
)
def _judge_small_head(arms: Arms) -> Outcome | None:
    values, test = _reached_by(arms, INHERIT, DUAL), arms[INHERIT]["test"]  # against the dual
    if test is None:
        return None
    if test["p_holm"] < SIGNIFICANT and test["difference"] < 0:
        return values, "it does not recover wholly from where it starts"
    return values, "no worse than the dual encoder, as far as these queries can show"


@guess(
    "Freezing: the two models do not fit together",
    "about 0 at the start, .32 after 48 epochs",
    *(UNTRAINED, PUBLISHED_FROZEN, ACROSS_FROZEN, DUAL),
)
def _judge_freezing(arms: Arms) -> Outcome | None:
    values = _reached_by(arms, PUBLISHED_FROZEN, ACROSS_FROZEN, DUAL)
    if arms[ACROSS_FROZEN]["overall"][TOP_3] <= arms[PUBLISHED_FROZEN]["overall"][TOP_3]:
        return values, "these data cannot clear it"
    is_whole = judge_pretraining(ACROSS_FROZEN, arms) == "whole"
    return values, "not the cause" if is_whole else "not the main cause"


@guess(
    "That queries of one answer belong in one place is a human intuition",
    "a guess",
    *(NO_STEPS, PUBLISHED, ACROSS),
)
def _judge_intuition(arms: Arms) -> Outcome | None:
    past = [sign(arms[name], "nearest_past_query") for name in (NO_STEPS, ACROSS)]
    ranks = [arms[name]["overall"][TOP_3] for name in (PUBLISHED, ACROSS)]
    usable = "the intuition is usable; the batches were not"
    return (
        f"with true pairs of different answers top-3 accuracy is {figure(ranks[1])}; the nearest "
        f"past query is right for {figure(past[1])}, with no step {figure(past[0])}",
        usable if ranks[1] > ranks[0] else "not decided on these data",
    )


@guess("CLS is not enough", "a guess", UNTRAINED, ACROSS, MEAN)
def _judge_cls(arms: Arms) -> Outcome | None:
    cls, mean = (arms[name]["overall"][TOP_3] for name in (UNTRAINED, MEAN))
    measured = f"encoder by CLS {figure(cls)}, by the mean {figure(mean)}; {ACROSS} reads CLS too"
    whole = judge_pretraining(ACROSS, arms) == "whole"
    cost = "it costs quality" if cls < mean else "it costs nothing here"
    return measured, f"{cost}, and is {'not the cause' if whole else 'may play a part'}"


@guess("Two heads are better than one", ".49 beside .44", ONE_HEAD, DUAL)
def _judge_dual(arms: Arms) -> Outcome | None:
    dual, single = (arms[name]["overall"][TOP_3] for name in (DUAL, ONE_HEAD))
    measured = f"dual {reached(arms[DUAL])}, one head {reached(arms[ONE_HEAD])}"
    low, high = arms[ONE_HEAD]["intervals"]["overall"][TOP_3] or (single, single)
    if low <= dual <= high:
        return measured, "not reproduced: no difference that these queries could show"
    return measured, "reproduced" if dual > single else "not reproduced: two heads are worse"


@guess(
    "Why do the types go on drawing together though the head is frozen?",
    "their open question",
    *(UNTRAINED, DUAL, PUBLISHED, PUBLISHED_FROZEN),
)
def _judge_drawing_together(arms: Arms) -> Outcome | None:
    names = (UNTRAINED, DUAL, PUBLISHED, PUBLISHED_FROZEN)
    values = _measure_all("centroid_distance_relative", arms, *names)
    if values is None:
        return None
    cells = "; ".join(f"{name} {figure(v)}" for name, v in zip(names, values, strict=True))
    why = (
        "ranking itself does it: both types share their labels, and the dual encoder draws them "
        "together with no pre-training at all"
        if values[1] < values[0]
        else "not seen here: the dual encoder does not draw them together"
    )
    return f"centroid distance over that of random queries: {cells}", why
