"""Filters on the metadata of answers: what somebody wants to see, or is allowed to see."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from jaxtyping import Bool

from twinrank.errors import ArgumentError, TwinrankError

Value: TypeAlias = str | int | float  # and bool, which is an int
Where: TypeAlias = Mapping[str, Value | Sequence[Value]]
MAX_REMEMBERED_FIELDS = 100  # of which it was said that no answer has them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filter:
    """Conditions that the metadata of an answer must all meet; without any, every answer fits.

    Attributes:
        conditions: each is a field, and the values of which the answer must have one.
    """

    conditions: frozenset[tuple[str, frozenset[str]]] = frozenset()

    @classmethod
    def of(cls, where: Where | Filter | None) -> Filter:
        """Make a filter of fields and their values, as `{"locale": "da", "brand": ["a", "b"]}`."""
        if where is None or isinstance(where, Filter):
            return where or cls()
        if not isinstance(where, Mapping) or not all(isinstance(field, str) for field in where):
            raise ArgumentError(f'where is {where!r}; give fields and values: {{"locale": "da"}}')
        for field, values in where.items():
            several = values if isinstance(values, list | tuple | set) else [values]
            if not all(isinstance(value, Value) for value in several):
                raise ArgumentError(f"where: {field} is {values!r}; give a text, or a list of them")
        fields = where.items()
        return cls(frozenset((field, frozenset(_write_values(values))) for field, values in fields))

    @classmethod
    def parse(cls, conditions: Iterable[str]) -> Filter:
        r"""Read `FIELD=VALUE` or `FIELD=VALUE,VALUE`; a comma of a value is written `\,`."""
        values: dict[str, list[str]] = {}
        for condition in conditions:
            field, _, texts = condition.partition("=")
            several = [text.replace(r"\,", ",") for text in re.split(r"(?<!\\),", texts)]
            if not field or not all(several):
                raise TwinrankError(
                    f"{condition!r} is no filter; write FIELD=VALUE, or FIELD=VALUE,VALUE for any "
                    "of several values"
                )
            values.setdefault(field, []).extend(several)
        return cls.of(values)

    def __and__(self, second: Filter) -> Filter:
        """Return the filter that only those answers fit which fit both."""
        return Filter(self.conditions | second.conditions)

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return bool(self.conditions)

    def __str__(self) -> str:
        """As in JSON, the same for the same conditions: `"brand": ["a", "b"]`; empty for none."""
        pairs = sorted((field, sorted(values)) for field, values in self.conditions)
        written = [[json.dumps(part, ensure_ascii=False) for part in pair] for pair in pairs]
        return "; ".join(f"{field}: {values}" for field, values in written)


class AnswerFields:
    """The metadata of m answers, by field: which values which answers have.

    Values are compared as text; numbers, true and false are written as in JSON. What is an object
    or null is no value. A field is read when it is first asked for.

    Args:
        metadata: of each answer: the JSON text of an object, as `json.dumps` writes it.
    """

    def __init__(self, metadata: pl.Series) -> None:
        self._metadata = metadata.alias("metadata")
        self._tables: dict[str, pl.DataFrame] = {}  # value and row, by field

    def select(self, fitting: Filter, *, wholly: bool = False) -> Bool[np.ndarray, " m"]:
        """Return which answers fit a filter; `wholly` leaves out those with other values too."""
        fits = np.ones(len(self._metadata), bool)
        for field, values in fitting.conditions:
            table = self._read(field)
            allowed = table["value"].is_in(list(values))
            has_value = np.zeros(len(fits), bool)
            has_value[table["row"].filter(allowed)] = True
            if wholly:
                has_value[table["row"].filter(~allowed)] = False
            fits &= has_value
        return fits

    def prepare(self, former: AnswerFields) -> None:
        """Read the fields that were asked of a former one."""
        for field in list(former._tables):
            self._read(field)

    def _read(self, field: str) -> pl.DataFrame:
        """Return each value of a field, and the row of an answer that has it."""
        if field in self._tables:
            return self._tables[field]
        names = {json.dumps(field), json.dumps(field, ensure_ascii=False)}
        rows = pl.DataFrame(self._metadata).with_row_index("row")
        rows = rows.filter(pl.col("metadata").str.contains_any(list(names)))
        texts, values = [], []
        for text in rows["metadata"].unique():
            for value in _write_values(json.loads(text).get(field)):
                texts.append(text)
                values.append(value)
        schema = {"metadata": pl.String, "value": pl.String}
        table = pl.DataFrame({"metadata": texts, "value": values}, schema=schema)
        table = table.join(rows, on="metadata").select("value", "row")
        if table.is_empty():
            _warn_of_unknown(field)
        else:
            self._tables[field] = table
        return table


@lru_cache(MAX_REMEMBERED_FIELDS)
def _warn_of_unknown(field: str) -> None:
    """Say once that a filter fits nothing because of its field."""
    log.warning("no answer has the metadata %r, so that a filter on it fits nothing", field)


def _write_values(values: Any) -> list[str]:  # noqa: ANN401 (any JSON value)
    """Return one value, or each of several, as text."""
    match values:
        case str():
            return [values]
        case bool() | int() | float():
            return [json.dumps(values)]
        case list() | tuple() | set():
            return [text for value in values for text in _write_values(value)]
    return []
