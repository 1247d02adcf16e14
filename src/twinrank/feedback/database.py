"""Verdicts and traffic in a database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from twinrank.addresses import hide_passwords, show_address
from twinrank.errors import FeedbackError, first_line
from twinrank.feedback.engine import SQLITE, check_file, create_engine, file_of, parse_address
from twinrank.feedback.feedback_statistics import (
    DayAndType,
    FeedbackStatistics,
    Traffic,
    summarise_feedback,
)
from twinrank.feedback.verdicts import Verdict

RETENTION_DAYS = 365  # of verdicts, unless the database has a setting
MAX_KEYS_PER_STATEMENT = 500
ATTEMPTS_TO_CREATE, RETRY_S = 5, 0.2
_METADATA = sa.MetaData()
VERDICTS = sa.Table(
    "twinrank_verdicts",
    _METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("right", sa.Boolean, nullable=False),
    sa.Column("place", sa.Integer),  # rank of the answer among those shown, from 1
    sa.Column("shown", sa.JSON, nullable=False),  # JSON's null if the client did not say
    sa.Column("ranker", sa.Text),
    sa.Column("at", sa.DateTime, nullable=False),  # UTC
    sa.Column("date", sa.Date, nullable=False),  # of `at`: SQLite and PostgreSQL agree on no cast
    sa.Column("scope", sa.Text),  # null in rows of before it was there
    sa.Index("twinrank_verdicts_date", "date"),
)
TRAFFIC = sa.Table(
    "twinrank_traffic",
    _METADATA,
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("type", sa.Text, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("confident", sa.BigInteger, nullable=False),
    sa.Column("withheld", sa.BigInteger, nullable=False),
)
SHADOW_COUNTS = ("queries", "same_first", "shared", "confident", "shadow_confident", "skipped")
SHADOW = sa.Table(
    "twinrank_shadow",
    _METADATA,
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("type", sa.Text, primary_key=True),
    sa.Column("pair", sa.Text, primary_key=True),  # the ranker, and its shadow
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in SHADOW_COUNTS),
)
SETTINGS = sa.Table(
    "twinrank_settings",
    _METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
BY_TIME = (VERDICTS.c.at, VERDICTS.c.number)


class Feedback:
    """Verdicts and traffic in a database that several threads and processes may write to.

    Every method raises a FeedbackError if the database fails.
    """

    def __init__(self, engine: Engine, address: str, file: Path | None) -> None:
        self.address = address
        self._engine = engine
        self._insert = sqlite.insert if engine.dialect.name == SQLITE else postgresql.insert
        self._file = file
        self._identity = self._identify()  # of the file when it was opened

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Feedback:
        """Open a database, and create the tables that it lacks.

        Args:
            url: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`, or the path of a SQLite file.
            create: if false, refuse a database that holds no feedback yet.
        """
        address, file = parse_address(url), file_of(url)
        if file:
            check_file(file, create)
        feedback = cls(create_engine(address), str(file or show_address(address)), file)
        with feedback._errors():
            if create:
                feedback._create_tables()
            elif not sa.inspect(feedback._engine).has_table(VERDICTS.name):
                raise FeedbackError(
                    f"{feedback.address}: holds no feedback; check the address: "
                    "the service makes it when it starts"
                )
            feedback._add_scope()
        return feedback

    def add(self, verdict: Verdict) -> bool:
        """Store a verdict, and return whether its key is new; it is on disk when this returns.

        A verdict with the same key stays as it is. After an error, adding it again does no harm.
        Characters that a database cannot hold are replaced, see `make_storable`.
        """
        insert = self._insert(VERDICTS).values(_row_of(verdict))
        added = insert.on_conflict_do_nothing(index_elements=["key"]).returning(VERDICTS.c.number)
        with self._errors(), self._engine.begin() as connection:
            return connection.execute(added).first() is not None

    def remove(self, key: str) -> bool:
        """Take a verdict back, and return whether there was one with this key.

        That is on disk when this returns, and its key is free again. After an error, removing it
        again does no harm.
        """
        removed = sa.delete(VERDICTS).where(VERDICTS.c.key == make_storable(key))
        with self._errors(), self._engine.begin() as connection:
            return connection.execute(removed).rowcount > 0

    def find(self, key: str) -> Verdict | None:
        """Return the verdict with this key, or None."""
        query = sa.select(VERDICTS).where(VERDICTS.c.key == make_storable(key))
        with self._errors(), self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else _verdict_of(row)

    def verdicts(self) -> list[Verdict]:
        """Return all verdicts, oldest first."""
        with self._errors(), self._engine.connect() as connection:
            return _read_verdicts(connection, sa.select(VERDICTS).order_by(*BY_TIME))

    def search(
        self,
        words: str = "",
        *,
        since: date | None = None,
        until: date | None = None,
        scope: str = "",
        limit: int = 20,
        offset: int = 0,
    ) -> tuple[list[Verdict], int]:
        """Find verdicts, the newest first, and return a page of them and how many there are.

        Those are found whose text has the words, case aside, of days (UTC) from `since` to
        `until`, and of a `scope` (empty: of all); `offset` of the newest are skipped.
        """
        query = _narrow(sa.select(VERDICTS), scope)
        if words:
            query = query.where(VERDICTS.c.text.icontains(make_storable(words), autoescape=True))
        if since:
            query = query.where(VERDICTS.c.date >= since)
        if until:
            query = query.where(VERDICTS.c.date <= until)
        page = query.order_by(*(column.desc() for column in BY_TIME)).limit(limit).offset(offset)
        with self._errors(), self._engine.connect() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(query.subquery()))
            return _read_verdicts(connection, page), total or 0

    def erase(self, keys: Sequence[str]) -> None:
        """Erase verdicts, and what earlier calls that failed left of theirs in the files.

        Of SQLite nothing stays. PostgreSQL frees the space, and writes over it in time.
        """
        keys = [make_storable(key) for key in keys]
        with self._errors(), self._engine.begin() as connection:
            for start in range(0, len(keys), MAX_KEYS_PER_STATEMENT):
                chunk = keys[start : start + MAX_KEYS_PER_STATEMENT]
                connection.execute(sa.delete(VERDICTS).where(VERDICTS.c.key.in_(chunk)))
        with self._errors(), self._engine.connect() as connection:
            unlocked = connection.execution_options(isolation_level="AUTOCOMMIT")
            if self._engine.dialect.name != SQLITE:
                unlocked.exec_driver_sql(f"VACUUM {VERDICTS.name}")
                return
            unlocked.exec_driver_sql("VACUUM")  # and what was removed before
            if unlocked.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar():
                raise FeedbackError(
                    f"{self.address}: in use, so that its log still holds what was erased; "
                    "try again"
                )

    def add_traffic(self, traffic: Mapping[DayAndType, Traffic]) -> None:
        """Add traffic, by day (UTC) and type, to the counts in the database; all of it or none."""
        rows = [
            {"date": day, "type": make_storable(kind), **asdict(counts)}
            for (day, kind), counts in sorted(traffic.items())  # in one order: no deadlock
        ]
        self._add_counts(TRAFFIC, rows)

    def add_shadow(self, counts: Mapping[tuple[date, str, str], Sequence[int]]) -> None:
        """Add `SHADOW_COUNTS` by day (UTC), type and pair to those there; all or none."""
        rows = [
            {"date": day, "type": make_storable(kind), "pair": pair}
            | dict(zip(SHADOW_COUNTS, numbers, strict=True))
            for (day, kind, pair), numbers in sorted(counts.items())
        ]
        self._add_counts(SHADOW, rows)

    def read_shadow(self, days: int, pair: str) -> dict[str, list[int]]:
        """Return the sums of `SHADOW_COUNTS` of the last days by type, the most frequent first."""
        sums = [sa.func.sum(SHADOW.c[name]) for name in SHADOW_COUNTS]
        query = sa.select(SHADOW.c.type, *sums).group_by(SHADOW.c.type).order_by(sums[0].desc())
        query = query.where(SHADOW.c.date >= _first_day(days), SHADOW.c.pair == pair)
        with self._errors(), self._engine.connect() as connection:
            return {kind: [int(n) for n in numbers] for kind, *numbers in connection.execute(query)}

    def _add_counts(self, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        insert = self._insert(table)
        counts = [column for column in table.columns if not column.primary_key]
        sums = {column.name: column + insert.excluded[column.name] for column in counts}
        added = insert.on_conflict_do_update(index_elements=[*table.primary_key], set_=sums)
        with self._errors(), self._engine.begin() as connection:
            for row in rows:
                connection.execute(added, row)

    def statistics(
        self, days: int, *, title_of: Callable[[str], str] = lambda id_: "", scope: str = ""
    ) -> FeedbackStatistics:
        """Summarise the last days, today (UTC) included; `title_of` gives the title of an id.

        Of one `scope` there are verdicts alone: traffic is counted for all together.
        """
        judged = sa.select(VERDICTS.c.type, sa.func.count().label("count"))
        judged = _narrow(judged, scope).group_by(VERDICTS.c.type)
        asked = sa.select(TRAFFIC.c.type, TRAFFIC.c.requests)
        counts = (judged if scope else sa.union_all(judged, asked)).subquery()
        total, by_type = sa.func.sum(counts.c.count), counts.c.type
        types = sa.select(by_type).group_by(by_type).order_by(total.desc(), by_type)
        recent = sa.select(TRAFFIC).where(TRAFFIC.c.date >= _first_day(days))
        with self._errors(), self._engine.connect() as connection:
            rows = [] if scope else list(connection.execute(recent))
            kinds = list(connection.scalars(types))
        traffic = {(day, kind): Traffic(*numbers) for day, kind, *numbers in rows}
        return summarise_feedback(self.recent(days, scope), traffic, kinds, title_of)

    def recent(self, days: int, scope: str = "") -> list[Verdict]:
        """Return the verdicts of the last days, oldest first, of one `scope` or of all."""
        query = _narrow(sa.select(VERDICTS), scope).where(VERDICTS.c.date >= _first_day(days))
        with self._errors(), self._engine.connect() as connection:
            return _read_verdicts(connection, query.order_by(*BY_TIME))

    @property
    def retention_days(self) -> int:
        """How long verdicts are kept before they are erased."""
        query = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "kept_days")
        with self._errors(), self._engine.connect() as connection:
            return connection.scalar(query) or RETENTION_DAYS

    def set_retention(self, days: int) -> None:
        """Keep verdicts so long from now on, for every process that opens the database."""
        insert = self._insert(SETTINGS).values(name="kept_days", value=days)
        put = insert.on_conflict_do_update(index_elements=["name"], set_={"value": days})
        with self._errors(), self._engine.begin() as connection:
            connection.execute(put)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn a driver's errors into FeedbackErrors, and notice a file that was removed.

        SQLite goes on writing into a removed file, which is then lost. So the file is looked for
        before, so that none is made in its place, and after the commit.
        """
        self._check_identity()
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, UnicodeError) as error:
            reason = first_line(error.__cause__ or error)
            reason = hide_passwords(reason, self._engine.url)
            raise FeedbackError(
                f"{self.address}: {reason}; check that the database is there and may be written to"
            ) from None  # the driver's own error may hold the password
        self._check_identity()

    def _identify(self) -> tuple[int, int] | None:
        """Return device and number of the file; no other file has them while it is open."""
        with suppress(OSError):
            if self._file:
                status = self._file.stat()
                return status.st_dev, status.st_ino
        return None

    def _check_identity(self) -> None:
        if self._identify() != self._identity:
            raise FeedbackError(
                f"{self.address}: removed or replaced since it was opened; put it back, or start "
                "the service again, which makes a new one"
            )

    def _create_tables(self) -> None:
        """Create the tables; if another process does so at this moment, try again."""
        for attempt in range(1, ATTEMPTS_TO_CREATE + 1):
            try:
                _METADATA.create_all(self._engine)
                return
            except SQLAlchemyError:
                if attempt == ATTEMPTS_TO_CREATE:
                    raise
                time.sleep(RETRY_S)

    def _add_scope(self) -> None:
        """Add the column to a table that was made without it, unless another process does."""
        columns = sa.inspect(self._engine).get_columns(VERDICTS.name)
        if "scope" not in {column["name"] for column in columns}:
            with suppress(SQLAlchemyError), self._engine.begin() as connection:
                connection.exec_driver_sql(f"ALTER TABLE {VERDICTS.name} ADD COLUMN scope TEXT")


def _narrow(query: sa.Select[Any], scope: str) -> sa.Select[Any]:
    """Narrow a query to the verdicts of a scope; empty: of all."""
    return query.where(VERDICTS.c.scope == make_storable(scope)) if scope else query


def _first_day(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days - 1)


def make_storable(text: str) -> str:
    """Replace NUL, which PostgreSQL cannot hold, and half surrogate pairs, which UTF-8 cannot."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _row_of(verdict: Verdict) -> dict[str, Any]:
    at = verdict.at.astimezone(UTC)
    names = ("key", "text", "type", "answer", "ranker", "scope")
    texts: dict[str, str | None] = {name: getattr(verdict, name) for name in names}
    return {
        **{name: text and make_storable(text) for name, text in texts.items()},
        "right": verdict.right,
        "place": verdict.rank,
        "shown": verdict.shown and [make_storable(answer) for answer in verdict.shown],
        "at": at.replace(tzinfo=None),
        "date": at.date(),
    }


def _verdict_of(row: sa.Row[Any]) -> Verdict:
    shown, at = None if row.shown is None else tuple(row.shown), row.at.replace(tzinfo=UTC)
    fields = (row.key, row.text, row.type, row.answer, row.right, shown, row.ranker, at)
    return Verdict(*fields, row.scope or "")


def _read_verdicts(connection: sa.Connection, query: sa.Select[Any]) -> list[Verdict]:
    return [_verdict_of(row) for row in connection.execute(query)]
