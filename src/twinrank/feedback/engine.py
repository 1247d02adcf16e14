"""Addresses of feedback databases, and engines whose commits are durable."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from twinrank.addresses import read_address
from twinrank.errors import FeedbackError

SQLITE, POSTGRES = "sqlite", "postgresql"
LOCK_WAIT_S = 30  # for another process that writes at this moment
CONNECT_S = 10
# Other forms of a server's address, such as `host=db password=...` or `user:...@db`, would become
# a file named after the password; a path that begins as one may hold these characters.
PLAIN_PATH = re.compile(r"(~|\.{1,2}[/\\]|/|[A-Za-z]:[/\\])(?!.*(pass\w*|pwd)\s*=)")
NO_PATH = re.compile(r"[=@:\0\r\n]")
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
    if "://" not in url:
        if not url.strip() or (NO_PATH.search(url) and not PLAIN_PATH.match(url)):
            raise FeedbackError(f"the address of the feedback is neither a URL nor a path; {USAGE}")
        return URL.create(SQLITE, database=str(Path(url).expanduser()))
    try:
        address = read_address(url)
    except ValueError as error:
        raise FeedbackError(f"the address of the feedback is {error}; {USAGE}") from None
    if address.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return address.set(drivername=f"{POSTGRES}+psycopg")
    if address.drivername != SQLITE:
        raise FeedbackError(f"feedback is not kept in {address.drivername!r}; {USAGE}")
    file = address.database or ":memory:"
    if file == ":memory:" or address != URL.create(SQLITE, database=file):
        raise FeedbackError(f"a SQLite database is a file, without host and settings; {USAGE}")
    return address


def check_file(file: Path, create: bool) -> None:
    """Check that a file can be a database, or create it as its owner's alone."""
    if file.is_dir():
        raise FeedbackError(f"{file}: a folder; give a file in it, such as {file / 'feedback.db'}")
    if file.exists():
        return
    if not create:
        raise FeedbackError(f"{file}: there is no such file; check the path of the feedback")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))  # SQLite copies the mode
    except OSError as error:
        raise FeedbackError(
            f"{file}: cannot be made ({error.strerror}); give another path"
        ) from None


def create_engine(address: URL) -> Engine:
    """Create an engine whose commits are durable."""
    if address.get_backend_name() == SQLITE:
        engine = sa.create_engine(address, connect_args={"timeout": LOCK_WAIT_S})
        sa.event.listen(engine, "connect", _log_ahead)
        return engine
    settings: dict[str, Any] = {"client_encoding": "utf8"}  # whatever the server's own is
    if "connect_timeout" not in address.query:
        settings["connect_timeout"] = CONNECT_S
    engine = sa.create_engine(address, pool_pre_ping=True, connect_args=settings)
    sa.event.listen(engine, "connect", _wait_for_disk)
    return engine


def _log_ahead(connection: sqlite3.Connection, _: object) -> None:
    """Make a commit one append to a log, synced to disk, for which no reader waits."""
    connection.create_function("lower", 1, str.lower, deterministic=True)  # its own knows ASCII
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _wait_for_disk(connection: Any, _: object) -> None:  # noqa: ANN401 (psycopg's own)
    """Undo a server's setting by which a commit returns before it is on disk."""
    off = "current_setting('synchronous_commit') = 'off'"
    connection.execute(f"SELECT set_config('synchronous_commit', 'on', false) WHERE {off}")
    connection.commit()
