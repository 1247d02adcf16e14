"""Statistics of queries and verdicts by day, type and answer."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from pydantic import BaseModel, Field

from twinrank.feedback.verdicts import Verdict, standing_verdicts

MAX_LISTED_ANSWERS = 20
DayAndType: TypeAlias = tuple[datetime.date, str]


@dataclass(frozen=True)
class Traffic:
    """Queries of one type on one day (UTC).

    Attributes:
        requests: queries that were ranked.
        confident: those whose first answer was more likely right than not.
        withheld: those that got no answer, because the first was too unlikely.
    """

    requests: int = 0
    confident: int = 0
    withheld: int = 0


class Day(BaseModel):
    """What happened on one day to queries of one type."""

    date: datetime.date
    type: str
    requests: int
    confident: int
    withheld: int
    right: int  # judged texts with a right answer among those shown
    wrong: int  # all other judged texts


class Miss(BaseModel):
    """An answer and how often it was right or wrong."""

    id: str
    title: str
    wrong: int
    right: int


class Wanted(BaseModel):
    """An answer that was right and not shown, and how often."""

    id: str
    title: str
    times: int


class FeedbackStatistics(BaseModel):
    """Statistics of the last days."""

    days: list[Day]
    misses: list[Miss]
    wanted: list[Wanted]
    verdicts: int
    learnable: int = Field(description="Texts whose right answer somebody said.")
    types: list[str] = Field(description="Of all days, the most frequent first.")


def summarise_feedback(
    verdicts: Sequence[Verdict],
    traffic: Mapping[DayAndType, Traffic],
    types: Iterable[tuple[str, int]],
    title_of: Callable[[str], str],
) -> FeedbackStatistics:
    """Summarise verdicts and traffic.

    Verdicts on one text on one day count once, by those that stand (see `standing_verdicts`).

    Args:
        verdicts: of the days to summarise, oldest first.
        traffic: of the same days.
        types: counts of queries and verdicts by type, of all days; a type may come twice.
        title_of: returns the title of an answer by its id.
    """
    by_day: dict[DayAndType, list[Verdict]] = {}
    for verdict in verdicts:
        by_day.setdefault((verdict.at.date(), verdict.type), []).append(verdict)
    judged = {key: list(standing_verdicts(group).values()) for key, group in by_day.items()}
    standing = [verdict for texts in judged.values() for text in texts for verdict in text]
    right = Counter(v.answer for v in standing if _confirms_shown(v))
    wrong = Counter(v.answer for v in standing if not v.right and v.answer is not None)
    wanted = Counter(v.answer for v in standing if v.right and not _confirms_shown(v))
    misses = sorted(wrong, key=lambda id_: (-wrong[id_], right[id_], f"{id_}"))
    missing = sorted(wanted, key=lambda id_: (-wanted[id_], f"{id_}"))
    frequency: Counter[str] = Counter()
    for kind, count in types:
        frequency[kind] += count
    return FeedbackStatistics(
        days=[
            _count_day(key, traffic.get(key, Traffic()), judged.get(key, []))
            for key in sorted(traffic.keys() | judged.keys())
        ],
        misses=[
            Miss(id=f"{id_}", title=title_of(f"{id_}"), wrong=wrong[id_], right=right[id_])
            for id_ in misses[:MAX_LISTED_ANSWERS]
        ],
        wanted=[
            Wanted(id=f"{id_}", title=title_of(f"{id_}"), times=wanted[id_])
            for id_ in missing[:MAX_LISTED_ANSWERS]
        ],
        verdicts=len(verdicts),
        learnable=sum(any(v.right for v in text) for text in standing_verdicts(verdicts).values()),
        types=sorted(frequency, key=lambda kind: (-frequency[kind], kind)),
    )


def _count_day(key: DayAndType, traffic: Traffic, texts: Sequence[Sequence[Verdict]]) -> Day:
    right = sum(any(map(_confirms_shown, text)) for text in texts)
    date, kind = key
    return Day(date=date, type=kind, **asdict(traffic), right=right, wrong=len(texts) - right)


def _confirms_shown(verdict: Verdict) -> bool:
    """Whether a verdict says that a shown answer is right, as far as the shown ones are known."""
    return verdict.right and (verdict.rank is not None or verdict.shown is None)
