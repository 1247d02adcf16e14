"""What a caller of the Python API may give, and errors that say what to give instead."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twinrank.errors import ArgumentError

if TYPE_CHECKING:
    import polars as pl

    Texts = str | Iterable[str]
    AnyPath = str | Path
    Count = int
    Answers = pl.DataFrame
else:  # a caller may give anything, and is told below what to give
    Texts = AnyPath = Count = Answers = object

Wanted = TypeVar("Wanted")


def path_of(value: Any, what: str) -> Path:  # noqa: ANN401 (whatever a caller gives)
    """Make a path of what a caller gives as one.

    Raises:
        ArgumentError: if it is neither text nor a path; `what` names the argument.
    """
    if isinstance(value, str | os.PathLike) and value != "":
        return Path(value)
    given = "empty" if value == "" else _shown(value)
    raise ArgumentError(f"{what} is {given}; give a path, as text or pathlib.Path")


def texts_of(value: Any, what: str = "texts") -> list[str]:  # noqa: ANN401 (whatever a caller gives)
    """Make a list of a text or of several, in any iterable but one that has keys or columns.

    Raises:
        ArgumentError: if it is neither, or holds what is no text; `what` names the argument.
    """
    if isinstance(value, str):
        return [value]
    has_keys = isinstance(value, Mapping) or hasattr(value, "columns")
    if isinstance(value, bytes) or has_keys or not isinstance(value, Iterable):
        raise ArgumentError(
            f"{what}: {_shown(value)}; give a text, or a list of them, such as frame['text']"
        )
    try:
        listed = list(value)
    except TypeError as error:  # NumPy's arrays without a dimension
        raise ArgumentError(f"{what}: {error}; give a text, or a list") from None
    for place, text in enumerate(listed, start=1):
        if not isinstance(text, str):
            raise ArgumentError(f"{what}: {place} of {len(listed)} is {_shown(text)}; give text")
    return listed


def count_of(value: Any, what: str) -> int:  # noqa: ANN401 (whatever a caller gives)
    """Make a whole number of what a caller gives as one, NumPy's too.

    Raises:
        ArgumentError: if it is none; `what` names the argument.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{what} is {_shown(value)}; give a whole number") from None


def check_type(value: Any, wanted: type[Wanted], mend: str) -> Wanted:  # noqa: ANN401
    """Return a value that is of the type that is wanted.

    Raises:
        ArgumentError: if it is not; `mend` says what to give.
    """
    if not isinstance(value, wanted):
        raise ArgumentError(f"{_shown(value)} is no {wanted.__name__}; {mend}")
    return value


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
