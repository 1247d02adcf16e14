"""The ranges of a sweep: fields of a recipe, and the values that each may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twinrank.errors import TwinrankError
from twinrank.files import parse_toml, read_text
from twinrank.recipe import Recipe

Value = bool | int | float | str
EXAMPLE = 'write, for example, "training.learning_rate" = {low = 1e-5, high = 1e-2, log = true}'
# The four fields that the handover's own sweep varied.
USUAL_RANGES = {
    "towers.dropout": {"low": 0.0, "high": 0.6},
    "training.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "training.batch_size": {"low": 32, "high": 256, "log": True},
    "training.weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
}


class Between(BaseModel):
    """A number from `low` to `high`, both included; `log` draws its logarithm evenly."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Between:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low has to be below high and, with log = true, above zero")
        return self

    def includes(self, value: Value | None) -> bool:
        """Tell whether a value lies in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class Choices(BaseModel):
    """One of several values."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    choices: Annotated[tuple[Value, ...], Field(min_length=2)]

    def includes(self, value: Value | None) -> bool:
        """Tell whether a value is one of the choices."""
        return value in self.choices


Range = Between | Choices


@dataclass(frozen=True)
class Ranges:
    """The ranges of a sweep, each valid in the recipe, by field: `training.learning_rate`."""

    fields: Mapping[str, Range]

    @classmethod
    def load(cls, file: Path | None, recipe: Recipe) -> Ranges:
        """Load ranges from a TOML file that looks like a recipe; without one, the usual four.

            [training]
            learning_rate = {low = 1e-5, high = 1e-2, log = true}
            batch_size = {choices = [32, 64, 128]}

        Raises:
            TwinrankError: that names the file, the field and the mend, if a range is none, or a
                value of it is none that the recipe may have.
        """
        source = str(file) if file else "the usual ranges (give others with --ranges)"
        text = read_text(file, "file of ranges") if file else ""
        tables = parse_toml(text, source) if file else USUAL_RANGES
        fields = {path: _check(path, v, recipe, source) for path, v in _list_fields(tables)}
        if not fields:
            raise TwinrankError(f"{source}: no ranges; {EXAMPLE}")
        return cls(fields)

    def values(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {path: given.model_dump(mode="json") for path, given in self.fields.items()}

    def start(self, recipe: Recipe) -> dict[str, Value] | None:
        """Give the recipe's own values, if all of them lie in the ranges."""
        values = {path: _read_field(path, recipe) for path in self.fields}
        inside = [self.fields[path].includes(value) for path, value in values.items()]
        return values if all(inside) else None


def vary(recipe: Recipe, values: Mapping[str, Value], *, name: str, source: str) -> Recipe:
    """Give the recipe other values of some fields, and another name.

    Raises:
        TwinrankError: if that is no recipe.
    """
    plain = recipe.values() | {"name": name}
    for path, value in values.items():
        table, _, field = path.partition(".")
        if not isinstance(plain.get(table), dict):
            raise TwinrankError(
                f"{source}: {path}: the recipe {recipe.name} has no [{table}] table"
            )
        plain[table][field] = value
    return Recipe.validated(plain, source=source)


def _list_fields(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """List what may be a range, whether its field is written as `table.field` or in its table."""
    for name, value in tables.items():
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & value.keys():
            yield from _list_fields(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _check(path: str, value: object, recipe: Recipe, source: str) -> Range:
    """Check a range, and give its numbers the type of its field.

    Raises:
        TwinrankError: if the recipe has no such field, or a value is none of its values.
    """
    kind = Choices if isinstance(value, Mapping) and "choices" in value else Between
    try:
        given: Range = kind.model_validate(value)
    except ValidationError as error:
        faults = [".".join(map(str, (path, *f["loc"]))) + f": {f['msg']}" for f in error.errors()]
        raise TwinrankError(f"{source}: {'; '.join(faults)}; {EXAMPLE}") from None
    typed = []
    for limit in given.choices if isinstance(given, Choices) else (given.low, given.high):
        where = f"{source}: {path} = {limit!r}"
        varied = vary(recipe, {path: limit}, name=recipe.name, source=where)
        typed.append(_read_field(path, varied))
    if isinstance(given, Choices):
        return given
    return given.model_copy(update={"low": typed[0], "high": typed[1]})


def _read_field(path: str, recipe: Recipe) -> Any:  # noqa: ANN401 (of any type)
    table, field = path.split(".")
    return getattr(getattr(recipe, table), field)
