"""Findings about what can be counted: types, splits, answers, lengths, threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from twinrank.data import SPLITS
from twinrank.data.statistics import FEW
from twinrank.exploration.counts import ANSWERS, SECTIONS, unread
from twinrank.exploration.exploration import Exploration
from twinrank.exploration.finding import Finding, listed, many
from twinrank.exploration.near import RELATIONS

# Where something is large enough to be mended rather than known.
UNEVEN = 0.5  # of the even share of a type
OFTEN_NEAREST = 0.05  # of the labelled queries
MUCH_UNREAD = 0.1  # of the tokens of a kind of text
LIMITS = (128, 256, 512)  # tokens an encoder is made to read


def types(found: Exploration) -> Iterator[Finding]:
    """Is a type drowned by the others?"""
    counts = _of_types(found)
    total = sum(counts.values())
    if len(counts) == 1:
        (kind,) = counts
        yield Finding(
            "types",
            "know",
            f"All {many(total, 'query', 'queries')} are of one type, {kind}.",
            "If they are of several kinds (search box, chat, e-mail), give each its `type`: there "
            "is "
            "no parity to measure without.",
            {"types": 1, "queries": total},
        )
    elif counts:
        rare = min(counts, key=lambda kind: counts[kind])
        share = counts[rare] / total
        uneven = share < UNEVEN / len(counts)
        yield Finding(
            "types",
            "mend" if uneven else "fine",
            f"The rarest of {len(counts)} types, {rare}, has {share:.0%} of the queries.",
            "Train with the recipe `even`, which weighs the types that are learned worst, and "
            "judge "
            "by the worst type's figures."
            if uneven
            else "Nothing: no type is drowned by another.",
            {"types": len(counts), "queries": total, "rarest_share": share},
        )


def splits(found: Exploration) -> Iterator[Finding]:
    """Can every split train or measure?"""
    splits, labels = found.description.splits, found.description.counts["labels"]
    if not labels:
        yield Finding(
            "splits",
            "mend",
            "No query has a label.",
            "Label some to train and to measure; until then rank with `bm25` or `zero-shot`.",
            {"labels": 0},
        )
        return
    empty = [name for name in SPLITS if not splits[name]["labels"]]
    if empty:
        yield Finding(
            "splits",
            "mend",
            f"There are no labels in {listed(empty)}.",
            "Divide the labels there are with `twinrank split`.",
            {"splits_without_labels": len(empty)},
        )
    few = {
        f"{kind} in {name}": part["count"]
        for name in SPLITS
        if name not in empty
        for kind, part in splits[name]["types"].items()
        if part["count"] < FEW
    }
    if few:
        least = min(few, key=lambda place: few[place])
        yield Finding(
            "splits",
            "mend",
            f"{many(len(few), 'type of a split has', 'types of splits have')} fewer than {FEW} "
            f"labelled queries; the fewest: {few[least]}, {least}.",
            "Read its figures with their intervals, or give `twinrank split` larger shares.",
            {"few": len(few), "fewest": few[least]},
        )
    unseen = {name: count for name, count in found.unseen.items() if count}
    if unseen:
        parts = [f"{many(count, 'query', 'queries')} of {name}" for name, count in unseen.items()]
        yield Finding(
            "splits",
            "know",
            f"No label in train has the right answer of {listed(parts)}.",
            "A ranker knows these answers by their text alone, as it does new ones: expect less "
            "there.",
            {f"unseen_{name}": count for name, count in unseen.items()},
        )


def answers(found: Exploration) -> Iterator[Finding]:
    """How uneven the labels are over the answers."""
    used = found.popularity.filter(pl.col("queries") > 0)
    if used.is_empty():
        return
    half = int((used["share"] < 0.5).sum()) + 1
    ten = float(used["share"][min(9, used.height - 1)])
    says = (
        f"The ten commonest answers have {ten:.0%} of the labels, and {half:,} of "
        f"{found.popularity.height:,} answers have half of them"
    )
    figures = {"top_ten_share": ten, "half_of_labels": half}
    do = "Judge a ranker on rare answers too: a few common ones decide its mean."
    if found.known is not None:
        says += f"; to name the three commonest is right for {found.known:.0%} of validation"
        do = "Hold every top-3 accuracy against that figure, and look at rare answers apart."
        figures["commonest_three_accuracy"] = found.known
    yield Finding("answers", "know", f"{says}.", do, figures)


def unused(found: Exploration) -> Iterator[Finding]:
    """Which answers nobody was sent to."""
    total, asked = found.popularity.height, int(found.sample.labelled.sum())
    never = int((found.popularity["queries"] == 0).sum())
    near = int(found.unused["queries"].sum())
    figures: dict[str, int | float] = {
        "never_right": never,
        "answers": total,
        "nearest_to_queries": near,
    }
    if not asked:
        return
    if near:
        yield Finding(
            "unused",
            "mend" if near / asked >= OFTEN_NEAREST else "know",
            f"{never:,} of {total:,} answers ({never / total:.0%}) are right for no query, yet one "
            f"of them is the nearest article to {near / asked:.0%} of the labelled queries.",
            "Read the pairs on the page: add the label where the article is right too, and take "
            "articles out that nobody should be sent to.",
            figures,
        )
    elif never:
        says = f"{many(never, 'answer is', 'answers are')} right for no query, nor nearest to any."
        yield Finding("unused", "know", says, "Nothing: they distract nobody.", figures)
    else:
        yield Finding("unused", "fine", "Every answer is right for a query.", "Nothing.", figures)


def markup(found: Exploration) -> Iterator[Finding]:
    """Which texts hold HTML."""
    if counts := found.description.markup:
        parts = [f"{count:,} of {found.description.counts[n]:,} {n}" for n, count in counts.items()]
        says = f"{listed(parts)} hold HTML, whose tags and entities the encoder reads as words."
        do = "Make plain text of them, and import again, before anything else here is weighed."
        yield Finding("markup", "mend", says, do, {f"markup_{n}": c for n, c in counts.items()})


def lengths(found: Exploration) -> Iterator[Finding]:
    """What the encoder's limit cuts."""
    limit = found.max_tokens
    shares = {name: unread(own, limit)[1] for name, own in found.lengths.rows() if len(own)}
    whole = dict(sorted(shares.items(), key=lambda item: -item[1]))
    whole.pop(SECTIONS, None)
    much = {name: share for name, share in whole.items() if share >= MUCH_UNREAD}
    figures = {f"unread_{name}": share for name, share in shares.items()}
    if much:
        parts = [f"{share:.0%} of the tokens of {name}" for name, share in much.items()]
        says = f"At a limit of {limit} tokens the encoder never reads {listed(parts)}."
        tags = "Take the HTML out first: much of what is cut may be tags."
        do = tags if found.description.markup else _read_more(found, list(much))
        yield Finding("lengths", "mend", says, do, figures)
    elif whole:
        most = next(iter(whole.values()))
        says = (
            f"At a limit of {limit} tokens the encoder reads all but {most:.1%} of what is longest."
        )
        yield Finding("lengths", "fine", says, "Nothing: what is cut is little.", figures)


def _read_more(found: Exploration, names: list[str]) -> str:
    """The limit at which little is cut of each kind of text, or the best there is."""
    tokens = {name: own for name, own in found.lengths.rows() if name in names}
    sections = found.lengths.sections if ANSWERS in names else None
    if sections is not None:
        tokens[ANSWERS] = sections
    able = [n for n in LIMITS if found.max_tokens < n <= (found.longest or n)]
    left = {n: max(unread(own, n)[1] for own in tokens.values()) for n in able}
    enough = next((n for n in able if left[n] < MUCH_UNREAD), able[-1] if able else None)
    ways = []
    if sections is not None:
        ways.append('read answers section by section (`answers = "sections"`)')
    if enough:
        ways.append(f"set `max_tokens = {enough}`, which leaves at most {left[enough]:.0%} unread")
    if not ways:
        return "Shorten the texts before import, the essential first: this encoder reads no more."
    both = " and ".join(ways)
    return f"In the recipe's [encoder], {both}."


def scripts(found: Exploration) -> Iterator[Finding]:
    """Whether BM25 finds words at all."""
    for warning in found.unspaced:
        says, do = warning.split(": ")
        yield Finding("scripts", "mend", f"{says}.", f"{do[0].upper()}{do[1:]}.", {})


def threads(found: Exploration) -> Iterator[Finding]:
    """What joins the types without labels."""
    several = found.description.counts["threads_of_several_types"]
    means = dict(zip(RELATIONS, found.kinship.means, strict=True))
    inside, across = means["same thread"], means["same answer, other type"]
    if several:
        beside = (
            f": their cosine is {inside:.2f}, that of two queries of one answer and different "
            "types "
            f"{across:.2f}"
            if np.isfinite(inside) and np.isfinite(across)
            else ""
        )
        yield Finding(
            "threads",
            "know",
            f"{many(several, 'thread holds', 'threads hold')} queries of several types{beside}.",
            'Pre-train on them (`pairing = "thread"`, recipe `barlow-inherit`): no label needed.',
            {"threads_of_several_types": several, **_known(same_thread=inside, same_answer=across)},
        )
    elif len(found.description.splits["train"]["types"]) > 1:
        yield Finding(
            "threads",
            "know",
            "No thread holds queries of several types.",
            "If a ticket has a subject and a transcript, give both the same `thread`: they then "
            "never fall in different splits, and can be paired without labels.",
            {"threads_of_several_types": 0},
        )


def unlabelled(found: Exploration) -> Iterator[Finding]:
    """What no label says anything about."""
    none, total = (
        found.description.splits["unlabelled"]["queries"],
        found.description.counts["queries"],
    )
    if none and none < total:
        paired = found.description.counts["threads_of_several_types"]
        yield Finding(
            "unlabelled",
            "know",
            f"{none:,} of {total:,} queries ({none / total:.0%}) have no label.",
            'Let pre-training see them (`pairing = "thread"`), or label those that people ask most.'
            if paired
            else "Label those that people ask most; nothing else learns from them.",
            {"unlabelled": none, "queries": total},
        )


def _of_types(found: Exploration) -> dict[str, int]:
    splits = found.description.splits.values()
    kinds = {kind for split in splits for kind in split["types"]}
    return {k: sum(split["types"][k]["count"] for split in splits) for k in sorted(kinds)}


def _known(**figures: float) -> dict[str, int | float]:
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}
