"""Sections of an exploration's page that show texts: odd labels, near twins, unused answers."""

from __future__ import annotations

import polars as pl

from twinrank.exploration import Exploration
from twinrank.exploration.labels import ARTICLE, DOUBTED, VOTERS
from twinrank.exploration.twins import NEAR
from twinrank.reports.explore_places import PLACES
from twinrank.reports.page import Section

LISTED = 30  # rows of a table of texts
CUT = 320  # characters of a text in a table


def unused(found: Exploration) -> list[Section]:
    """Answers that are right for no query."""
    if found.unused.is_empty():
        return []
    titles = found.sample.answers["title"]
    rows = [
        [f"{queries:,}", f"{titles[answer]}\n{_query(found, query)}"]
        for answer, queries, query in found.unused.head(LISTED).iter_rows()
    ]
    says = (
        f"{found.unused.height:,} answers are right for no query though each is the nearest "
        "article to a "
        "labelled query by the raw features. The queries show which: the nearest one of each, with "
        "the "
        "answer it is labelled with."
    )
    head = ["nearest to", "the answer, and a query"]
    title = f"Never right, and often nearest{_of(len(rows), found.unused.height)}"
    return [Section(PLACES["unused"], [says], folded=[(title, [head, *rows])])]


def labels(found: Exploration) -> list[Section]:
    """The most doubtful labels."""
    if found.doubts.is_empty():
        return []
    titles = found.sample.answers["title"]
    rows = [
        [
            f"{row['odds']:,.0f} : 1",
            f"{_text(found, row['query'])}\n"
            f"→ labelled: {titles[row['answer']]} ({row['own']:.0%} of the votes)\n"
            f"→ voted for: {titles[row['rival']]} ({row['rivals']:.0%})",
        ]
        for row in found.doubts.head(LISTED).iter_rows(named=True)
    ]
    says = [
        f"For each label, the {VOTERS} nearest labelled queries of other threads and the {VOTERS} "
        f"nearest articles vote, the nearer the more; an article's own vote counts {ARTICLE:.0f} "
        "times. "
        f"The odds are the votes for the most voted other answer against those for the label; from "
        f"{DOUBTED} to 1 on, a label is doubted. A doubted label may still be right: the encoder "
        "has "
        "read neither what lies behind its limit nor the article as a person does."
    ]
    if found.check:
        says.append(
            f"How far to trust it: with {found.check.planted:,} labels swapped at random, "
            f"{found.check.found:.0%} of the swapped ones were doubted, and "
            f"{found.check.others:.1%} of "
            "those left alone."
        )
    head = ["odds", "a query, its label and the rival"]
    title = f"The most doubtful labels{_of(len(rows), found.doubts.height)}"
    return [Section(PLACES["labels"], says, folded=[(title, [head, *rows])])]


def twins(found: Exploration) -> list[Section]:
    """Near twins among the queries."""
    if not found.overlap and found.twins.is_empty():
        return []
    known = found.twins.filter("labelled")
    odd = _each_once(known.filter(~pl.col("agree")))
    rows = [
        [f"{cosine:.2f}", f"{_query(found, one)}\n\n{_query(found, other)}"]
        for one, other, cosine in odd.select("one", "other", "cosine").iter_rows()
    ]
    folded = (
        [
            (
                "Alike, but labelled with different "
                f"answers{_of(min(len(rows), LISTED), len(rows))}",
                [["cosine", "two queries of different threads"], *rows[:LISTED]],
            )
        ]
        if rows
        else []
    )
    tables = (
        [
            (
                "What of a split has a near twin in train",
                [
                    ["split", "queries", "with a twin", "with the same answer"],
                    *(
                        [name, f"{c['queries']:,}", f"{c['twins']:,}", f"{c['agree']:,}"]
                        for name, c in found.overlap.items()
                    ),
                ],
            )
        ]
        if found.overlap
        else []
    )
    says = (
        f"Two queries of different threads are near twins from a cosine of {NEAR} on. There are "
        f"{len(found.twins):,} such pairs; both queries are labelled in {len(known):,} of them, "
        "and agree "
        f"in {int(known['agree'].sum()):,}. In the list every query stands once."
    )
    return [Section(PLACES["twins"], [says], tables=tables, folded=folded)]


def answer_twins(found: Exploration) -> list[Section]:
    """Near twins among the answers."""
    pairs = found.answer_twins
    if pairs.is_empty():
        return []
    answers = found.sample.answers
    rows = [
        [
            f"{row['cosine']:.2f}",
            f"{row['words']:.0%}",
            "\n\n".join(
                f"{answers['title'][row[side]]}\n{_cut(answers['text'][row[side]])}"
                for side in ("one", "other")
            ),
        ]
        for row in pairs.head(LISTED).iter_rows(named=True)
    ]
    says = (
        "The encoder takes these for nearly the same, as it reads them: cut at its limit. Where "
        "few "
        "words are shared, it is the beginnings that are alike."
    )
    head = ["cosine", "words shared", "two answers"]
    title = f"Answers that are nearly the same{_of(len(rows), len(pairs))}"
    return [Section(PLACES["answer_twins"], [says], folded=[(title, [head, *rows])])]


def _query(found: Exploration, row: int) -> str:
    """A query's text, and its first right answer."""
    own = found.sample.labels[[row]].indices
    titles = found.sample.answers["title"]
    label = f"\n→ {titles[int(own[0])]}" if len(own) else ""
    more = f" and {len(own) - 1} more" if len(own) > 1 else ""
    return f"{_text(found, row)}{label}{more}"


def _text(found: Exploration, row: int) -> str:
    split = found.sample.frame["split"][row]
    about = f"{found.sample.frame['type'][row]}{f', {split}' if split else ''}"
    return f"[{about}] {_cut(found.sample.frame['text'][row])}"


def _cut(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= CUT else f"{words[: CUT - 1]}…"


def _each_once(pairs: pl.DataFrame) -> pl.DataFrame:
    """The nearest pairs such that no query stands in two."""
    seen: set[int] = set()
    kept = []
    for place, (one, other) in enumerate(pairs.select("one", "other").iter_rows()):
        if not {one, other} & seen:
            seen |= {one, other}
            kept.append(place)
    return pairs[kept]


def _of(shown: int, there: int) -> str:
    return f" ({shown:,} of {there:,})" if shown < there else f" ({there:,})"
