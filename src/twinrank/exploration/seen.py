"""Findings about what the encoder sees: labels, near twins, the space, words."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from twinrank.exploration.exploration import Exploration
from twinrank.exploration.finding import Finding, many
from twinrank.exploration.labels import DOUBTED
from twinrank.exploration.twins import NEAR

# Where something is large enough to be mended rather than known.
MUCH_OVERLAP = 0.05  # of the queries of a split
MUCH_DISAGREEMENT = 0.2  # of the labelled queries with a labelled twin
TOLD_APART = 0.9  # AUC


def labels(found: Exploration) -> Iterator[Finding]:
    """Labels that look wrong."""
    if found.doubts.is_empty():
        return
    total, doubted = found.doubts.height, int(found.doubts["doubted"].sum())
    says = (
        f"For {doubted:,} of {total:,} labels ({doubted / total:.1%}) the nearest queries and "
        f"articles vote {DOUBTED} to 1 or more for another answer"
    )
    figures: dict[str, int | float] = {"doubted": doubted, "labels": total}
    if found.check is not None:
        says += f"; of labels swapped on purpose {found.check.found:.0%} are found like that"
        figures |= {"swapped_found": found.check.found, "others_doubted": found.check.others}
    do = (
        "Read the list from the top and mend what is wrong; what is right though it looks odd is "
        "worth keeping."
        if doubted
        else "Nothing."
    )
    yield Finding("labels", "mend" if doubted else "fine", f"{says}.", do, figures)


def twins(found: Exploration) -> Iterator[Finding]:
    """Alike, but labelled otherwise."""
    known = found.twins.filter("labelled")
    if known.is_empty():
        return
    both = pl.concat(
        [known.select(row="one", agree="agree"), known.select(row="other", agree="agree")]
    )
    queries = both["row"].n_unique()
    odd = both.filter(~pl.col("agree"))["row"].n_unique()
    much = odd / queries >= MUCH_DISAGREEMENT
    yield Finding(
        "twins",
        "mend" if odd and much else "know" if odd else "fine",
        f"{odd:,} of {queries:,} labelled queries with a near twin ({odd / queries:.0%}) have a "
        "twin that "
        "is labelled with another answer.",
        "Agree on one answer for each, or give both answers to both: no first answer can be right "
        "for "
        "two labels."
        if odd
        else "Nothing: what is asked alike is answered alike.",
        {"queries_with_twins": queries, "disagreeing": odd},
    )


def overlap(found: Exploration) -> Iterator[Finding]:
    """What of a split was seen in train."""
    for name, counts in found.overlap.items():
        share = counts["twins"] / counts["queries"]
        much = share >= MUCH_OVERLAP
        yield Finding(
            "overlap",
            "mend" if much else "fine",
            f"{counts['twins']:,} of {counts['queries']:,} {name} queries ({share:.0%}) have a "
            "near "
            f"twin in train, and {counts['agree']:,} of them with the same answer.",
            "Give twins that are one case the same `thread` and divide anew with `twinrank split`; "
            "else expect less on what was never asked before."
            if much
            else f"Nothing: hardly anything in {name} was seen in train.",
            {f"{name}_{key}": value for key, value in counts.items()},
        )


def answer_twins(found: Exploration) -> Iterator[Finding]:
    """Answers that the encoder cannot tell apart."""
    pairs = found.answer_twins
    used = set(found.popularity.filter(pl.col("queries") > 0)["answer"])
    ids = found.sample.answers["id"]
    split = sum(
        ids[a] in used and ids[b] in used for a, b in pairs.select("one", "other").iter_rows()
    )
    yield Finding(
        "answer_twins",
        "mend" if len(pairs) else "fine",
        f"{many(len(pairs), 'pair of answers is', 'pairs of answers are')} nearly the same to the "
        f"encoder (cosine {NEAR} or more); in {split:,} of them both are right for some query."
        if len(pairs)
        else f"No two answers are nearly the same to the encoder (cosine {NEAR} or more).",
        "Merge those that say the same, or label queries with both; where they differ behind the "
        "limit, put the difference into the title."
        if len(pairs)
        else "Nothing.",
        {"pairs": len(pairs), "both_right": split},
    )


def space(found: Exploration) -> Iterator[Finding]:
    """Do the types lie apart?"""
    auc, types, answers = (found.space.get(f) for f in ("type_auc", "type_share", "answer_share"))
    if auc is None or types is None or answers is None:
        return
    apart = auc >= TOLD_APART
    yield Finding(
        "space",
        "know" if apart else "fine",
        f"A straight cut through the raw features tells the types apart with AUC {auc:.2f}; types "
        f"hold {types:.0%} of the variance, answers {answers:.0%}.",
        "Look at `twinrank geometry` after training; if the types still lie apart and one is "
        "worse, "
        "pre-train with `barlow-inherit`."
        if apart
        else "Nothing: the encoder does not tell the types apart.",
        {"type_auc": auc, "type_share": types, "answer_share": answers},
    )


def words(found: Exploration) -> Iterator[Finding]:
    """Is it layout that tells the types apart?"""
    marks = {
        kind: found.words.filter(pl.col("type") == kind)["word"].head(3).to_list()
        for kind in found.words["type"].unique(maintain_order=True)
    }
    if marks:
        listed = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in marks.items())
        yield Finding(
            "words",
            "know",
            f"The words that mark a type most are, for {listed}.",
            "If words of layout are among them (speaker names, signatures, greetings), strip them "
            "before import: they say what type a text is, and nothing about its answer.",
            {"words": found.words.height},
        )
