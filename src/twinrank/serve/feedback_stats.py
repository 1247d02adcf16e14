"""What was asked of a service and what people said, counted by day, type and answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from twinrank.serve.feedback_tables import TRAFFIC, VERDICTS

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
        right: verdicts that an answer is right, but for one that was not shown.
        wrong: all others: an answer is wrong, none of those shown is right, or one that was not
            shown is.
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
    """An answer that was shown, and how often that was found wrong and right."""

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
    """

    days: tuple[Day, ...]
    misses: tuple[Miss, ...]
    wanted: tuple[Wanted, ...]
    verdicts: int


def stats_since(connection: Connection, since: date) -> Stats:
    """What was asked and said on a day and after it."""
    return Stats(
        days=_days(connection, since),
        misses=_misses(connection, since),
        wanted=_wanted(connection, since),
        verdicts=connection.execute(
            sa.select(sa.func.count()).where(VERDICTS.c.date >= since)
        ).scalar_one(),
    )


# Where nobody said what was shown, nothing says that the answer was not.
_UNKNOWN = sa.cast(VERDICTS.c.shown, sa.Text) == "null"
_SHOWN = sa.or_(VERDICTS.c.place.is_not(None), _UNKNOWN)
_RIGHT = sa.and_(VERDICTS.c.right, _SHOWN)


def _times(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    """How many rows of a group meet a condition."""
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _days(connection: Connection, since: date) -> tuple[Day, ...]:
    found: dict[tuple[date, str], dict[str, int]] = {}
    counted = sa.select(TRAFFIC).where(TRAFFIC.c.date >= since)
    for row in connection.execute(counted).mappings():
        found[row["date"], row["type"]] = {name: row[name] for name in vars(Traffic())}
    key = (VERDICTS.c.date, VERDICTS.c.type)
    said = sa.select(*key, _times(_RIGHT), sa.func.count()).where(VERDICTS.c.date >= since)
    for day, kind, right, verdicts in connection.execute(said.group_by(*key)):
        found.setdefault((day, kind), {}).update(right=right, wrong=verdicts - right)
    return tuple(Day(day, kind, **figures) for (day, kind), figures in sorted(found.items()))


def _misses(connection: Connection, since: date) -> tuple[Miss, ...]:
    answer = VERDICTS.c.answer
    wrong, right = _times(~VERDICTS.c.right), _times(_RIGHT)
    chosen = (
        sa.select(answer, wrong, right)
        .where(VERDICTS.c.date >= since, answer.is_not(None))
        .group_by(answer)
        .having(wrong > 0)
        .order_by(wrong.desc(), right, answer)
        .limit(LISTED)
    )
    return tuple(Miss(*row) for row in connection.execute(chosen))


def _wanted(connection: Connection, since: date) -> tuple[Wanted, ...]:
    answer, times = VERDICTS.c.answer, sa.func.count()
    chosen = (
        sa.select(answer, times)
        .where(VERDICTS.c.date >= since, answer.is_not(None))
        .where(VERDICTS.c.right, ~_SHOWN)
        .group_by(answer)
        .order_by(times.desc(), answer)
        .limit(LISTED)
    )
    return tuple(Wanted(*row) for row in connection.execute(chosen))
