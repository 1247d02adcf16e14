"""All that an exploration found, what is to be mended first."""

from __future__ import annotations

from typing import get_args

from twinrank.exploration import counted, seen
from twinrank.exploration.exploration import Exploration
from twinrank.exploration.finding import Finding, Level

ABOUT = (
    seen.labels,
    seen.twins,
    seen.overlap,
    counted.markup,
    counted.lengths,
    counted.scripts,
    counted.unused,
    counted.answers,
    seen.answer_twins,
    counted.splits,
    counted.types,
    counted.threads,
    counted.unlabelled,
    seen.space,
    seen.words,
)


def findings(found: Exploration) -> list[Finding]:
    """All findings, what is to be mended first."""
    every = [finding for about in ABOUT for finding in about(found)]
    return sorted(every, key=lambda finding: get_args(Level).index(finding.level))
