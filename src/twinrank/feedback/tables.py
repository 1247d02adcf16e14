"""The tables of feedback, and a verdict as a row of them."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import sqlalchemy as sa

from twinrank.feedback.verdicts import Verdict

_ALL = sa.MetaData()
VERDICTS = sa.Table(
    "twinrank_verdicts",
    _ALL,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("answer", sa.Text),
    sa.Column("right", sa.Boolean, nullable=False),
    sa.Column("place", sa.Integer),  # of the answer among those shown, from 1
    sa.Column("shown", sa.JSON, nullable=False),  # JSON's null where nobody said
    sa.Column("ranker", sa.Text),
    sa.Column("at", sa.DateTime, nullable=False),  # UTC
    sa.Column("date", sa.Date, nullable=False),  # of `at`: SQLite and PostgreSQL agree on no cast
    sa.Index("twinrank_verdicts_date", "date"),
)
TRAFFIC = sa.Table(
    "twinrank_traffic",
    _ALL,
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("type", sa.Text, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("confident", sa.BigInteger, nullable=False),
    sa.Column("withheld", sa.BigInteger, nullable=False),
)
SETTINGS = sa.Table(
    "twinrank_settings",
    _ALL,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)
TABLES = (VERDICTS, TRAFFIC, SETTINGS)  # what tells that all is there comes last


def row_of(verdict: Verdict) -> dict[str, Any]:
    """The values of a row of `VERDICTS`, but for its number."""
    at = verdict.at.astimezone(UTC)
    return {
        "key": plain(verdict.key),
        "text": plain(verdict.text),
        "type": plain(verdict.type),
        "answer": None if verdict.answer is None else plain(verdict.answer),
        "right": verdict.right,
        "place": verdict.place,
        "shown": verdict.shown and [plain(answer) for answer in verdict.shown],
        "ranker": None if verdict.ranker is None else plain(verdict.ranker),
        "at": at.replace(tzinfo=None),
        "date": at.date(),
    }


def plain(text: str) -> str:
    """A text that every database can hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def verdict_of(row: sa.Row[Any]) -> Verdict:
    """The verdict in a row of `VERDICTS`."""
    return Verdict(
        key=row.key,
        text=row.text,
        type=row.type,
        answer=row.answer,
        right=row.right,
        shown=None if row.shown is None else tuple(row.shown),
        ranker=row.ranker,
        at=row.at.replace(tzinfo=UTC),
    )
