"""Statistics of queries and verdicts by day, type and answer."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from pydantic import BaseModel, Field

from twinrank.feedback.verdicts import Verdict, standing_verdicts

MAX_LISTED_ANSWERS = 10
DayAndType: TypeAlias = tuple[datetime.date, str]


@dataclass(frozen=True)
class Traffic:
    """Queries of one type on one day (UTC).

    Of all that were ranked: `confident` ones, whose first answer was more likely right than not,
    and `withheld` ones, that got no answer because the first was too unlikely.
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


class MissedQuery(BaseModel):
    """A judged text, and the answers that were wrong or right for it, as the last verdicts say."""

    text: str
    type: str
    date: datetime.date
    shown: list[str] | None = Field(description="Ids, in their order; null: nobody knows.")
    wrong: list[str] = Field(description="Ids; empty: none of those shown was right.")
    right: list[str] = Field(description="Ids; those that are not among the shown were missed.")


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
    types: list[str],
    title_of: Callable[[str], str],
) -> FeedbackStatistics:
    """Summarise verdicts and traffic of some days.

    Verdicts on one text on one day count once, by those that stand (see `standing_verdicts`).

    Args:
        verdicts: oldest first.
        traffic: of the same days.
        types: of all days, the most frequent first.
        title_of: returns the title of an answer by its id.
    """
    judged = _judge_texts(verdicts)
    standing = [v for texts in judged.values() for text in texts for v in text if v.answer]
    right = Counter(v.answer for v in standing if _confirms_shown(v))
    wrong = Counter(v.answer for v in standing if not v.right)
    wanted = Counter(v.answer for v in standing if v.right and not _confirms_shown(v))
    misses = sorted(wrong, key=lambda id_: (-wrong[id_], right[id_], id_ or ""))
    missing = sorted(wanted, key=lambda id_: (-wanted[id_], id_ or ""))
    days = []
    for date, kind in sorted(traffic.keys() | judged.keys()):
        texts, counts = judged.get((date, kind), []), traffic.get((date, kind), Traffic())
        good = sum(any(map(_confirms_shown, text)) for text in texts)
        wrong_texts = len(texts) - good
        days.append(Day(date=date, type=kind, **asdict(counts), right=good, wrong=wrong_texts))
    return FeedbackStatistics(
        days=days,
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
        types=types,
    )


def find_misses(verdicts: Sequence[Verdict], answer: str | None = None) -> list[MissedQuery]:
    """Find the judged texts of each day without a right answer among those shown, newest first.

    With an answer: those for which it was said to be wrong, or was right and not shown.
    """
    misses = []
    for texts in _judge_texts(verdicts).values():
        for text in texts:
            wrong = [v.answer for v in text if v.answer and not v.right]
            missed = [v.answer for v in text if v.right and not _confirms_shown(v)]
            if answer in (*wrong, *missed) if answer else not any(map(_confirms_shown, text)):
                last = text[-1]
                right = [v.answer for v in text if v.answer and v.right]
                shown = None if last.shown is None else list(last.shown)
                row = {"shown": shown, "wrong": wrong, "right": right, "date": last.at.date()}
                query = MissedQuery.model_validate({"text": last.text, "type": last.type, **row})
                misses.append((last.at, query))
    return [query for _, query in sorted(misses, key=lambda pair: pair[0], reverse=True)]


def _judge_texts(verdicts: Sequence[Verdict]) -> dict[DayAndType, list[list[Verdict]]]:
    """Give the verdicts that stand on each text, by day and type."""
    by_day: dict[DayAndType, list[Verdict]] = {}
    for verdict in verdicts:
        by_day.setdefault((verdict.at.date(), verdict.type), []).append(verdict)
    return {key: list(standing_verdicts(group).values()) for key, group in by_day.items()}


def _confirms_shown(verdict: Verdict) -> bool:
    """Whether a verdict says that a shown answer is right, as far as the shown ones are known."""
    return verdict.right and (verdict.rank is not None or verdict.shown is None)
