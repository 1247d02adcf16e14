"""The page of an exploration: what was found on top, what it rests on below."""

from __future__ import annotations

from twinrank.exploration import Exploration, findings
from twinrank.reports import explore_sections as sections
from twinrank.reports import explore_texts as texts
from twinrank.reports.explore import MARKS
from twinrank.reports.explore_places import PLACES
from twinrank.reports.explore_texts import CUT, LISTED
from twinrank.reports.figures import HOVER_LENGTH
from twinrank.reports.page import Note, Section, page

DETAILS = (
    sections.types,
    sections.answers,
    texts.unused,
    sections.lengths,
    sections.threads,
    texts.labels,
    texts.twins,
    texts.answer_twins,
    sections.space,
    sections.words,
)


def exploration_page(found: Exploration) -> str:
    """The page as one HTML document.

    Raises:
        TwinrankError: if plotly or jinja2 is missing.
    """
    details = [section for make in DETAILS for section in make(found)]
    there = {section.heading for section in details}
    notes = [
        Note(
            finding.level,
            MARKS[finding.level],
            finding.says,
            finding.do,
            PLACES[finding.name] if PLACES[finding.name] in there else None,
        )
        for finding in findings(found)
    ]
    top = Section("What was found", [_about(found)], notes=notes)
    return page(
        f"A look at {found.description.name}",
        [top, *details, Section("How it was looked at", _method(found))],
    )


def _about(found: Exploration) -> str:
    counts, sample = found.description.counts, found.sample
    sampled = (
        f" Features were read of {len(sample):,} queries and {sample.answers.height:,} answers, "
        "drawn at random; counts are of all."
        if sample.queries_left_out or sample.answers_left_out
        else ""
    )
    return (
        f"{counts['answers']:,} answers, {counts['queries']:,} queries in {counts['threads']:,} "
        "threads, "
        f"{counts['labels']:,} labels; nothing was trained.{sampled}"
    )


def _method(found: Exploration) -> list[str]:
    return [
        f"Features: {found.encoder}, mean-pooled, cut at {found.max_tokens} tokens, as they are: "
        "the encoder is not trained. A cosine is that of two features.",
        f"Texts in tables are cut at {CUT} characters, those shown on hovering at {HOVER_LENGTH}. "
        f"A table of texts shows at most {LISTED} rows.",
    ]
