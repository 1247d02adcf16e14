"""Addresses of databases, read and shown without the passwords in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_SECRET = re.compile("pass|pwd|token|secret|key", re.IGNORECASE)


def read_address(text: str) -> URL:
    """Read a database's address.

    Raises:
        ValueError: if it is no URL; the message shows none of it.
    """
    try:
        address = make_url(text)
        parsed = "@" not in (address.host or "")
    except (ArgumentError, ValueError):
        parsed = False
    if not parsed:
        raise ValueError(
            "no URL; write @ : / ? # and % within a password as %40 %3A %2F %3F %23 %25"
        )
    return address


def show_address(address: URL) -> str:
    """Write an address without its passwords."""
    hidden = {name: "***" for name in address.query if _SECRET.search(name)}
    return address.update_query_dict(hidden).render_as_string(hide_password=True)


def hide_passwords(text: str, address: URL) -> str:
    """Strike the passwords of an address out of a text, such as a driver's error."""
    for secret in sorted(_secrets(address), key=len, reverse=True):
        for written in (secret, quote(secret, safe=""), quote_plus(secret)):
            text = text.replace(written, "***")
    return text


def _secrets(address: URL) -> Iterable[str]:
    values = [address.password or ""]
    for name, value in address.query.items():
        if _SECRET.search(name):
            values += [value] if isinstance(value, str) else value
    return filter(None, values)
