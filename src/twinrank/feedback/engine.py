"""Addresses of feedback databases, and engines whose commits are durable."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from twinrank.addresses import read_address
from twinrank.errors import FeedbackError

SQLITE, POSTGRES = "sqlite", "postgresql"
LOCK_WAIT_S = 30  # for another process that writes at this moment
CONNECT_S = 10
# A path that begins as one, and other texts that cannot be one. Other forms of a server's address,
# such as `host=db password=...` or `user:...@db`, would become a file named after the password.
PLAIN_PATH = re.compile(r"(~|\.{1,2}[/\\]|/(?!/)|[A-Za-z]:[/\\])")
NO_PATH = re.compile(r"[\w ]+=|@|^[\w+.-]*:|^//|[\0\r\n]")
SECRET_IN_PATH = re.compile(r"(pass\w*|pwd)\s*=", re.IGNORECASE)
USAGE = "give the path of a SQLite file, sqlite:///FILE, or postgresql://USER@HOST/NAME"


def file_of(url: str) -> Path | None:
    """Return the SQLite file at an address, or None if a server has the database.

    Raises:
        FeedbackError: if it is no address.
    """
    address = parse_address(url)
    return Path(str(address.database)) if address.get_backend_name() == SQLITE else None


def parse_address(url: str) -> URL:
    """Parse the address of a database; a path is a SQLite file."""
    if not url.strip():
        raise FeedbackError(f"the address of the feedback is empty; {USAGE}")
    if "://" not in url:
        _check_path(url)
        return URL.create(SQLITE, database=url)
    try:
        address = read_address(url)
    except ValueError as error:
        raise FeedbackError(f"the address of the feedback is {error}; {USAGE}") from None
    match address.drivername:
        case "sqlite" | "sqlite+pysqlite":
            file = address.database or ""
            if file in ("", ":memory:") or file.startswith("file:"):
                raise FeedbackError(f"a database in memory would lose feedback; {USAGE}")
            if address != URL.create(address.drivername, database=file):
                raise FeedbackError(f"a SQLite file has no host and no settings; {USAGE}")
            return address
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return address.set(drivername=f"{POSTGRES}+psycopg")
        case driver:
            raise FeedbackError(f"feedback is not kept in {driver!r}; {USAGE}")


def _check_path(text: str) -> None:
    """Refuse a text that is no path, without repeating it: it may hold a password."""
    if ":memory:" in text:
        raise FeedbackError(f"a database in memory would lose feedback; {USAGE}")
    no_path = SECRET_IN_PATH if PLAIN_PATH.match(text) else NO_PATH
    if no_path.search(text):
        raise FeedbackError(
            f"the address of the feedback is neither a URL nor a path; {USAGE} (a file whose name "
            "looks like an address: ./NAME)"
        )


def identify_file(file: Path) -> tuple[int, int] | None:
    """Return device and number of the file at a path; no other file has them while it is open."""
    with suppress(OSError):
        status = file.stat()
        return status.st_dev, status.st_ino
    return None


def check_file(file: Path, create: bool) -> None:
    """Check that a file can be a database, create it, and make it its owner's alone."""
    if file.is_dir():
        raise FeedbackError(f"{file}: a folder; give a file in it, such as {file / 'feedback.db'}")
    if file.exists():
        for path in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            with suppress(OSError):  # another user's, or just gone
                if path.stat().st_mode & 0o007:  # by no choice: earlier versions wrote it so
                    path.chmod(0o600)
    elif create:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))  # SQLite copies the mode
        except OSError as error:
            raise FeedbackError(
                f"{file}: cannot be made ({error.strerror}); give another path"
            ) from None
    else:
        raise FeedbackError(f"{file}: there is no such file; check the path of the feedback")


def create_engine(address: URL) -> Engine:
    """Create an engine whose commits are durable."""
    if address.get_backend_name() == POSTGRES:
        settings: dict[str, Any] = {"client_encoding": "utf8"}  # whatever the server's own is
        if "connect_timeout" not in address.query:
            settings["connect_timeout"] = CONNECT_S
        engine = sa.create_engine(address, pool_pre_ping=True, connect_args=settings)
        sa.event.listen(engine, "connect", _wait_for_disk)
        return engine
    engine = sa.create_engine(address, connect_args={"timeout": LOCK_WAIT_S})
    sa.event.listen(engine, "connect", _log_ahead)
    return engine


def _log_ahead(connection: sqlite3.Connection, _: object) -> None:
    """Make a commit one append to a log, synced to disk, for which no reader waits."""
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _wait_for_disk(connection: Any, _: object) -> None:  # noqa: ANN401 (psycopg's own)
    """Undo a server's setting by which a commit returns before it is on disk."""
    off = "current_setting('synchronous_commit') = 'off'"
    connection.execute(f"SELECT set_config('synchronous_commit', 'on', false) WHERE {off}")
    connection.commit()
