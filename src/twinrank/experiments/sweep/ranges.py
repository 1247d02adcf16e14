"""What a sweep varies: for some fields of a recipe, from where to where."""

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
        """What has to be valid for all of it to be."""
        return (self.low, self.high)


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
        """All of them."""
        return self.choices


Range = Between | Choices

# What the handover's own sweep varied.
USUAL: dict[str, Range] = {
    "towers.dropout": Between(low=0.0, high=0.6),
    "training.learning_rate": Between(low=1e-5, high=1e-2, log=True),
    "training.batch_size": Between(low=32, high=256, log=True),
    "training.weight_decay": Between(low=1e-5, high=1e-1, log=True),
}


@dataclass(frozen=True)
class Ranges:
    """The ranges of a sweep, each valid in the recipe.

    Attributes:
        of: each range by its field: `training.learning_rate`.
    """

    of: Mapping[str, Range]

    @classmethod
    def load(cls, file: Path | None, recipe: Recipe) -> Ranges:
        """Ranges from a TOML file that looks like a recipe; without one, the usual four.

            [training]
            learning_rate = {low = 1e-5, high = 1e-2, log = true}
            batch_size = {choices = [32, 64, 128]}

        Raises:
            RecipeError: that names the file, the field and the mend, if a range is none, or a
                value of it is none that the recipe may have.
        """
        source = str(file) if file else "the usual ranges (give others with --ranges)"
        found = dict(_ranges_in(_read(file), source)) if file else USUAL
        if not found:
            raise RecipeError(f"{source}: no ranges; {EXAMPLE}")
        checked = {path: _checked(path, own, recipe, source) for path, own in found.items()}
        return cls(checked)

    def values(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {path: own.model_dump(mode="json") for path, own in self.of.items()}

    def start(self, recipe: Recipe) -> dict[str, Value] | None:
        """The recipe's own values, if all of them lie in the ranges."""
        own = {path: getattr(*_place(path, recipe)) for path in self.of}
        return own if all(_holds(self.of[path], value) for path, value in own.items()) else None


EXAMPLE = 'write, for example, "training.learning_rate" = {low = 1e-5, high = 1e-2, log = true}'


def varied(recipe: Recipe, values: Mapping[str, Value], *, name: str, source: str) -> Recipe:
    """The recipe with other values of some fields, and another name.

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


def _ranges_in(
    tables: Mapping[str, Any], source: str, above: str = ""
) -> Iterator[tuple[str, Range]]:
    """Every range, whether its field is written as `table.field` or in its table."""
    for name, value in tables.items():
        path = f"{above}{name}"
        if not isinstance(value, Mapping):
            raise RecipeError(f"{source}: {path} is no range; {EXAMPLE}")
        if "choices" not in value and not {"low", "high"} & set(value):
            yield from _ranges_in(value, source, f"{path}.")
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


def _place(path: str, recipe: Recipe) -> tuple[BaseModel, str]:
    table, field = path.split(".")
    settings: BaseModel = getattr(recipe, table)
    return settings, field


def _checked(path: str, own: Range, recipe: Recipe, source: str) -> Range:
    """The range, with numbers of its field's type.

    Raises:
        RecipeError: if the recipe has no such field, or a value is none of its values.
    """
    table = path.split(".")[0]
    tables = {name: value for name, value in recipe if isinstance(value, BaseModel)}
    known = [
        f"{name}.{inner}" for name, value in tables.items() for inner in type(value).model_fields
    ]
    if path not in known:
        if "." in path and table in Recipe.model_fields and table not in tables:
            raise RecipeError(
                f"{source}: {path}: the recipe {recipe.name} has no [{table}] table; "
                "add one to the recipe, or leave the range out"
            )
        near = get_close_matches(path, known, n=1)
        mend = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
        raise RecipeError(f"{source}: {path}: the recipe {recipe.name} has no such field; {mend}")
    kinds = set()
    for value in own.bounds:
        one = varied(
            recipe, {path: value}, name=recipe.name, source=f"{source}: {path} = {value!r}"
        )
        kinds.add(type(getattr(*_place(path, one))))
    if isinstance(own, Choices):
        return own
    if not kinds <= {int, float}:
        raise RecipeError(f"{source}: {path} is no number; give choices = [...] instead")
    number = kinds.pop()
    return Between(low=number(own.low), high=number(own.high), log=own.log)


def _holds(own: Range, value: Value | None) -> bool:
    if isinstance(own, Choices):
        return value in own.choices
    return isinstance(value, int | float) and own.low <= value <= own.high
