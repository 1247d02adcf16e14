"""The ranges of a sweep: fields of a recipe, and the values that each may take."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from twinrank.errors import RecipeError
from twinrank.files import read_text
from twinrank.recipe import Recipe

Value = bool | int | float | str


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Between(_Range):
    """A number from `low` to `high`, both included; `log` draws its logarithm evenly."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _is_a_range(self) -> Between:
        if not self.low < self.high:
            raise ValueError("low has to be below high")
        if self.log and self.low <= 0:
            raise ValueError("with log = true, low has to be above zero")
        return self

    @property
    def bounds(self) -> tuple[Value, ...]:
        """Both ends: where they are valid, all between them is."""
        return (self.low, self.high)

    def includes(self, value: Value | None) -> bool:
        """Tell whether a value lies in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class Choices(_Range):
    """One of several values."""

    choices: Annotated[tuple[Value, ...], Field(min_length=2)]

    @field_validator("choices")
    @classmethod
    def _differ(cls, choices: tuple[Value, ...]) -> tuple[Value, ...]:
        if len(set(choices)) < len(choices):
            raise ValueError("a choice is there twice")
        return choices

    @property
    def bounds(self) -> tuple[Value, ...]:
        """All values."""
        return self.choices

    def includes(self, value: Value | None) -> bool:
        """Tell whether a value is one of the choices."""
        return value in self.choices


Range = Between | Choices

# The four fields that the handover's own sweep varied.
USUAL_RANGES: dict[str, Range] = {
    "towers.dropout": Between(low=0.0, high=0.6),
    "training.learning_rate": Between(low=1e-5, high=1e-2, log=True),
    "training.batch_size": Between(low=32, high=256, log=True),
    "training.weight_decay": Between(low=1e-5, high=1e-1, log=True),
}


@dataclass(frozen=True)
class Ranges:
    """The ranges of a sweep, each valid in the recipe.

    Attributes:
        fields: each range by its field: `training.learning_rate`.
    """

    fields: Mapping[str, Range]

    @classmethod
    def load(cls, file: Path | None, recipe: Recipe) -> Ranges:
        """Load ranges from a TOML file that looks like a recipe; without one, the usual four.

            [training]
            learning_rate = {low = 1e-5, high = 1e-2, log = true}
            batch_size = {choices = [32, 64, 128]}

        Raises:
            RecipeError: that names the file, the field and the mend, if a range is none, or a
                value of it is none that the recipe may have.
        """
        source = str(file) if file else "the usual ranges (give others with --ranges)"
        ranges = dict(_read_ranges(_read(file), source)) if file else USUAL_RANGES
        if not ranges:
            raise RecipeError(f"{source}: no ranges; {EXAMPLE}")
        return cls({path: _check(path, given, recipe, source) for path, given in ranges.items()})

    def values(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return {path: given.model_dump(mode="json") for path, given in self.fields.items()}

    def start(self, recipe: Recipe) -> dict[str, Value] | None:
        """Give the recipe's own values, if all of them lie in the ranges."""
        values = {path: _read_field(path, recipe) for path in self.fields}
        inside = [self.fields[path].includes(value) for path, value in values.items()]
        return values if all(inside) else None


EXAMPLE = 'write, for example, "training.learning_rate" = {low = 1e-5, high = 1e-2, log = true}'


def vary(recipe: Recipe, values: Mapping[str, Value], *, name: str, source: str) -> Recipe:
    """Give the recipe other values of some fields, and another name.

    Raises:
        RecipeError: if that is no recipe.
    """
    plain = recipe.values() | {"name": name}
    for path, value in values.items():
        table, field = path.split(".")
        plain[table][field] = value
    return Recipe.validated(plain, source=source)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(file, "file of ranges", RecipeError))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{file}: not valid TOML: {error}") from None


def _read_ranges(
    tables: Mapping[str, Any], source: str, above: str = ""
) -> Iterator[tuple[str, Range]]:
    """Read every range, whether its field is written as `table.field` or in its table."""
    for name, value in tables.items():
        path = f"{above}{name}"
        if not isinstance(value, Mapping):
            raise RecipeError(f"{source}: {path} is no range; {EXAMPLE}")
        if "choices" not in value and not {"low", "high"} & set(value):
            yield from _read_ranges(value, source, f"{path}.")
            continue
        kind = Choices if "choices" in value else Between
        try:
            yield path, kind.model_validate(value)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join([path, *map(str, fault['loc'])])}: {fault['msg']}"
                for fault in error.errors()
            )
            raise RecipeError(f"{source}: {faults}") from None


def _read_field(path: str, recipe: Recipe) -> Any:  # noqa: ANN401 (of any type)
    table, field = path.split(".")
    return getattr(getattr(recipe, table), field)


def _check(path: str, given: Range, recipe: Recipe, source: str) -> Range:
    """Check a range, and give its numbers the type of its field.

    Raises:
        RecipeError: if the recipe has no such field, or a value is none of its values.
    """
    _check_field(path, recipe, source)
    kinds = set()
    for value in given.bounds:
        at = f"{source}: {path} = {value!r}"
        kinds.add(type(_read_field(path, vary(recipe, {path: value}, name=recipe.name, source=at))))
    if isinstance(given, Choices):
        return given
    if not kinds <= {int, float}:
        raise RecipeError(f"{source}: {path} is no number; give choices = [...] instead")
    number = kinds.pop()
    return Between(low=number(given.low), high=number(given.high), log=given.log)


def _check_field(path: str, recipe: Recipe, source: str) -> None:
    table = path.split(".")[0]
    tables = {name: value for name, value in recipe if isinstance(value, BaseModel)}
    fields = [
        f"{name}.{field}" for name, value in tables.items() for field in type(value).model_fields
    ]
    if path in fields:
        return
    if "." in path and table in Recipe.model_fields and table not in tables:
        raise RecipeError(
            f"{source}: {path}: the recipe {recipe.name} has no [{table}] table; "
            "add one to the recipe, or leave the range out"
        )
    near = get_close_matches(path, fields, n=1)
    fix = f"did you mean {near[0]}?" if near else f"it has {', '.join(fields)}"
    raise RecipeError(f"{source}: {path}: the recipe {recipe.name} has no such field; {fix}")
