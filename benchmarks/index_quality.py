"""What a cheaper index of answers costs in quality: the exact one beside stale and sampled ones.

Measured on the validation split, since it is what one chooses by; `twinrank compare` carries the
runs out, and goes on after a kill. Weights of channels and confidence are fitted on that split
too, for all variants alike. Run it as

    python benchmarks/index_quality.py DATA [--recipe even] [--samples 128,32] [--seeds 3] [--out F]
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


def main(
    data: Path,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")] = "even",
    samples: Annotated[str, typer.Option(help="Sizes of samples, with commas.")] = "128,32",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    split: Annotated[str, typer.Option(help="Whose queries are asked.")] = "validation",
    out: Annotated[Path | None, typer.Option(help="Folder; else runs/DATA/index-quality.")] = None,
) -> None:
    """Print and write the comparison of the recipe with itself by other indexes."""
    dataset, whole = Dataset.load(data), Recipe.load(recipe)
    chosen = [varied(whole, "exact"), varied(whole, "stale")]
    chosen += [varied(whole, "sampled", answer_sample=int(size)) for size in samples.split(",")]
    home = out or Path("runs") / dataset.name / "index-quality"
    found = compare(dataset, chosen, seeds=seeds, split=split, out=home, store=FeatureStore())
    write_comparison(found, home)
    Console(width=120).print(comparison_table(found))


def varied(whole: Recipe, index: str, **changes: Any) -> Recipe:  # noqa: ANN401
    """A recipe that trains by another index."""
    values = whole.model_dump()
    values["training"] |= {"index": index, **changes}
    numbers = "".join(f"-{value}" for value in changes.values())
    return Recipe.model_validate(values | {"name": f"{whole.name}-{index}{numbers}"})


if __name__ == "__main__":
    typer.run(main)
