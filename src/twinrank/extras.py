"""Libraries that only some commands need, and what to install where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from twinrank.errors import TwinrankError


def check_installed(what: str, extra: str, *modules: str) -> None:
    """Say what to install, before any work is done.

    Args:
        what: takes them, in the plural.
        extra: of twinrank, that brings them.
        modules: top-level names.

    Raises:
        TwinrankError: if one is missing.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise TwinrankError(f"{what} need {' and '.join(missing)}: pip install 'twinrank[{extra}]'")
