"""What the death of a machine costs: a node killed at a random moment of encode, train and sweep.

A Ray cluster of two nodes with a core each does each job, first twice undisturbed, then so often
while one node is killed -9, with all its workers, at a moment drawn evenly from the time that the
job took. The second node comes back for the next turn, and not before. It prints how many jobs
finished, what of them was lost (texts, epochs, trials), how many came to what the undisturbed one
came to, and how much longer they took, which holds that one core is left of two. It needs two idle
cores: where others take them, Ray gives nodes up that were not killed. Run it as

    python benchmarks/kills.py DATA [--times 5] [--jobs encode,train,sweep] [--out FILE]
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import nodes
from twinrank.cluster import Crew, calls_on_cluster, encoded_on_cluster
from twinrank.data import Dataset
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import TwinrankError
from twinrank.experiments.sweep import Ranges, Search, sweep
from twinrank.ranking import encoder_of
from twinrank.recipe import Recipe
from twinrank.training import Record, fit

TRIALS = 8
CLOSE = 1e-4  # float error of two processes that add up what one does
WIDE = "[training]\nlearning_rate = { low = 1e-5, high = 1e-2, log = true }\n"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """What a job came to.

    Attributes:
        parts: how many texts, epochs or trials it has done, each counted once.
        result: names and values.
    """

    parts: int
    result: dict[str, np.ndarray]


@dataclass
class Tally:
    """What became of one job, over all kills.

    Attributes:
        job: its name.
        undisturbed_s: seconds without a kill, the mean of two.
        kills: nodes killed before the job ended.
        finished: jobs that ended all the same.
        lost: texts, epochs or trials that the undisturbed job has and these have not.
        identical: jobs with the undisturbed one's result, within float error.
        extra_s: how much longer each took.
        errors: what the others said.
    """

    job: str
    undisturbed_s: float
    kills: int = 0
    finished: int = 0
    lost: int = 0
    identical: int = 0
    extra_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def count(self, expected: Done, done: Done, seconds: float) -> None:
        """Add a job that ended, in so many seconds."""
        self.finished += 1
        self.lost += expected.parts - done.parts
        self.identical += is_same(expected, done)
        self.extra_s.append(seconds - self.undisturbed_s)


Job = Callable[[Path], Done]


def main(
    data: Path,
    times: Annotated[int, typer.Option(min=1, help="Kills in each job.")] = 5,
    jobs: Annotated[
        str, typer.Option(help="Which of encode, train, sweep.")
    ] = "encode,train,sweep",
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the tally there as JSON.")] = None,
) -> None:
    """Print what kills cost."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("twinrank").setLevel(logging.INFO)
    log.setLevel(logging.INFO)
    moments = random.Random(seed)  # noqa: S311 (no secret)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ["TWINRANK_CACHE"] = str(home / "cache")  # which workers have too
        chosen = {job: made for job, made in made_of(Dataset.load(data)).items() if job in jobs}
        with nodes.one_node() as cluster:
            tallies = [
                tallied(job, made, home / job, cluster, times, moments)
                for job, made in chosen.items()
            ]
    show(tallies)
    if out:
        out.write_text(json.dumps([asdict(one) for one in tallies], indent=2) + "\n")


def made_of(dataset: Dataset) -> dict[str, Job]:
    """The jobs, on some data; the features that the last two read are there already."""
    recipe = Recipe.load("residual")
    chosen = encoder_of(recipe, "cpu")
    # In fp32, what a text is batched with makes no difference beyond float error.
    encoder = Encoder(chosen.name, max_tokens=chosen.max_tokens, precision="fp32", device="cpu")
    queries = dataset.queries.collect()["text"]
    texts = sorted({*dataset.answer_texts(), *queries})
    FeatureStore().features(chosen, texts, "mean", progress="Encoding, for all jobs")
    return {
        "encode": partial(encode, encoder, texts),
        "train": partial(train, dataset, recipe),
        "sweep": partial(search, dataset, recipe),
    }


def encode(encoder: Encoder, texts: list[str], home: Path) -> Done:
    """Encode all texts into an empty store."""
    store = FeatureStore(home, batches=partial(encoded_on_cluster, device="cpu"))
    features = store.features(encoder, texts, "mean")
    return Done(store.held(encoder), {"features": np.asarray(features)})


def train(dataset: Dataset, recipe: Recipe, home: Path) -> Done:
    """Fit towers in a team of three: this process, and one on each node, so that one is killed."""
    epochs: list[int] = []

    def on_record(record: Record) -> None:
        epochs.append(record["epoch"])

    ranker = fit(
        dataset,
        recipe,
        out=home,
        store=FeatureStore(),
        device="cpu",
        on_record=on_record,
        together=Crew(3),
    )
    assert ranker.dense  # noqa: S101 (the recipe has towers alone)
    return Done(len(set(epochs)), dict(ranker.dense.towers.tensors))


def search(dataset: Dataset, recipe: Recipe, home: Path) -> Done:
    """Carry out the trials of a sweep."""
    home.mkdir(parents=True)
    ranges = home / "wide.toml"
    ranges.write_text(WIDE)
    found = sweep(
        Search(dataset, recipe, Ranges.load(ranges, recipe)),
        trials=TRIALS,
        out=home,
        store=FeatureStore(),
        device="cpu",
        calls=calls_on_cluster,
    )
    tried = sorted(trial.params["training.learning_rate"] for trial in found.trials)
    best = [found.trials[0].params["training.learning_rate"], found.trials[0].value]
    return Done(len(found.trials), {"tried": np.array(tried), "best": np.array(best)})


def tallied(
    name: str,
    job: Job,
    home: Path,
    cluster: Any,  # noqa: ANN401 (Ray's)
    times: int,
    moments: random.Random,
) -> Tally:
    """Have a job done undisturbed, and then as often as asked with a kill in it."""
    with nodes.second_node(cluster):
        quiet = [timed(job, home / f"quiet-{turn}") for turn in range(2)]
    expected = quiet[0][0]
    tally = Tally(name, statistics.mean(seconds for _, seconds in quiet))
    turn = 0
    while tally.kills < times:
        turn += 1
        with nodes.second_node(cluster) as kill:
            after_s = moments.uniform(0, tally.undisturbed_s)
            killer = threading.Timer(after_s, kill)
            killer.start()
            try:
                done, seconds = timed(job, home / f"killed-{turn}")
            except TwinrankError as error:
                tally.kills += 1
                tally.errors.append(f"{error}")
                continue
            finally:
                killer.cancel()
                killer.join()
        if seconds < after_s:  # it ended before
            continue
        tally.kills += 1
        tally.count(expected, done, seconds)
        log.info("%s: killed after %.1f s, done after %.1f s", name, after_s, seconds)
    return tally


def timed(job: Job, home: Path) -> tuple[Done, float]:
    """What a job came to, and its seconds."""
    began = time.perf_counter()
    done = job(home)
    return done, time.perf_counter() - began


def is_same(one: Done, other: Done) -> bool:
    """Whether two jobs came to the same, within float error."""
    return one.result.keys() == other.result.keys() and all(
        value.shape == other.result[name].shape
        and np.allclose(value, other.result[name], atol=CLOSE, rtol=10 * CLOSE)
        for name, value in one.result.items()
    )


def show(tallies: list[Tally]) -> None:
    """The table."""
    table = Table("job")
    for column in ("undisturbed", "kills", "finished", "lost", "same", "extra", "at most"):
        table.add_column(column, justify="right")
    for one in tallies:
        counts = (one.kills, one.finished, one.lost, one.identical)
        extra = (statistics.median(one.extra_s), max(one.extra_s)) if one.extra_s else ()
        figures = [f"{seconds:.1f} s" for seconds in extra]
        table.add_row(one.job, f"{one.undisturbed_s:.1f} s", *map(str, counts), *figures)
    Console().print(table)
    for one in tallies:
        for error in one.errors:
            Console().print(f"{one.job}: {error}")


if __name__ == "__main__":
    typer.run(main)
