"""Verdicts and traffic in a database: SQLite in a file, or PostgreSQL."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from twinrank.addresses import hide_passwords, read_address, show_address
from twinrank.errors import FeedbackError
from twinrank.feedback.statistics import Day, Miss, Stats, Traffic, Wanted, stats_since
from twinrank.feedback.tables import (
    SETTINGS,
    TABLES,
    TRAFFIC,
    VERDICTS,
    plain,
    row_of,
    verdict_of,
)
from twinrank.feedback.verdicts import Verdict

__all__ = ["Day", "Feedback", "Miss", "Stats", "Traffic", "Verdict", "Wanted"]

SQLITE, POSTGRES = "sqlite", "postgresql"
WAIT_S = 30  # for another process that writes at this moment
CONNECT_S = 10
# A path that begins as one, and what else may be one; the other forms of a server's address, such
# as `host=db password=...` or `user:...@db`, would be a file of that name, password and all.
PLAIN_PATH = re.compile(r"(~|\.{1,2}[/\\]|/(?!/)|[A-Za-z]:[/\\])")
NO_PATH = re.compile(r"[\w ]+=|@|^[\w+.-]*:|^//|[\0\r\n]")
SECRET_IN_PATH = re.compile(r"(pass\w*|pwd)\s*=", re.IGNORECASE)
ENCODINGS = {"UTF8", "SQL_ASCII"}  # of PostgreSQL, which hold every text
KEPT_DAYS = 365  # verdicts, unless the service was told otherwise
AT_ONCE = 500  # keys in a statement
Key = tuple[date, str]


class Feedback:
    """Verdicts and traffic in a database that several threads and processes may write to.

    Open one by `Feedback.open`.
    """

    def __init__(self, engine: Engine, shown: str) -> None:
        self._engine = engine
        self._insert = sqlite.insert if engine.dialect.name == SQLITE else postgresql.insert
        self.shown = shown
        self._file: Path | None = None
        self._opened: tuple[int, int] | None = None  # which file that was

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> Feedback:
        """Open a database, and make what it lacks.

        Args:
            url: `sqlite:///FILE`, `postgresql://USER@HOST/NAME`, or the path of a SQLite file.
            create: false refuses a database that holds no feedback yet.

        Raises:
            FeedbackError: if it cannot be used.
        """
        address = _address(url)
        shown = show_address(address)
        if file := file_of(url):
            shown = str(file)
            _check_file(file, create)
        feedback = cls(_engine(address), shown)
        with feedback._errors():
            feedback._prepare(create)
        if file:
            feedback._file, feedback._opened = file, _identity(file)
        return feedback

    def add(self, verdict: Verdict) -> bool:
        """Keep a verdict; it is on disk when this returns.

        NUL characters, which PostgreSQL cannot hold, are kept as U+FFFD, and half surrogate
        pairs, which no UTF-8 can, as question marks.

        Returns:
            False if there is one with its key already, which stays as it is.

        Raises:
            FeedbackError: if it could not be kept, or nobody knows whether it was: to add it
                again does no harm.
        """
        insert = self._insert(VERDICTS).values(row_of(verdict))
        added = insert.on_conflict_do_nothing(index_elements=["key"]).returning(VERDICTS.c.number)
        with self._errors(), self._engine.begin() as connection:
            return connection.execute(added).first() is not None

    def remove(self, key: str) -> bool:
        """Take a verdict back; that is on disk when this returns, and its key is free again.

        Returns:
            Whether there was one with this key.

        Raises:
            FeedbackError: if it could not be, or nobody knows whether it was: to remove it
                again does no harm.
        """
        removed = sa.delete(VERDICTS).where(VERDICTS.c.key == plain(key))
        with self._errors(), self._engine.begin() as connection:
            return connection.execute(removed).rowcount > 0

    def find(self, key: str) -> Verdict | None:
        """Get the verdict with this key; none if there is none."""
        chosen = sa.select(VERDICTS).where(VERDICTS.c.key == plain(key))
        with self._errors(), self._engine.connect() as connection:
            row = connection.execute(chosen).first()
        return None if row is None else verdict_of(row)

    def count(self, traffic: Mapping[Key, Traffic]) -> None:
        """Add traffic, by day (UTC) and type, to what was counted before.

        Raises:
            FeedbackError: if it could not be; then none of it was.
        """
        rows = [
            {"date": day, "type": plain(kind), **vars(counted)}
            for (day, kind), counted in sorted(traffic.items())  # in one order: no deadlock
        ]
        if not rows:
            return
        insert = self._insert(TRAFFIC)
        columns = [TRAFFIC.c.requests, TRAFFIC.c.confident, TRAFFIC.c.withheld]
        sums = {column.name: column + insert.excluded[column.name] for column in columns}
        added = insert.on_conflict_do_update(index_elements=["date", "type"], set_=sums)
        with self._errors(), self._engine.begin() as connection:
            for row in rows:
                connection.execute(added, row)

    def verdicts(self) -> list[Verdict]:
        """All of them, oldest first."""
        chosen = sa.select(VERDICTS).order_by(VERDICTS.c.at, VERDICTS.c.number)
        with self._errors(), self._engine.connect() as connection:
            return [verdict_of(row) for row in connection.execute(chosen)]

    def search(
        self,
        words: str = "",
        *,
        since: date | None = None,
        until: date | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> tuple[list[Verdict], int]:
        """Find verdicts, the newest first, and how many there are.

        Args:
            words: that stand in their text just so, case aside.
            since: the first day (UTC).
            until: the last day (UTC).
            limit: how many to give at most.
            offset: how many of the newest to pass over.
        """
        chosen = sa.select(VERDICTS)
        if words:
            chosen = chosen.where(VERDICTS.c.text.icontains(plain(words), autoescape=True))
        if since:
            chosen = chosen.where(VERDICTS.c.date >= since)
        if until:
            chosen = chosen.where(VERDICTS.c.date <= until)
        page = chosen.order_by(VERDICTS.c.at.desc(), VERDICTS.c.number.desc())
        with self._errors(), self._engine.connect() as connection:
            total = connection.scalar(sa.select(sa.func.count()).select_from(chosen.subquery()))
            rows = connection.execute(page.limit(limit).offset(offset))
            return [verdict_of(row) for row in rows], total or 0

    def erase(self, keys: Sequence[str]) -> None:
        """Erase verdicts so that nothing of them is left in the database's files.

        Raises:
            FeedbackError: if that could not be done, or not to the end; to do it again does no
                harm.
        """
        keys = [plain(key) for key in keys]
        with self._errors(), self._engine.begin() as connection:
            for start in range(0, len(keys), AT_ONCE):
                some = VERDICTS.c.key.in_(keys[start : start + AT_ONCE])
                connection.execute(sa.delete(VERDICTS).where(some))
        with self._errors(), self._engine.connect() as connection:
            alone = connection.execution_options(isolation_level="AUTOCOMMIT")
            if self._engine.dialect.name != SQLITE:
                alone.exec_driver_sql(f"VACUUM {VERDICTS.name}")
                return
            alone.exec_driver_sql("VACUUM")  # and what was removed before
            if alone.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar():
                raise FeedbackError(
                    f"{self.shown}: in use, so that its log still holds what was erased; try again"
                )

    @property
    def kept_days(self) -> int:
        """How long verdicts are kept."""
        chosen = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == "kept_days")
        with self._errors(), self._engine.connect() as connection:
            return connection.scalar(chosen) or KEPT_DAYS

    def keep(self, days: int) -> None:
        """Keep verdicts so long from now on, whoever opens the database."""
        insert = self._insert(SETTINGS).values(name="kept_days", value=days)
        put = insert.on_conflict_do_update(index_elements=["name"], set_={"value": days})
        with self._errors(), self._engine.begin() as connection:
            connection.execute(put)

    def stats(self, days: int) -> Stats:
        """What was asked and said today (UTC) and in the days before, as many as given in all."""
        since = datetime.now(UTC).date() - timedelta(days=max(days, 1) - 1)
        with self._errors(), self._engine.connect() as connection:
            return stats_since(connection, since)

    def close(self) -> None:
        """Give the connections back; what was kept stays."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what went wrong, even if nothing seems to: a removed file still takes what is lost.

        The file is looked for before, so that none is made in its place, and after the commit.
        """
        self._check_there()
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, UnicodeError) as error:
            what = str(error.__cause__ or error).strip().splitlines()[0]
            what = hide_passwords(what, self._engine.url)
            raise FeedbackError(
                f"{self.shown}: {what}; check that the database is there and may be written to"
            ) from None  # the driver's own error may hold the password
        self._check_there()

    def _check_there(self) -> None:
        if self._file and _identity(self._file) != self._opened:
            raise FeedbackError(
                f"{self.shown}: removed or replaced since it was opened; put it back, or start the "
                "service again, which makes a new one"
            )

    def _prepare(self, create: bool, attempts: int = 5) -> None:
        """Make the tables; where another process does so at this moment, see that it has."""
        try:
            with self._engine.begin() as connection:
                if self._engine.dialect.name == POSTGRES:
                    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
                    if encoding not in ENCODINGS:
                        raise FeedbackError(
                            f"{self.shown}: its encoding, {encoding}, cannot hold every text; "
                            "make one by CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
                        )
                there = sa.inspect(connection).get_table_names()
                if SETTINGS.name in there:
                    return
                if not create and TRAFFIC.name not in there:
                    raise FeedbackError(
                        f"{self.shown}: holds no feedback; check the address: "
                        "the service makes it when it starts"
                    )
                for table in TABLES:
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in table.indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
                return
        except SQLAlchemyError:
            if attempts == 1:
                raise
        time.sleep(0.2)
        self._prepare(create, attempts - 1)


def file_of(url: str) -> Path | None:
    """The SQLite file at an address; none if a server has it.

    Raises:
        FeedbackError: if it is no address.
    """
    address = _address(url)
    return Path(str(address.database)) if address.get_backend_name() == SQLITE else None


def _address(url: str) -> URL:
    """Where the database is; a path is a SQLite file."""
    known = "give the path of a SQLite file, sqlite:///FILE, or postgresql://USER@HOST/NAME"
    if not url.strip():
        raise FeedbackError(f"the address of the feedback is empty; {known}")
    if "://" not in url:
        _check_path(url, known)
        return URL.create(SQLITE, database=url)
    try:
        address = read_address(url)
    except ValueError as error:
        raise FeedbackError(f"the address of the feedback is {error}; {known}") from None
    match address.drivername:
        case "sqlite" | "sqlite+pysqlite":
            file = address.database or ""
            if file in ("", ":memory:") or file.startswith("file:"):
                raise FeedbackError(f"a database in memory would lose feedback; {known}")
            if address != URL.create(address.drivername, database=file):
                raise FeedbackError(f"a SQLite file has no host and no settings; {known}")
            return address
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return address.set(drivername=f"{POSTGRES}+psycopg")
        case other:
            raise FeedbackError(f"feedback is not kept in {other!r}; {known}")


def _check_path(text: str, known: str) -> None:
    """Refuse what is no path, and show none of it: there may be a password in it."""
    if ":memory:" in text:
        raise FeedbackError(f"a database in memory would lose feedback; {known}")
    no_path = SECRET_IN_PATH if PLAIN_PATH.match(text) else NO_PATH
    if no_path.search(text):
        raise FeedbackError(
            f"the address of the feedback is neither a URL nor a path; {known} (a file whose name "
            "looks like an address: ./NAME)"
        )


def _identity(file: Path) -> tuple[int, int] | None:
    """Which file stands at a path, if any; while it is open no other has its number."""
    with suppress(OSError):
        status = file.stat()
        return status.st_dev, status.st_ino
    return None


def _check_file(file: Path, create: bool) -> None:
    if file.is_dir():
        raise FeedbackError(f"{file}: a folder; give a file in it, such as {file / 'feedback.db'}")
    if file.exists():
        for part in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            with suppress(OSError):  # another's, or just gone
                if part.stat().st_mode & 0o007:  # by no choice: earlier versions wrote it so
                    part.chmod(0o600)
    elif create:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))  # as SQLite's own beside it
        except OSError as error:
            raise FeedbackError(
                f"{file}: cannot be made ({error.strerror}); give another path"
            ) from None
    else:
        raise FeedbackError(f"{file}: there is no such file; check the path of the feedback")


def _engine(address: URL) -> Engine:
    """Connections that make a commit durable."""
    if address.get_backend_name() == POSTGRES:
        settings: dict[str, Any] = {"client_encoding": "utf8"}  # whatever the server's own is
        if "connect_timeout" not in address.query:
            settings["connect_timeout"] = CONNECT_S
        engine = sa.create_engine(address, pool_pre_ping=True, connect_args=settings)
        sa.event.listen(engine, "connect", _wait_for_disk)
        return engine
    engine = sa.create_engine(address, connect_args={"timeout": WAIT_S})
    sa.event.listen(engine, "connect", _write_ahead)
    return engine


def _write_ahead(connection: sqlite3.Connection, _: object) -> None:
    """A commit is one append to the log, synced to disk; who reads does not wait for it."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _wait_for_disk(connection: Any, _: object) -> None:  # noqa: ANN401 (psycopg's own)
    """Undo a server's setting by which a commit returns before it is on disk."""
    off = "current_setting('synchronous_commit') = 'off'"
    connection.execute(f"SELECT set_config('synchronous_commit', 'on', false) WHERE {off}")
    connection.commit()
