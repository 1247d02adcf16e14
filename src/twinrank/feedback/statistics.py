"""What was asked of a service and what people said, counted by day, type and answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from twinrank.feedback.tables import TRAFFIC, VERDICTS, verdict_of
from twinrank.feedback.verdicts import Verdict, last_words

LISTED = 20  # answers in each list of `Stats`


@dataclass(frozen=True)
class Traffic:
    """Requests of one type on one day.

    Attributes:
        requests: how many queries were ranked.
        confident: of those, how many whose first answer was more likely right than not.
        withheld: of those, how many got no answer, because the first was too unlikely.
    """

    requests: int = 0
    confident: int = 0
    withheld: int = 0


@dataclass(frozen=True)
class Day:
    """One day (UTC) of one type: its traffic, and what people said.

    Attributes:
        date: the day.
        type: of the queries.
        requests: see `Traffic`.
        confident: see `Traffic`.
        withheld: see `Traffic`.
        right: of the texts that people judged, those with a right answer among those shown.
        wrong: all others that they judged.
    """

    date: date
    type: str
    requests: int = 0
    confident: int = 0
    withheld: int = 0
    right: int = 0
    wrong: int = 0


@dataclass(frozen=True)
class Miss:
    """An answer that was shown, and for how many texts that was found wrong and right."""

    id: str
    wrong: int
    right: int


@dataclass(frozen=True)
class Wanted:
    """An answer that was named as the right one, and had not been shown."""

    id: str
    times: int


@dataclass(frozen=True)
class Stats:
    """What was asked and said in the last days.

    Attributes:
        days: by date, then type; a day without any has no row.
        misses: the answers with most wrong verdicts, the worst first; at most 20.
        wanted: the answers named most often though not shown; at most 20.
        verdicts: how many there were.
        learnable: texts whose right answer somebody said, and nobody took back.
        types: of all days, those with the most queries and verdicts first.
    """

    days: tuple[Day, ...]
    misses: tuple[Miss, ...]
    wanted: tuple[Wanted, ...]
    verdicts: int
    learnable: int
    types: tuple[str, ...]


def stats_since(connection: Connection, since: date) -> Stats:
    """Count what was asked and said on a day and after it.

    Of one day's verdicts on a text the last words count, and the text once: see `last_words`.
    """
    chosen = sa.select(VERDICTS).where(VERDICTS.c.date >= since)
    said: dict[tuple[date, str], list[Verdict]] = {}
    verdicts = []
    for row in connection.execute(chosen.order_by(VERDICTS.c.at, VERDICTS.c.number)):
        verdicts.append(verdict_of(row))
        said.setdefault((row.date, row.type), []).append(verdicts[-1])
    stand = {key: list(last_words(some).values()) for key, some in said.items()}
    judged = [verdict for texts in stand.values() for text in texts for verdict in text]
    right = Counter(verdict.answer for verdict in judged if _is_right(verdict))
    wrong = Counter(v.answer for v in judged if not v.right and v.answer is not None)
    wanted = Counter(v.answer for v in judged if v.right and not _is_right(v))
    misses = [Miss(f"{id_}", times, right[id_]) for id_, times in wrong.items()]
    missing = [Wanted(f"{id_}", times) for id_, times in wanted.items()]
    return Stats(
        days=_days(connection, since, stand),
        misses=tuple(sorted(misses, key=lambda m: (-m.wrong, m.right, m.id))[:LISTED]),
        wanted=tuple(sorted(missing, key=lambda w: (-w.times, w.id))[:LISTED]),
        verdicts=len(verdicts),
        learnable=sum(any(v.right for v in text) for text in last_words(verdicts).values()),
        types=_types(connection),
    )


def _is_right(verdict: Verdict) -> bool:
    """Say whether an answer is right that was shown, as far as anybody said what was."""
    return verdict.right and (verdict.place is not None or verdict.shown is None)


def _days(
    connection: Connection, since: date, stand: dict[tuple[date, str], list[list[Verdict]]]
) -> tuple[Day, ...]:
    figures: dict[tuple[date, str], dict[str, int]] = {}
    counted = sa.select(TRAFFIC).where(TRAFFIC.c.date >= since)
    for row in connection.execute(counted).mappings():
        figures[row["date"], row["type"]] = {name: row[name] for name in vars(Traffic())}
    for key, texts in stand.items():
        right = sum(any(map(_is_right, text)) for text in texts)
        figures.setdefault(key, {}).update(right=right, wrong=len(texts) - right)
    return tuple(Day(day, kind, **counts) for (day, kind), counts in sorted(figures.items()))


def _types(connection: Connection) -> tuple[str, ...]:
    """All types there are, whenever."""
    times: Counter[str] = Counter()
    for table, count in ((TRAFFIC, sa.func.sum(TRAFFIC.c.requests)), (VERDICTS, sa.func.count())):
        for kind, some in connection.execute(sa.select(table.c.type, count).group_by("type")):
            times[kind] += int(some)
    return tuple(sorted(times, key=lambda kind: (-times[kind], kind)))
