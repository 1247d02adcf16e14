"""Findings of the handover's study: sentences whose every figure comes from its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from twinrank.reports.terminal import (
    figure,
    join_words,
    metric_name,
    p_value,
    reached,
    signed,
    signed_interval,
)

Json = dict[str, Any]

TOP_3, MAP_10 = "accuracy@3", "map@10"
UNTRAINED = "zero-shot-cls"  # where the published pre-training starts
PUBLISHED, PUBLISHED_FROZEN = "handover-barlow-zero-shot", "handover-barlow-freeze"
NO_STEPS, NOISE, ACROSS = "control-no-steps", "control-noise", "control-across"
DUAL, ONE_HEAD, ACROSS_FROZEN = "handover-dual", "handover-baseline", "control-across-freeze"
SIGNIFICANT = 0.05  # a corrected p-value below it shows a difference
FEW_SEEDS = 3  # with fewer, a difference may be that of the seeds
FLAT_WITHIN = 0.1  # of the expected loss: what measured losses may differ from it by
MOST = 0.5  # of the variance
LAST_STEPS = 10  # the last tenth of the steps
OUTCOMES = {
    "collapsed": "collapses",
    "worse": "ranks worse than the untrained encoder, but does not collapse",
    "whole": "does not collapse",
}
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


def find_cause(results: Json) -> list[str]:
    """The cause in one breath: a flat loss, and where walking on it leads."""
    arms = arms_of(results)
    if not (outcome := judge_pretraining(PUBLISHED, arms)):
        return []
    published, untrained = arms[PUBLISHED], arms[UNTRAINED]
    expected, measured = published["expected_loss"], mean_loss(published)
    flat = abs(measured / expected - 1) <= FLAT_WITHIN
    loss = (
        f"Partners drawn at random within one answer make the objective flat: whatever the head, "
        f"the loss to expect is {expected:.0f}, and over {published['steps']:,} steps it was "
        f"{measured:.0f} on average"
        if flat
        else f"The loss to expect of partners drawn at random is {expected:.0f}; over "
        f"{published['steps']:,} steps it was {measured:.0f} on average, so that here it was not "
        "quite flat"
    )
    axis, places = (
        [sign(arm, name) for arm in (untrained, published)]
        for name in ("first_axis", "first_places")
    )
    walk = ""
    if axis[1] > axis[0] and places[1] > places[0]:
        walk = (
            " Walking on it is not harmless: each step fits the accident of one draw by making "
            f"features move together. In the end {axis[1]:.1%} of the variance of the queries lies "
            f"on one axis ({axis[0]:.1%} in the encoder), and the three commonest first answers "
            f"come first for {places[1]:.0%} of the queries ({places[0]:.0%})."
        )
    return [
        f"{loss}.{walk} The published pre-training ({PUBLISHED}) {OUTCOMES[outcome]}: its top-3 "
        f"accuracy on the {results['split']} queries is {reached(published)}, that of the "
        f"untrained encoder {reached(untrained)}."
    ]


def find_mend(results: Json) -> list[str]:
    """Whether true pairs of different answers mend it."""
    arms = arms_of(results)
    if ACROSS not in arms or not (outcome := judge_pretraining(ACROSS, arms)):
        return []
    across = arms[ACROSS]
    first, last = loss_at_ends(across)
    return [
        f"With batches of different answers and all else the same ({ACROSS}, as many steps), what "
        f"both sides of a pair share is the answer: the loss goes from {first:.0f} to {last:.0f}, "
        f"where random partners would give {across['expected_loss']:.0f}, and the pre-training "
        f"{OUTCOMES[outcome]}: {reached(across)}."
    ]


def find_best(results: Json) -> list[str]:
    """The best recipe."""
    best = max(results["arms"], key=lambda arm: arm["overall"][TOP_3])
    how = "with pre-training" if "pretraining" in best["recipe"] else "without pre-training"
    return [f"The best recipe here is {best['name']}, {how}: top-3 accuracy {reached(best)}."]


def find_seeds(results: Json) -> list[str]:
    """A warning where seeds are too few to speak of recipes."""
    if results["seeds"] >= FEW_SEEDS:
        return []
    return [
        f"Each recipe was trained with {count(results['seeds'], 'seed')}: the intervals tell how "
        "far other queries could move a figure, and nothing about other seeds. A small difference "
        f"may be one of the seeds; give --seeds {FEW_SEEDS} or more."
    ]


def find_flatness(results: Json) -> list[str]:
    """How near measured losses are to the flat one."""
    rows = [arm for arm in pretrained_arms(results) if arm["expected_loss"]]
    near = [a["name"] for a in rows if abs(mean_loss(a) / a["expected_loss"] - 1) <= FLAT_WITHIN]
    below = [a["name"] for a in rows if loss_at_ends(a)[1] < (1 - FLAT_WITHIN) * a["expected_loss"]]
    lines = []
    if near:
        lines.append(
            f"Within {FLAT_WITHIN:.0%} of the predicted constant, on the mean of all steps: "
            f"{join_words(near)}."
        )
    if below:
        lines.append(f"Below it by more at the end: {join_words(below)}.")
    for arm in (a for a in pretrained_arms(results) if not a["expected_loss"]):
        first, last = loss_at_ends(arm)
        lines.append(
            f"The formula says nothing of {arm['name']}, which is standardised with the queries of "
            f"all answers. Its loss goes from {first:.0f} to {last:.0f}."
        )
    return lines


def find_line(results: Json) -> list[str]:
    """Which answers come first most often."""
    arms = arms_of(results)
    lines = []
    for name in (UNTRAINED, PUBLISHED, ACROSS):
        if name in arms and arms[name]["hubs"]:
            hubs = "; ".join(f"“{hub['title']}” {hub['share']:.0%}" for hub in arms[name]["hubs"])
            lines.append(f"{name}, seed 0, the commonest first answers: {hubs}.")
    dual, untrained = arms.get(DUAL), arms.get(UNTRAINED)
    ranks = dual and untrained and dual["overall"][TOP_3] >= untrained["overall"][TOP_3]
    if dual and ranks and sign(dual, "first_axis") > MOST:
        lines.append(
            f"An axis alone is no collapse: {DUAL} has {sign(dual, 'first_axis'):.0%} of its "
            f"variance on one and reaches {reached(dual)}. Its answers learned with its queries; "
            "those of the published pre-training did not."
        )
    return lines


def find_puzzle(results: Json) -> list[str]:
    """Why the space looked better and ranking was gone."""
    arms = arms_of(results)
    if UNTRAINED not in arms or PUBLISHED not in arms:
        return []
    pair = (arms[UNTRAINED], arms[PUBLISHED])
    past, ratio, dot, cosine = (
        [sign(arm, name) for arm in pair]
        for name in ("nearest_past_query", "right_over_wrong", "dot_accuracy", "cosine_accuracy")
    )
    before, after = (measure(arm, "answer_share") for arm in pair)
    share = ""
    if before is not None and after is not None:
        share = f", the share of variance between answers {change(before, after)}"
    lines = [
        "Distances and planes look at queries among queries. There the nearest past query has the "
        f"right answer for {figure(past[1])} of the queries ({figure(past[0])} in the encoder)"
        f"{share}."
    ]
    lines.append(
        "Ranking is a dot product between a query and the answers, which never took part in "
        f"pre-training: top-3 accuracy {change(*dot)}, and by the cosine of the same vectors "
        f"{change(*cosine)}. The distance to the right answer over that to wrong ones, of which 1 "
        f"tells nothing apart, {change(*ratio)}."
    )
    if past[1] > 2 * dot[1]:
        lines.append(
            "So both observations are true at once: what is near what partly survives, and ranking "
            "does not."
        )
    return lines


def find_controls(results: Json) -> list[str]:
    """The outcome of every control."""
    arms = arms_of(results)
    outcomes = {name: judge_pretraining(name, arms) for name in BATCHES if name != PUBLISHED}
    lines = [
        f"{describe_batches(arms[name]).capitalize()} ({name}"
        + (f", {arms[name]['steps']:,} steps): " if name != NO_STEPS else "): ")
        + f"{OUTCOMES[outcome]}, {reached(arms[name])}."
        for name, outcome in outcomes.items()
        if outcome
    ]
    steps = [arm["steps"] for arm in pretrained_arms(results) if arm["name"] in BATCHES]
    if steps and lines:
        lines.append(
            "The controls pass over as many batches as the published pre-training, as near as "
            f"whole epochs allow: {min(steps):,} to {max(steps):,}."
        )
    return lines


def find_freezing(results: Json) -> list[str]:
    """Whether freezing and putting a new ranker on top is to blame."""
    arms = arms_of(results)
    if not {DUAL, PUBLISHED_FROZEN, ACROSS_FROZEN} <= arms.keys():
        return []
    return [
        f"A dual encoder on top of the frozen head reaches {reached(arms[PUBLISHED_FROZEN])} as "
        f"published and {reached(arms[ACROSS_FROZEN])} with batches of different answers "
        f"({ACROSS_FROZEN}: as many epochs, {arms[ACROSS_FROZEN]['steps']:,} steps); without "
        f"pre-training {reached(arms[DUAL])}."
    ]


def find_worth(results: Json) -> list[str]:
    """What pre-training changes with all labels, over all queries."""
    overall = [d for d in results["differences"] if d["type"] is None]
    return _describe_differences("With all labels", overall)


def find_worth_of_few_labels(results: Json) -> list[str]:
    """What pre-training changes with fewer labels, and how even rankers are then."""
    families: dict[str, list[Json]] = {}
    for d in results["fewer_labels"]["differences"]:
        if d["share"] < 1 and d["type"] == d["fewer_of"]:
            of = f" of type {d['type']} (and all others), on its queries" if d["type"] else ""
            families.setdefault(f"{d['share']:.0%} of the labels{of}", []).append(d)
    sure = {
        group: family
        for group, family in families.items()
        if any(d["p_holm"] < SIGNIFICANT for d in family)
    }
    lines = [line for group in sure for line in _describe_differences(f"With {group}", sure[group])]
    if unsure := [group for group in families if group not in sure]:
        number = sum(len(families[group]) for group in unsure)
        lines.append(
            f"With {join_words(unsure)}, pre-training makes no difference that the queries "
            f"measured could show ({count(number, 'comparison')})."
        )
    gaps = [
        f"{row['share']:.0%} {row['name']} {figure(row['gap'][TOP_3])}"
        for row in sorted(results["fewer_labels"]["rows"], key=lambda row: row["share"])
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


FINDINGS: dict[str, tuple[Callable[[Json], list[str]], ...]] = {
    "In short": (find_cause, find_mend, find_best, find_seeds),
    "Why the loss is flat": (find_flatness,),
    "Where walking on it leads": (find_line,),
    "Why the space looked better": (find_puzzle,),
    "The controls": (find_controls, find_freezing),
    "What pre-training is worth": (find_worth,),
    "With fewer labels": (find_worth_of_few_labels,),
    "What the encoder reads": (find_reading,),
}


def collect_findings(results: Json) -> dict[str, list[str]]:
    """Collect the sentences of a study by heading."""
    return {
        heading: [line for find in functions for line in find(results)]
        for heading, functions in FINDINGS.items()
    }


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


def mean_loss(arm: Json) -> float:
    """Give the mean loss of pre-training over all steps and seeds."""
    return fmean(loss for seed in arm["losses"] for loss in seed)


def loss_at_ends(arm: Json) -> tuple[float, float]:
    """Give the mean loss of the first and of the last tenth of the steps, over seeds."""
    n = max(1, arm["steps"] // LAST_STEPS)
    first, last = ([seed[part] for seed in arm["losses"]] for part in (slice(n), slice(-n, None)))
    return fmean(loss for seed in first for loss in seed), fmean(x for seed in last for x in seed)


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


def change(before: float, after: float) -> str:
    """Say where a figure goes: falls from .253 to .003."""
    if figure(before) == figure(after):
        return f"stays at {figure(after)}"
    verb = "rises" if after > before else "falls"
    return f"{verb} from {figure(before)} to {figure(after)}"


def count(number: int, noun: str) -> str:
    """Say how many: 1 seed, 3 seeds."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe_difference(d: Json) -> str:
    """Say what differs, by how much and how surely."""
    return (
        f"{metric_name(d['metric'])} {signed(d['difference'])} "
        f"({signed_interval(d['interval'])}, p {p_value(d['p_holm'])})"
    )


def _describe_differences(where: str, differences: Sequence[Json]) -> list[str]:
    """Say in a sentence which of some differences are beyond chance; nothing if there are none."""
    if not differences:
        return []
    sure = [d for d in differences if d["p_holm"] < SIGNIFICANT]
    if not sure:
        nothing = "makes no difference that the queries measured could show"
        return [f"{where} pre-training {nothing} ({count(len(differences), 'comparison')})."]
    lines = [f"{d['arm']} against {d['without']}: {describe_difference(d)}" for d in sure]
    return [
        f"{where} pre-training makes a difference beyond chance in {len(sure)} of "
        f"{count(len(differences), 'comparison')}: {'; '.join(lines)}."
    ]
