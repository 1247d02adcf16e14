"""What each part of `even` is worth: the recipe with one part taken out at a time.

Measured on the validation split, since it is what parts are chosen by; `twinrank compare` carries
the runs out, and goes on after a kill. Weights of channels and confidence are fitted on that split
too, for all variants alike. Run it as

    python benchmarks/ablation.py DATA [--recipe even] [--seeds 3] [--split validation] [--out F]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from twinrank import Dataset, Recipe
from twinrank.encoding import FeatureStore
from twinrank.experiments import compare
from twinrank.reports.terminal import comparison_table, write_comparison

WITHOUT: dict[str, dict[str, Any]] = {
    "sections": {"encoder": {"answers": "whole"}},
    "256 tokens": {"encoder": {"max_tokens": 128}},
    "words": {"words": None},
    "memory": {"memory": None},
    "offsets": {"towers": {"offsets": False}},
    "dropout": {"towers": {"dropout": 0.0}},
    "worst type kept": {"training": {"keep": "loss"}},
}


def main(
    data: Path,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")] = "even",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    split: Annotated[str, typer.Option(help="Whose queries are asked.")] = "validation",
    out: Annotated[Path | None, typer.Option(help="Folder; else runs/DATA/ablation.")] = None,
) -> None:
    """Print and write the comparison of the recipe with its variants."""
    dataset, whole = Dataset.load(data), Recipe.load(recipe)
    variants = [varied(whole, name) for name in WITHOUT]
    home = out or Path("runs") / dataset.name / "ablation"
    chosen = [whole, *(each for each in variants if each)]
    found = compare(dataset, chosen, seeds=seeds, split=split, out=home, store=FeatureStore())
    write_comparison(found, home)
    Console(width=120).print(comparison_table(found))


def varied(whole: Recipe, name: str) -> Recipe | None:
    """A recipe without one of its parts; none if it has no such part."""
    values = whole.model_dump()
    for table, change in WITHOUT[name].items():
        if values.get(table) is None:
            return None
        values[table] = change and values[table] | change
    if values == whole.model_dump():
        return None
    return Recipe.model_validate(values | {"name": f"without-{name.replace(' ', '-')}"})


if __name__ == "__main__":
    typer.run(main)
