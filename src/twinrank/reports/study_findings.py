"""What a study found, in sentences whose every number and claim comes from its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from twinrank.reports import study_text as text
from twinrank.reports.study import p_value, signed, signed_interval
from twinrank.reports.terminal import figure, interval

Json = dict[str, Any]
UNTRAINED = "zero-shot-cls"  # what the published pre-training starts from
PUBLISHED = "handover-barlow-zero-shot"
TOP_3 = "accuracy@3"
METRIC_NAMES = {TOP_3: "top-3 accuracy", "map@10": "MAP@10"}
SURE = 0.05  # a corrected p-value below it shows a difference
ON_TOP = ("handover-dual", "handover-barlow-inherit", "handover-barlow-freeze")
ALL_LABELS = "With all labels"
MENDED = ("zero-shot", "barlow-zero-shot")
EVEN = ("zero-shot", "handover-dual", "residual", "barlow-inherit", "barlow-joint")


def arms_of(results: Json) -> dict[str, Json]:
    """The recipes of a study by name."""
    return {arm["name"]: arm for arm in results["arms"]}


def fate(arm: Json, arms: Mapping[str, Json]) -> str | None:
    """What pre-training made of the untrained encoder's top-3 accuracy; none if that is unknown.

    `collapsed`: below half the lower end of the encoder's 95 % interval; `worse`: below that end;
    `whole`: not below it.
    """
    around = arms[UNTRAINED]["intervals"]["overall"][TOP_3] if UNTRAINED in arms else None
    if around is None:
        return None
    value, low = arm["overall"][TOP_3], around[0]
    return "collapsed" if value < low / 2 else "worse" if value < low else "whole"


def reached(arm: Json, metric: str = TOP_3, kind: str | None = None) -> str:
    """A figure with its 95 % interval: .310 (.226-.396)."""
    figures = arm["types"][kind] if kind else arm["overall"]
    around = arm["intervals"]["types"][kind] if kind else arm["intervals"]["overall"]
    return figure(figures[metric]) + (f" ({interval(around[metric])})" if around[metric] else "")


def type_auc(arm: Json) -> float | None:
    """How well a recipe's space tells types apart; none without a space, or with one type."""
    return arm["geometry"]["type_auc"]["mean"] if arm["geometry"] else None


def short(results: Json) -> list[str]:
    """What happened, what mends it, what ranks best, and what pre-training is worth."""
    arms = arms_of(results)
    told = happened(results)[:1]
    if "control-across" in arms:
        told.append(
            "With batches of different answers, and all else the same, top-3 accuracy is "
            f"{reached(arms['control-across'])}."
        )
    best = max(results["arms"], key=lambda arm: arm["overall"][TOP_3])
    told.append(f"The best recipe here is {best['name']}: {reached(best)}.")
    shown = _shown(_families(results))
    return [part for part in (" ".join(told), " ".join(shown)) if part]


def happened(results: Json) -> list[str]:
    """What the published pre-training leaves, by itself and under a ranker."""
    arms = arms_of(results)
    told = []
    if PUBLISHED in arms and (became := fate(arms[PUBLISHED], arms)):
        told.append(
            f"{text.HAPPENED[became]} Top-3 accuracy on the {results['split']} queries is "
            f"{reached(arms[UNTRAINED])} for the untrained encoder, and {reached(arms[PUBLISHED])} "
            "after the published pre-training."
        )
        ranks = [
            arms[name]["geometry"]["effective_rank"]["mean"] for name in (UNTRAINED, PUBLISHED)
        ]
        if None not in ranks:
            told[0] += (
                f" The queries use {ranks[0]:.1f} directions of the space before it (effective "
                f"rank), and {ranks[1]:.1f} after."
            )
    if listed := _listed(arms, ON_TOP):
        told.append(
            "A ranker was then trained with all labels: from scratch (dual), starting from the "
            f"pre-trained head (inherit), or on top of it (freeze). It reaches: {listed}."
        )
    return told


def why(results: Json) -> list[str]:
    """What each control asks, what became of it, and what follows from that."""
    arms = arms_of(results)
    collapsed = PUBLISHED in arms and fate(arms[PUBLISHED], arms) == "collapsed"
    told = [text.REASON]
    for name, (question, follows) in text.CONTROLS.items():
        if name in arms and (became := fate(arms[name], arms)):
            asked = question.format_map(arms[name]["recipe"]["pretraining"])
            fared = f"{text.FATES[became]}: {reached(arms[name])}."
            told.append(f"{asked} {fared} {follows[became] if collapsed else ''} ({name})")
    return told


def mend(results: Json) -> list[str]:
    """What the mended pre-training is, and how it ranks before any label is seen."""
    listed = _listed(arms_of(results), MENDED)
    return [text.MEND, f"Before any label is seen, top-3 accuracy is: {listed}."] if listed else []


def worth(results: Json) -> list[str]:
    """What pre-training changes with all labels, in all and by type; how even the rankers are."""
    counts, arms = results["queries"], arms_of(results)
    families = _families(results)
    told = _shown({k: v for k, v in families.items() if k == ALL_LABELS})
    if len(counts["types"]) > 1:
        for kind in counts["types"]:
            family = _families(results, kind).get(ALL_LABELS)
            told += _shown({f"On queries of type {kind}": family}) if family else []
        gaps = [f"{name} {figure(arms[name]['gap'][TOP_3])}" for name in EVEN if name in arms]
        told.append(
            "How uneven a ranker is, as the better type's top-3 accuracy minus the worse one's: "
            f"{', '.join(gaps) or '-'}."
        )
    return told


def fewer(results: Json) -> list[str]:
    """What pre-training changes with fewer labels, in all and by type, and how even rankers are.

    Where one type alone has fewer, its queries are looked at.
    """
    families = _families(results)
    families.pop(ALL_LABELS, None)
    told = _shown(families)
    for kind in results["queries"]["types"]:
        of_all = {
            f"{where}, on queries of type {kind},": family
            for where, family in _families(results, kind).items()
            if where != ALL_LABELS and "of type" not in where
        }
        told += _shown({k: v for k, v in of_all.items() if any(d["p_holm"] < SURE for d in v)})
    gaps: dict[float, list[str]] = {}
    for row in results["fewer_labels"]["rows"]:
        if row["fewer_of"] is None and len(row["types"]) > 1:
            gap = f"{row['name']} {figure(row['gap'][TOP_3])}"
            gaps.setdefault(row["share"], []).append(gap)
    if gaps:
        listed = "; ".join(f"{share:.0%}: {', '.join(g)}" for share, g in sorted(gaps.items()))
        told.append(f"How uneven a ranker is, by the share of the labels it saw: {listed}.")
    return told


def reading(results: Json) -> list[str]:
    """What changes with the sentences that are read, and how sure that is."""
    told = [text.READING] if results["reading"] else []
    pairs: dict[tuple[str, str], list[Json]] = {}
    for d in results["reading"]:
        if d["type"] is None:
            pairs.setdefault((d["arm"], d["without"]), []).append(d)
    for (one, other), family in pairs.items():
        changes = [
            f"{METRIC_NAMES[d['metric']]} {signed(d['difference'])} "
            f"({signed_interval(d['interval'])}, p {p_value(d['p_holm'])})"
            for d in family
        ]
        told.append(f"{one} against {other}: {', '.join(changes)}.")
    if pairs:
        sure = sum(d["p_holm"] < SURE for family in pairs.values() for d in family)
        of = sum(map(len, pairs.values()))
        told.append(
            f"Over all queries, {sure or 'none'} of these {of} differences "
            f"{'is' if sure < 2 else 'are'} more than chance could give (p below {figure(SURE)})."
        )
    return told


def space(results: Json) -> list[str]:
    """Whether ranking well needs the types mixed, and whether mixing them is enough."""
    placed = [(auc, arm) for arm in results["arms"] if (auc := type_auc(arm)) is not None]
    if len(placed) < 3:
        return []
    best_auc, best = max(placed, key=lambda pair: pair[1]["overall"][TOP_3])
    least_auc, mixed = min(placed, key=lambda pair: pair[0])
    middle_auc = median(auc for auc, _ in placed)
    middle = median(arm["overall"][TOP_3] for _, arm in placed)
    told = (
        "The published hypothesis was that ranking suffers because the types lie apart. "
        f"{best['name']} ranks best, {reached(best)}, and a linear probe tells the types apart in "
        f"its space with an AUC of {figure(best_auc)}. {mixed['name']} mixes the types most, with "
        f"an AUC of {figure(least_auc)}, and reaches {reached(mixed)}. The medians over all "
        f"{len(placed)} spaces are an AUC of {figure(middle_auc)} and an accuracy of "
        f"{figure(middle)}."
    )
    needless, futile = best_auc >= middle_auc, mixed["overall"][TOP_3] <= middle
    failed = " and not ".join(["necessary"] * needless + ["sufficient"] * futile)
    return [told + (f" On these data mixing is not {failed} for ranking well." if failed else "")]


def measured(results: Json) -> list[str]:
    """On what, with how many seeds, and how."""
    counts = results["queries"]
    by_type = ", ".join(f"{count:,} of type {kind}" for kind, count in counts["types"].items())
    about = (
        f"Data: {results['data']} (fingerprint {results['data_fingerprint']}), with "
        f"{results['labels']:,} labels for training. Measured on the {results['split']} split: "
        f"{counts['overall']:,} queries, {by_type}. Whatever is trained is trained with "
        f"{results['seeds']} seeds{_with_fewer(results)}, and its figures are means over them."
    )
    return [about, *text.MEASURED]


def _with_fewer(results: Json) -> str:
    """How many seeds there are with fewer labels, where that is another number."""
    drawn = {len(row["seeds"]) for row in results["fewer_labels"]["rows"] if row["share"] < 1}
    return f" ({min(drawn)} with fewer labels)" if drawn - {results["seeds"]} else ""


def left_out(results: Json) -> list[str]:
    """The controls that the data could not carry out, and why."""
    left = [f"{name}: {why}." for name, why in results["left_out"].items()]
    return left or ["Nothing: every recipe of the study was carried out on these data."]


def _listed(arms: Mapping[str, Json], names: Sequence[str]) -> str:
    return "; ".join(f"{name} {reached(arms[name])}" for name in names if name in arms)


def _families(results: Json, kind: str | None = None) -> dict[str, list[Json]]:
    """Differences by how many labels there were, over all queries or those of a type.

    Where only one type has fewer labels, over the queries of that type. The controls, which are
    there to fail, stay aside.
    """
    arms = arms_of(results)
    families: dict[str, list[Json]] = {}
    for d in results["differences"]:
        if d["type"] == kind and arms[d["arm"]]["part"] != "controls":
            families.setdefault(ALL_LABELS, []).append(d)
    for d in results["fewer_labels"]["differences"]:
        if d["type"] == (kind or d["fewer_of"]) and d["share"] < 1:
            rare = d["fewer_of"]
            whose = f" of type {rare} (and all others), on queries of type {rare}" if rare else ""
            families.setdefault(f"With {d['share']:.0%} of the labels{whose}", []).append(d)
    return families


def _shown(families: Mapping[str, Sequence[Json]]) -> list[str]:
    """Where pre-training helps or hurts, a sentence a family, and where it shows nothing."""
    told, silent = [], []
    nothing = "no difference that the queries measured could show"
    for where, family in families.items():
        sure = [d for d in family if d["p_holm"] < SURE]
        if not sure:
            silent.append(where[0].lower() + where[1:])
            continue
        left = len(family) - len(sure)
        others = f" In the other {left} of {len(family)} comparisons it makes {nothing}."
        told.append(f"{where} pre-training {_effects(sure)}.{others if left else ''}")
    return [*told, f"Pre-training makes {nothing} {', '.join(silent)}."] if silent else told


def _effects(sure: Sequence[Json]) -> str:
    """Hurts the top-3 accuracy of this recipe and that; helps ..."""
    told = []
    for metric, name in METRIC_NAMES.items():
        for word, sign in (("helps", 1), ("hurts", -1)):
            listed = [
                f"{d['arm']} ({signed(d['difference'])} against {d['without']}, "
                f"p {p_value(d['p_holm'])})"
                for d in sure
                if d["metric"] == metric and sign * d["difference"] > 0
            ]
            told += [f"{word} the {name} of {', '.join(listed)}"] if listed else []
    return "; it ".join(told)
