"""Arguments of the Python API: made plain, or refused with a line that says what to give."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from twinrank.errors import ArgumentError

if TYPE_CHECKING:
    AnyPath = str | Path
    Texts = str | Iterable[str]
else:  # a caller may give anything; the functions below say what to give instead
    AnyPath = Texts = object

Wanted = TypeVar("Wanted")

ExportTool = Literal["sentence-transformers", "onnx", "openvino"]

ASK_BELOW = 0.5  # confidence of a first answer: the default of all that asks back
MAX_RULES_CHARACTERS = 200_000  # of the file of pins and synonyms
GAP_BELOW = 0.4  # and below which `gaps` takes an answer for a bad one


def path_of(value: Any, what: str) -> Path:  # noqa: ANN401 (whatever a caller gives)
    """Return a path; `what` names the argument if it is none."""
    if isinstance(value, str | os.PathLike) and value != "":
        return Path(value)
    raise ArgumentError(f"{what} is {value!r}; give a path, as text or pathlib.Path")


def texts_of(value: Any, what: str = "texts") -> list[str]:  # noqa: ANN401 (whatever a caller gives)
    """Return a list of a text, or of an iterable of texts; `what` names the argument if it is none.

    A dict or a pandas frame is refused, which would give its keys.
    """
    if isinstance(value, str):
        return [value]
    texts = list(value) if isinstance(value, Iterable) and not hasattr(value, "keys") else [value]
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            name = type(text).__name__
            raise ArgumentError(
                f"{what}: number {number} of {len(texts)} is of type {name}; give a text, or a "
                "list of them, such as frame['text']"
            )
    return texts


def count_of(value: Any, what: str) -> int:  # noqa: ANN401 (whatever a caller gives)
    """Return a whole number, NumPy's too; `what` names the argument if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{what} is {value!r}; give a whole number") from None


def check_type(value: Any, wanted: type[Wanted], mend: str) -> Wanted:  # noqa: ANN401
    """Return a value that is of the type that is wanted; `mend` says what to give."""
    if not isinstance(value, wanted):
        raise ArgumentError(f"{type(value).__name__} is no {wanted.__name__}; {mend}")
    return value
