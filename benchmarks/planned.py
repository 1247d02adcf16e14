"""What `twinrank plan` foretells, beside the real thing: encoding, store, fit, index, ranking.

Two sizes of each, in processes of their own with one thread, in processor time. Texts and labels
are DATA's; larger sizes are copies of it, with made-up features where nothing but their number
matters. The constants were measured on other data, at other sizes, by plan_constants.py; `ok`
says that planned and measured differ by 30 % at most. Run it as

    python benchmarks/planned.py DATA [--constants FILE] [--copies 1,3] [--out FILE]
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from index import apart
from memory import Anonymous
from plan_constants import (
    AT_ONCE,
    Figures,
    holding,
    indexed,
    made_up,
    of_steps,
    samples,
    sized,
    steps,
    timed,
    times,
)
from twinrank.data import Dataset
from twinrank.encoding import Encoder, FeatureStore
from twinrank.experiments.runs import encode
from twinrank.planning import Machine, Measured, Shape, Workload, workload_of
from twinrank.planning.encoding import core_seconds, encode_bytes, text_bytes
from twinrank.planning.fusing import fuse
from twinrank.planning.indexing import flat, flat_search_seconds, hnsw, hnsw_search_seconds
from twinrank.planning.serving import rank_seconds
from twinrank.planning.training import epoch_seconds, steps_of, training_bytes
from twinrank.planning.units import duration, size
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import train

CORE = Machine(cores=1, memory=0.0)
WITHIN = 0.3
SAMPLED, SAMPLED_QUERIES = (10_000, 40_000), 4_000


@dataclass(frozen=True)
class Check:
    """One figure, planned and measured."""

    what: str
    size: str
    planned: float
    measured: float
    unit: str

    @property
    def ratio(self) -> float:
        """Planned over measured."""
        return self.planned / self.measured

    @property
    def ok(self) -> bool:
        """Whether they differ by 30 % at most."""
        return abs(self.ratio - 1) <= WITHIN


def main(
    data: Path,
    constants: Annotated[Path | None, typer.Option(help="Default: the package's.")] = None,
    copies: Annotated[str, typer.Option(help="Sizes, as multiples of DATA.")] = "1,3",
    vectors: Annotated[str, typer.Option(help="Sizes of indexes.")] = "60000,100000",
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print planned, measured, and their ratio."""
    os.environ["OMP_NUM_THREADS"] = "1"
    c = Measured.load(constants)
    checks = encoded(data, c)
    for number in (20, 40):
        checks += stored(data, number, c)
    for number in map(int, copies.split(",")):
        checks += fitted(data, number, c)
    checks += [sampled(number, c) for number in SAMPLED]
    for number in map(int, vectors.split(",")):
        checks += of_index(number, c)
    checks += growths(checks)
    if out:
        rows = [{**asdict(each), "ratio": each.ratio, "ok": each.ok} for each in checks]
        out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    show(checks)


def encoded(data: Path, c: Measured) -> list[Check]:
    """Seconds to encode some texts of each kind."""
    found = []
    for kind, row in apart(_encoded, data).items():
        planned = core_seconds(row["flop"], row["texts"], c)
        what = f"encode, {kind} ({row['tokens']:.0f} tokens)"
        found.append(Check(what, f"{row['texts']} texts", planned, row["seconds"], "s"))
    return found


def _encoded(data: Path) -> Figures:
    torch.set_num_threads(1)
    encoder = Encoder(max_tokens=256)
    shape = Shape.of(encoder.name)
    found = {}
    for kind, texts in samples(Dataset.load(data)).items():
        tokens = float(np.mean([len(ids) for ids in encoder.tokens(texts)]))
        encoder.encode(texts[:AT_ONCE])
        began = time.process_time()
        encoder.encode(texts)
        seconds = time.process_time() - began
        flop = len(texts) * shape.flop(tokens)
        found[kind] = {"texts": len(texts), "tokens": tokens, "flop": flop, "seconds": seconds}
    return found


def stored(data: Path, copies: int, c: Measured) -> list[Check]:
    """What encoding copies of the data holds, and leaves in the store."""
    row = apart(holding, data, copies)
    w: Workload = row["workload"]
    texts = f"{w.texts:,.0f} texts"
    disk = Check("feature store", texts, w.texts * text_bytes(w.width), row["stored"], "B")
    return [disk, Check("encode, peak of memory", texts, encode_bytes(w, c), row["bytes"], "B")]


def fitted(data: Path, copies: int, c: Measured) -> list[Check]:
    """A fit of two epochs, and the ranker it leaves."""
    row = apart(_fitted, data, copies)
    w: Workload = row["workload"]
    epoch, after = epoch_seconds(w, "exact", CORE, c), fuse(w, CORE, c)
    held = training_bytes(w, "exact", c)
    core, _ = rank_seconds(w, CORE, c, indexed=False)
    figures = (
        ("training, an epoch", epoch, row["epoch"], "s"),
        ("fit, all of it", w.epochs * epoch + after.seconds, row["seconds"], "s"),
        ("fit, peak of memory", max(held, after.memory), row["peak"], "B"),
        ("ranking, a query", core, row["rank"], "s"),
    )
    counts = f"{w.answers:,.0f} answers, {w.passages:,.0f} passages, {w.queries:,.0f} queries"
    return [Check(what, counts, *figure) for what, *figure in figures]


def sampled(answers: int, c: Measured) -> Check:
    """An epoch on random features, of a passage an answer, against a sample of the answers."""
    row = apart(steps, answers, answers, SAMPLED_QUERIES, 128, "sampled")
    w = replace(sized(of_steps(128, "sampled"), answers, answers, SAMPLED_QUERIES), validation=0.0)
    epoch = epoch_seconds(w, "sampled", CORE, c)
    measured = row["seconds"] * steps_of(w)
    return Check("training, an epoch by samples", f"{answers:,} answers", epoch, measured, "s")


def _fitted(data: Path, copies: int) -> Figures:
    torch.set_num_threads(1)
    dataset = times(Dataset.load(data), copies, copies)
    recipe = of_steps(128, "exact")
    marks = []

    def on_record(record: Figures) -> None:  # noqa: ARG001
        marks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        store, out = FeatureStore(Path(folder, "features"), batches=made_up), Path(folder, "ranker")
        encode(dataset, recipe, store=store, device="cpu")
        with Anonymous() as memory:
            began = time.process_time()
            train(dataset, recipe, out=out, store=store, on_record=on_record, device="cpu")
            seconds = time.process_time() - began
        asked = dataset.split("test").texts[:AT_ONCE]
        ranker = Ranker.load(out, device="cpu")
        each = timed(lambda: ranker.rank(asked)) / len(asked)
    return {
        "workload": workload_of(recipe, data=dataset),
        "epoch": marks[-1] - marks[-2],
        "seconds": seconds,
        "peak": 1e6 * (memory.peak or 0.0),
        "rank": each,
    }


def of_index(vectors: int, c: Measured) -> list[Check]:
    """FAISS indexes of random vectors, built and searched."""
    row = indexed(vectors)
    w = sized(Recipe.load("even"), vectors, vectors, 1)
    found = []
    plans = {
        "flat": (flat(w, CORE, c), flat_search_seconds(w, c)),
        "hnsw": (hnsw(w, CORE, c), hnsw_search_seconds(w, c)),
    }
    for room, (needs, search) in plans.items():
        measured = row[room]
        figures = (
            ("build", needs.seconds, measured["cpu s"], "s"),
            ("peak of memory", needs.memory - c.process_bytes, 1e6 * measured["build MB"], "B"),
            ("disk", needs.disk, 1e6 * measured["disk MB"], "B"),
            ("a search", search, 1e-3 * measured["p50@200 ms"], "s"),
        )
        found += [
            Check(f"index, {room}, {what}", f"{vectors:,} vectors", *figure)
            for what, *figure in figures
        ]
    return found


def growths(checks: list[Check]) -> list[Check]:
    """By how much memory grows from the first size to the last, whatever a process takes alone."""
    found = []
    for what in dict.fromkeys(each.what for each in checks if each.what.endswith("memory")):
        first, *_, last = [each for each in checks if each.what == what]
        grown = (last.planned - first.planned, last.measured - first.measured)
        found.append(Check(f"{what}, growth", f"to {last.size}", *grown, "B"))
    return found


def show(checks: list[Check]) -> None:
    """The table, and how many are within 30 %."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    within = sum(check.ok for check in checks)
    title = f"{within} of {len(checks)} within {WITHIN:.0%}; load {load}"
    table = Table("", "size", title=title, box=None)
    for name in ("planned", "measured", "ratio", "ok"):
        table.add_column(name, justify="right")
    for check in checks:
        shown = size if check.unit == "B" else duration
        figures = (shown(check.planned), shown(check.measured), f"{check.ratio:.2f}")
        table.add_row(check.what, check.size, *figures, "yes" if check.ok else "no")
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
