"""Sections of an exploration's page that show counts and figures."""

from __future__ import annotations

import polars as pl

from twinrank.exploration import Exploration
from twinrank.exploration.counted import LIMITS
from twinrank.exploration.counts import unread
from twinrank.reports import explore_figures, explore_space
from twinrank.reports.explore_places import PLACES
from twinrank.reports.page import Section


def types(found: Exploration) -> list[Section]:
    """Balance of types and splits."""
    splits = found.description.splits
    kinds = list(found.lengths.types)
    head = ["split", "queries", *kinds, "labels", "threads", "right answers"]
    rows = [
        [
            name,
            f"{split['queries']:,}",
            *(f"{split['types'][k]['count']:,} ({split['types'][k]['share']:.0%})" for k in kinds),
            f"{split['labels']:,}",
            f"{split['threads']:,}",
            f"{split['answers']:,}",
        ]
        for name, split in splits.items()
    ]
    figures = (
        [(explore_figures.splits_figure(found), "Queries of each type in each split.")]
        if kinds
        else []
    )
    return [Section(PLACES["types"], (), figures, [("Splits", [head, *rows])])]


def answers(found: Exploration) -> list[Section]:
    """How uneven the labels are over the answers."""
    if not found.description.counts["labels"]:
        return []
    figures = [
        (
            explore_figures.popularity_figure(found),
            "The share of all labels that so many answers have, the commonest first (logarithmic). "
            "The "
            "steeper the rise, the more a ranker gains by naming what is common.",
        ),
        (
            explore_figures.commonest_figure(found),
            "The commonest answers, and which types ask for them.",
        ),
    ]
    return [Section(PLACES["answers"], figures=figures)]


def lengths(found: Exploration) -> list[Section]:
    """What the encoder's limit cuts."""
    rows = [(name, own) for name, own in found.lengths.rows() if len(own)]
    if not rows:
        return []
    limits = sorted({found.max_tokens, *LIMITS})
    limits = [n for n in limits if n <= (found.longest or n)]
    head = ["tokens", "median", "90 %", "longest"]
    head += [f"{what} at {limit}" for limit in limits for what in ("cut", "unread")]
    table = [
        [
            name,
            *(f"{value:,.0f}" for value in pl.Series(own).quantile([0.5, 0.9, 1.0])),
            *(f"{share:.0%}" for limit in limits for share in unread(own, limit)),
        ]
        for name, own in rows
    ]
    caption = (
        "The share of the texts that are longer than so many tokens, special ones included. What "
        f"lies right of the line is cut at {found.max_tokens}."
    )
    says = (
        "Cut is the share of texts that are too long; unread, of all tokens, those behind the cut."
    )
    figures = [(explore_figures.lengths_figure(found), caption)]
    return [Section(PLACES["lengths"], [says], figures, [("Lengths in tokens", [head, *table])])]


def threads(found: Exploration) -> list[Section]:
    """How near queries are that belong together."""
    if found.kinship.queries < 2:
        return []
    near = (
        "How near two queries are, by how they are related. Where the curves of one answer lie "
        "right of the others, the encoder knows already what "
        "belongs together; where the curve of two types lies left of that of one, the types are "
        "apart."
    )
    agree = (
        "How often two labelled queries of different threads share a right answer, by how near "
        "they "
        "are; bars are 95 % intervals. On the right the questions are nearly the same: where their "
        "labels differ, no first answer is right for both. From the dotted line on, they count as "
        "near "
        "twins."
    )
    says = (
        f"All pairs of {found.kinship.queries:,} labelled queries, by the cosine of their features."
    )
    figures = [(explore_space.kinship_figure(found), near)]
    if (found.kinship.agreement()[0] > 0).any():
        figures.append((explore_space.agreement_figure(found), agree))
    return [Section(PLACES["threads"], [says], figures)]


def space(found: Exploration) -> list[Section]:
    """The raw features in the plane."""
    if len(found.sample) < 2:
        return []
    some = (
        f" {explore_space.SHOWN:,} of them, drawn at random, are shown."
        if len(found.sample) > explore_space.SHOWN
        else ""
    )
    caption = (
        f"Queries on the two main axes of their raw features.{some} Hover to read them. The "
        "colours on "
        "the right are the answers that are commonest among those shown."
    )
    return [Section(PLACES["space"], figures=[(explore_space.plane_figure(found), caption)])]


def words(found: Exploration) -> list[Section]:
    """The words that mark each type."""
    if found.words.is_empty():
        return []
    head = ["type", "word", "z", "here", "elsewhere"]
    rows = [
        [kind, word, f"{z:.1f}", f"{here:.1f}", f"{elsewhere:.1f}"]
        for kind, word, z, here, elsewhere in found.words.iter_rows()
    ]
    caption = (
        "The log-odds ratio of each word, this type against all others, with an informative "
        "Dirichlet "
        "prior, over its standard deviation (Monroe, Colaresi and Quinn 2008)."
    )
    return [
        Section(
            PLACES["words"],
            figures=[(explore_space.words_figure(found), caption)],
            folded=[("All of them; how often in 10,000 words", [head, *rows])],
        )
    ]
