"""How well twinrank ranks, against what people would pick instead.

The same splits, the same texts of answers, the same encoder and token limit, and the same evaluator
for all: each system gives scores of every answer for every test query, and
`twinrank.evaluation` measures them, with intervals and paired tests over threads. Training sees
the train split, choices (C, the best checkpoint, which of our recipes the peers are compared
with) the validation split; test is only measured. `peers/__init__.py` says what each peer is.

  * training s: from texts to a system that ranks, with encoding and validation; encoding counts in
    full also where the store had the features already, and so does training before a kill;
  * ms a query: median of single calls from a text to its ten best answers, after a warm-up.

The loss in quality.json means little for systems whose scores are no logits, such as cosines.

Every system and seed leaves its result in the folder, and a second call computes only what is
missing: kill it at any moment and run it again. Run it as

    python benchmarks/quality.py DATA [--peers all] [--recipes a,b] [--seeds 3] [--out FOLDER]
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from peers import CHEAP, PEERS, Peer
from peers.encoding import TimedStore
from peers.files import write_whole
from peers.ours import prepare
from peers.results import Result, carried_out
from peers.table import (
    Measured,
    as_markdown,
    as_table,
    best_of_ours,
    compared,
    difference_cells,
    systems_cells,
)
from peers.task import Ready, Task
from twinrank.data import Dataset
from twinrank.encoding import Encoder
from twinrank.errors import TwinrankError
from twinrank.recipe import Recipe, recipe_names

MAIN = ("bm25", "zero-shot", "handover-dual", "residual", "even")
ALL = "all"
WIDTH = 120  # of tables in a file
PEERS_RUN = ",".join(peer.name for peer in CHEAP)
RECIPES_RUN = ",".join(name for name in MAIN if name in recipe_names())

log = logging.getLogger("quality")


@dataclass(frozen=True)
class System:
    """A peer or recipe that is to be measured.

    Attributes:
        name: in tables.
        ours: whether it is a recipe.
        identity: everything but the seed that decides its result, as JSON values.
        seeds: with which it is carried out.
        prepare: makes it ready.
    """

    name: str
    ours: bool
    identity: dict[str, Any]
    seeds: tuple[int, ...]
    prepare: Callable[[Task], Ready]

    @property
    def folder(self) -> str:
        """The name of its folder."""
        told = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return f"{'twinrank-' if self.ours else ''}{self.name}-{told[:8]}"


def main(
    data: Path,
    peers: Annotated[
        str, typer.Option(help=f"By name, or {ALL}; empty for none: {', '.join(PEERS)}.")
    ] = PEERS_RUN,
    recipes: Annotated[
        str, typer.Option(help="Names or TOML files; empty for none.")
    ] = RECIPES_RUN,
    seeds: Annotated[int, typer.Option(min=1, help="How many, where a seed matters.")] = 3,
    encoder: Annotated[str, typer.Option(help="Of the peers: a name or folder.")] = (
        "all-MiniLM-L6-v2"
    ),
    max_tokens: Annotated[int, typer.Option(min=3, help="Peers cut longer texts there.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of peers that train the encoder.")] = 5e-5,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results; else runs/DATA/quality.")
    ] = None,
) -> None:
    """Print and write the quality, training time and latency of every system."""
    dataset = Dataset.load(data)
    out = out or Path("runs") / dataset.name / "quality"
    test = dataset.split("test")
    backbone = Encoder(encoder, max_tokens=max_tokens)
    values = {"encoder": encoder, "max_tokens": max_tokens, "learning_rate": learning_rate}
    known = {**values, "encoder": backbone.identity}
    systems = [_peer(peer, dataset, known, seeds) for peer in _named(peers)]
    systems += [_recipe(name, dataset, seeds) for name in _split(recipes)]
    if not systems:
        raise typer.BadParameter("nothing to measure; name a peer or a recipe")

    def task(seed: int, folder: Path) -> Task:
        return Task(
            answers=dataset.answer_texts(),
            train=dataset.split("train"),
            validation=dataset.split("validation"),
            encoder=encoder,
            max_tokens=max_tokens,
            learning_rate=learning_rate,
            seed=seed,
            folder=folder,
            store=TimedStore(out / "encoding"),
        )

    def result(system: System, seed: int) -> Result:
        home = out / system.folder
        file, work = home / f"seed-{seed}.json", home / f"seed-{seed}.work"
        if not file.exists():
            log.info("%s, seed %d", system.name, seed)
            carried_out(system.prepare, task(seed, work), test).save(file)
        shutil.rmtree(work, ignore_errors=True)
        return Result.load(file)

    measured = [
        Measured(system.name, system.ours, tuple(result(system, seed) for seed in system.seeds))
        for system in systems
    ]
    _report(dataset, systems, measured, values, out)


def _split(names: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def _named(names: str) -> list[Peer]:
    wanted = list(PEERS) if names == ALL else _split(names)
    unknown = [name for name in wanted if name not in PEERS]
    if unknown:
        raise typer.BadParameter(f"no peer is called {unknown[0]!r}; there are {', '.join(PEERS)}")
    return [PEERS[name] for name in wanted]


def _peer(peer: Peer, dataset: Dataset, known: dict[str, Any], seeds: int) -> System:
    try:
        settings = peer.settings
    except ImportError as error:
        raise typer.BadParameter(f"{peer.name}: {error}; pip install 'twinrank[bench]'") from None
    read = {name: known[name] for name in peer.reads}
    identity = {"data": dataset.fingerprint, "peer": peer.name, **read, "settings": settings}
    own = tuple(range(seeds if peer.seeded else 1))
    return System(peer.name, False, identity, own, peer.prepare)


def _recipe(name: str, dataset: Dataset, seeds: int) -> System:
    recipe = Recipe.load(name)
    identity = {"data": dataset.fingerprint, "recipe": recipe.values()}
    own = tuple(range(seeds if recipe.towers else 1))
    return System(recipe.name, True, identity, own, lambda task: prepare(dataset, recipe, task))


def _report(
    dataset: Dataset,
    systems: Sequence[System],
    measured: Sequence[Measured],
    values: dict[str, Any],
    out: Path,
) -> None:
    found = compared(measured)
    best = best_of_ours(measured)
    count = measured[0].mean.counts["overall"]
    tables = [
        (
            f"{dataset.name}, {count:,} test queries: mean ± standard deviation over seeds, 95 % "
            "intervals over threads",
            *systems_cells(measured),
        )
    ]
    if found and best:
        title = f"Each peer minus twinrank {best.name}, the best of ours on validation; Holm's p"
        tables.append((title, *difference_cells(found)))
    head = {"data": dataset.name, "data_fingerprint": dataset.fingerprint, **values}
    entries = [_entry(*pair) for pair in zip(systems, measured, strict=True)]
    content = {**head, "systems": entries, "differences": found}
    write_whole(out / "quality.json", json.dumps(content, indent=2) + "\n")
    write_whole(out / "quality.md", "\n".join(as_markdown(*table) for table in tables))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables:
        console.print(as_table(*table))
    console.print(f"{out / 'quality.json'}, {out / 'quality.md'}", soft_wrap=True)


def _entry(system: System, measured: Measured) -> dict[str, Any]:
    """One system in quality.json."""
    figures = ("training_s", "query_ms", "validation", "chosen", "versions")
    seeds = {
        str(result.seed): {
            **{name: value for name, value in vars(result).items() if name in figures},
            "overall": evaluation.overall,
            "types": evaluation.types,
        }
        for result, evaluation in zip(measured.results, measured.each, strict=True)
    }
    kind = {"name": system.name, "ours": system.ours, "identity": system.identity}
    return {**kind, **measured.mean.as_dict(), "seeds": seeds}


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)  # of this file alone: trainers have much to say
    try:
        typer.run(main)
    except TwinrankError as error:
        sys.exit(f"{error}")
