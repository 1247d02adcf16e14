"""The published system's expectations and guesses, beside the figures of a study and a verdict.

Each row is a function from the recipes of a study to what is found here, and the verdict that
follows from it; None where the study lacks a recipe or figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
    judge_pretraining,
    measure,
    sign,
)
from twinrank.reports.terminal import figure, reached

Json = dict[str, Any]
Arms = Mapping[str, Json]
Outcome = tuple[str, str]  # found here, verdict

INHERIT = "handover-barlow-inherit"
NEAR_BEST = 0.9  # of the dual encoder's best validation accuracy: where an epoch counts as there
SEPARABLE = 0.7  # an AUC above it tells types apart better than not
THREE = (DUAL, PUBLISHED, PUBLISHED_FROZEN)


def list_expectations(results: Json) -> list[list[str]]:
    """Make a row of each expectation or guess: theirs, their finding, ours, the verdict."""
    tests = {
        d["arm"]: d for d in results["differences"] if d["metric"] == TOP_3 and d["type"] is None
    }
    arms = {arm["name"]: {**arm, "test": tests.get(arm["name"])} for arm in results["arms"]}
    rows = [["expected or guessed", "found by them", "found here", "verdict"]]
    rows += [
        [guess.thought, guess.reported, *outcome]
        for guess in GUESSES
        if arms.keys() >= set(guess.needed) and (outcome := guess.judge(arms))
    ]
    return rows


def judge_centroids(arms: Arms) -> Outcome | None:
    """Whether pre-training brings an answer's two centroids together."""
    values = [measure(arms[name], "centroid_distance") for name in THREE]
    if None in values:
        return None
    dual, *others = (value or 0.0 for value in values)
    nearer = sum(value < dual for value in others)
    return _distances(values), ("not reproduced", "in part reproduced", "reproduced")[nearer]


def judge_answer_distance(arms: Arms) -> Outcome | None:
    """Whether pre-training brings queries nearer to their answers."""
    values = [measure(arms[name], "answer_distance") for name in THREE]
    if None in values:
        return None
    dual, _, frozen = (value or 0.0 for value in values)
    if frozen >= dual:
        return _distances(values), "the frozen variant is not nearer"
    worse = arms[PUBLISHED_FROZEN]["overall"][TOP_3] < arms[DUAL]["overall"][TOP_3]
    blind = " and ranks worse, so this distance does not measure ranking" if worse else ""
    return _distances(values), f"the frozen variant is nearer{blind}"


def judge_raw_planes(arms: Arms) -> Outcome | None:
    """Whether the encoder keeps the types apart."""
    auc = measure(arms[UNTRAINED], "type_auc")
    if auc is None:
        return None
    apart = "a linear probe finds them apart where two axes of a PCA may not show it"
    return f"type AUC of the encoder {figure(auc)}", apart if auc > SEPARABLE else "they are mixed"


def judge_trained_planes(arms: Arms) -> Outcome | None:
    """Whether ranking moves the types apart."""
    raw, trained = (measure(arms[name], "type_auc") for name in (UNTRAINED, DUAL))
    if raw is None or trained is None:
        return None
    verdict = "training to rank separates them" if trained > raw else "training to rank mixes them"
    return f"type AUC {figure(raw)} before, {figure(trained)} after", verdict


def judge_convergence(arms: Arms) -> Outcome | None:
    """How many epochs a ranker needs to come near the dual encoder's best."""
    names = (ONE_HEAD, DUAL, PUBLISHED_FROZEN, ACROSS_FROZEN)
    curves = {name: arms[name]["epochs"]["ranking"] for name in names}
    goal = NEAR_BEST * max(value for seed in curves[DUAL] for value in seed[TOP_3])
    reach = {name: [_first_epoch(seed, goal) for seed in curves[name]] for name in names}
    cells = "; ".join(
        f"{name} {', '.join('never' if e is None else str(e) for e in epochs)}"
        for name, epochs in reach.items()
    )
    dual, mended = (_slowest(reach[name]) for name in (DUAL, ACROSS_FROZEN))
    verdict = "not quicker" if mended >= dual else "quicker where batches mix answers"
    return f"epochs to {figure(goal)} on validation, by seed: {cells}", verdict


def judge_scale(arms: Arms) -> Outcome | None:
    """Whether the scale grows."""
    before = [arms[name]["epochs"]["ranking"][0]["loss"][0] for name in (PUBLISHED_FROZEN, DUAL)]
    ranges = [
        f"{sign(arms[n], 'axis_low'):.3g} to {sign(arms[n], 'axis_high'):.3g}"
        for n in (PUBLISHED, DUAL)
    ]
    cosine, encoder = sign(arms[PUBLISHED], "cosine_accuracy"), arms[UNTRAINED]["overall"][TOP_3]
    low, _ = arms[UNTRAINED]["intervals"]["overall"][TOP_3] or (encoder, encoder)
    outcome = "a symptom: {} does not bring" if cosine < low else "it may be the cause: {} brings"
    verdict = (
        f"{outcome.format('cosine, which knows no scale,')} the ranking back "
        f"({figure(cosine)}, the encoder {figure(encoder)})"
    )
    return (
        f"validation loss before ranking starts {before[0]:,.1f}, the dual's {before[1]:,.1f}; "
        f"main axis {ranges[0]}, the dual's {ranges[1]}"
    ), verdict


def judge_small_head(arms: Arms) -> Outcome | None:
    """Whether a head that inherits can still learn to rank."""
    values = "; ".join(f"{name} {reached(arms[name])}" for name in (INHERIT, DUAL))
    test = arms[INHERIT]["test"]  # against the dual encoder
    if test is None:
        return None
    if test["p_holm"] < SIGNIFICANT and test["difference"] < 0:
        return values, "it does not recover wholly from where it starts"
    return values, "no worse than the dual encoder, as far as these queries can show"


def judge_freezing(arms: Arms) -> Outcome | None:
    """Whether a frozen head under a new one is to blame."""
    values = "; ".join(
        f"{name} {reached(arms[name])}" for name in (PUBLISHED_FROZEN, ACROSS_FROZEN, DUAL)
    )
    outcome = judge_pretraining(ACROSS_FROZEN, arms)
    if arms[ACROSS_FROZEN]["overall"][TOP_3] <= arms[PUBLISHED_FROZEN]["overall"][TOP_3]:
        return values, "these data cannot clear it"
    return values, "not the cause" if outcome == "whole" else "not the main cause"


def judge_intuition(arms: Arms) -> Outcome | None:
    """Whether it is wrong to want queries of one answer in one place."""
    past = [sign(arms[name], "nearest_past_query") for name in (NO_STEPS, ACROSS)]
    ranks = [arms[name]["overall"][TOP_3] for name in (PUBLISHED, ACROSS)]
    measured = (
        f"with true pairs of different answers top-3 accuracy is {figure(ranks[1])}; the nearest "
        f"past query is right for {figure(past[1])}, with no step {figure(past[0])}"
    )
    return measured, (
        "the intuition is usable; the batches were not"
        if ranks[1] > ranks[0]
        else "not decided on these data"
    )


def judge_cls(arms: Arms) -> Outcome | None:
    """Whether the CLS feature is to blame."""
    cls, mean = (arms[name]["overall"][TOP_3] for name in (UNTRAINED, "zero-shot"))
    measured = f"encoder by CLS {figure(cls)}, by the mean {figure(mean)}; {ACROSS} reads CLS too"
    whole = judge_pretraining(ACROSS, arms) == "whole"
    cost = "it costs quality" if cls < mean else "it costs nothing here"
    return measured, f"{cost}, and is {'not the cause' if whole else 'may play a part'}"


def judge_dual(arms: Arms) -> Outcome | None:
    """Whether two heads are better than one."""
    dual, single = (arms[name]["overall"][TOP_3] for name in (DUAL, ONE_HEAD))
    measured = f"dual {reached(arms[DUAL])}, one head {reached(arms[ONE_HEAD])}"
    low, high = arms[ONE_HEAD]["intervals"]["overall"][TOP_3] or (single, single)
    if low <= dual <= high:
        return measured, "not reproduced: no difference that these queries could show"
    return measured, "reproduced" if dual > single else "not reproduced: two heads are worse"


def judge_drawing_together(arms: Arms) -> Outcome | None:
    """Why types go on drawing together although the pre-trained head is frozen."""
    names = (UNTRAINED, DUAL, PUBLISHED, PUBLISHED_FROZEN)
    values = [measure(arms[name], "centroid_distance_relative") for name in names]
    if None in values:
        return None
    raw, dual, *_ = (value or 0.0 for value in values)
    cells = "; ".join(f"{n} {figure(v or 0)}" for n, v in zip(names, values, strict=True))
    why = (
        "ranking itself does it: both types share their labels, and the dual encoder draws them "
        "together with no pre-training at all"
        if dual < raw
        else "not seen here: the dual encoder does not draw them together"
    )
    return f"centroid distance over that of random queries: {cells}", why


class Guess(NamedTuple):
    """An expectation or guess of theirs, their finding, and our judge with the recipes it needs."""

    thought: str
    reported: str
    judge: Callable[[Arms], Outcome | None]
    needed: tuple[str, ...]


GUESSES = (
    Guess(
        "Centroids of an answer's questions and conversations: much nearer for the zero-shot "
        "head, nearer for the pre-trained",
        "dual 2.09, zero-shot 1.6, frozen 1.07",
        judge_centroids,
        THREE,
    ),
    Guess(
        "Distance to the answer: a little higher for the zero-shot head, the same for the "
        "pre-trained",
        "dual .059, zero-shot .058, frozen .032",
        judge_answer_distance,
        THREE,
    ),
    Guess(
        "BERT puts the two types in two planes",
        "not in a PCA of raw BERT",
        judge_raw_planes,
        (UNTRAINED,),
    ),
    Guess(
        "... and so does the ranker",
        "the trained dual encoder did",
        judge_trained_planes,
        (UNTRAINED, DUAL),
    ),
    Guess(
        "Pre-training makes ranking converge quicker",
        "hoped for, not reported",
        judge_convergence,
        (PUBLISHED_FROZEN, ACROSS_FROZEN, ONE_HEAD, DUAL),
    ),
    Guess(
        "The scale of the outputs is the cause",
        "validation loss 1.4e5 beside 340, axes to 80 beside 5; BatchNorm everywhere, no change",
        judge_scale,
        (UNTRAINED, PUBLISHED, PUBLISHED_FROZEN, DUAL),
    ),
    Guess(
        "The head is too small: the second objective overwrites the first",
        "why they froze it",
        judge_small_head,
        (INHERIT, DUAL),
    ),
    Guess(
        "Freezing: the two models do not fit together",
        "about 0 at the start, .32 after 48 epochs",
        judge_freezing,
        (UNTRAINED, PUBLISHED_FROZEN, ACROSS_FROZEN, DUAL),
    ),
    Guess(
        "That queries of one answer belong in one place is a human intuition",
        "a guess",
        judge_intuition,
        (NO_STEPS, PUBLISHED, ACROSS),
    ),
    Guess(
        "CLS is not enough",
        "a guess",
        judge_cls,
        (UNTRAINED, ACROSS, "zero-shot"),
    ),
    Guess(
        "Two heads are better than one",
        ".49 beside .44",
        judge_dual,
        (ONE_HEAD, DUAL),
    ),
    Guess(
        "Why do the types go on drawing together though the head is frozen?",
        "their open question",
        judge_drawing_together,
        (UNTRAINED, PUBLISHED, PUBLISHED_FROZEN, DUAL),
    ),
)


def _distances(values: list[float | None]) -> str:
    names = ("dual", "zero-shot", "frozen")
    return ", ".join(f"{name} {figure(v or 0)}" for name, v in zip(names, values, strict=True))


def _first_epoch(curve: Json, goal: float) -> int | None:
    pairs = zip(curve["epoch"], curve[TOP_3], strict=True)
    return next((epoch for epoch, value in pairs if value >= goal), None)


def _slowest(epochs: list[int | None]) -> float:
    return max(float("inf") if epoch is None else epoch for epoch in epochs)
