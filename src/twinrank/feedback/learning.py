"""Retrain a ranker on feedback, and replace it only if no type of query gets worse."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from twinrank.data.dataset import Dataset
from twinrank.data.validation import NO_METADATA
from twinrank.encoding.feature_store import FeatureStore
from twinrank.errors import FeedbackError, RankerError
from twinrank.evaluation import Difference, Evaluation, differences, evaluate
from twinrank.feedback.forget import learning_folder
from twinrank.feedback.labels import HOLD_BACK, Labels, describe_counts, make_labels
from twinrank.feedback.verdicts import Verdict
from twinrank.files import write_file
from twinrank.ranking import (
    CURRENT,
    Learned,
    Ranker,
    place_of,
    read_manifest,
    read_pointer,
    writing,
)
from twinrank.training.train import train

METRIC = "map@10"
COMPARED_METRICS = ("accuracy@3", METRIC)
SIGNIFICANCE_LEVEL = 0.05  # of the paired test
MIN_HELD_BACK_QUERIES = 6  # of fewer, no paired test can reach the level
MARGIN = 0.02  # MAP@10: about twice what a type's figure moves from seed to seed
RUN, VERDICTS = "run", "verdicts.json"
_VERDICTS = TypeAdapter(tuple[Verdict, ...])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """Two rankers on the same queries: `test`, `validation`, or `feedback` that was held back.

    The differences are new minus old, overall and by type, for each of `COMPARED_METRICS`.
    """

    on: str
    old: Evaluation
    new: Evaluation
    differences: tuple[Difference, ...]

    @classmethod
    def measure(cls, on: str, old: Ranker, new: Ranker, dataset: Dataset, split: str) -> Compared:
        """Measure both rankers on a split."""
        before, after = (evaluate(ranker, dataset, split=split) for ranker in (old, new))
        return cls(on, before, after, tuple(differences(after, before, COMPARED_METRICS)))

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "on": self.on,
            "old": self.old.as_dict(),
            "new": self.new.as_dict(),
            "differences": [difference.as_dict() for difference in self.differences],
        }


@dataclass(frozen=True)
class Learning:
    """The outcome of learning from feedback; where the new ranker is `worse`, the old one stays."""

    ranker: Path
    counts: dict[str, int]  # see `Labels`
    compared: tuple[Compared, ...] = ()
    worse: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    replaced: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ranker": str(self.ranker),
            "feedback": self.counts,
            "compared": [comparison.as_dict() for comparison in self.compared],
            "worse": list(self.worse),
            "notes": list(self.notes),
            "replaced": self.replaced,
        }


def learn(
    path: Path,
    verdicts: Sequence[Verdict],
    *,
    data: Path | None = None,  # to train and measure on; None: the ranker's own
    hold_back: float = HOLD_BACK,
    margin: float = MARGIN,
    dry_run: bool = False,
    index: str | None = None,  # built before the new ranker takes the place
    store: FeatureStore,
    device: str = "auto",
) -> Learning:
    """Retrain a ranker on its data and on feedback, and replace it unless that is worse.

    Recipe and seed stay. The answers are those that the ranker has when it is replaced, with all
    changes since it was trained. After a kill the same call goes on from the state in the folder
    `NAME.learning` beside the ranker, with the verdicts it began with. `roll_back` undoes it.

    Verdicts come oldest first; for `hold_back` see `make_labels`, for `margin` `find_losses`.

    Raises:
        TwinrankError: if there is nothing to learn from, something cannot be used, or another
            ranker takes its place meanwhile; the old one stays then.
    """
    if not (0 <= hold_back <= 1 and margin >= 0):  # nor NaN, by which any ranker would pass
        raise FeedbackError(f"hold back {hold_back:g}, margin {margin:g}: give a number from 0 on")
    if not verdicts:
        raise FeedbackError("there are no verdicts yet; learn when people have judged some answers")
    if index:
        place_of(index)  # refuse it before training
    old = _load_trained(path, store, device)
    base = Dataset.load(data) if data else old.origin.dataset()
    with writing(learning_folder(path)):
        work = _work_folder(path, old, base, hold_back)
        verdicts = _resume_verdicts(work, verdicts)
        labels = make_labels(verdicts, base, old.answers["id"].to_list(), hold_back=hold_back)
        dataset = _add_labels(base, old.answers, labels)
        if note := _find_learned(path, dataset):
            return Learning(path, labels.counts, notes=(note,))
        seed = old.origin.seed
        new = train(dataset, old.recipe, seed=seed, out=work / RUN, store=store, device=device)
        _set_origin(new, base, dataset, labels.counts, hold_back)
        new.match_answers(old.answers)
        compared, notes = _compare(old, new, base, labels)
        worse, tolerated = find_losses(compared, margin=margin)
        notes += tolerated
        has_test = any(comparison.on == "test" for comparison in compared)
        is_held_back = hold_back > 0 or not has_test
        if too_few := is_held_back and labels.held_back.height < MIN_HELD_BACK_QUERIES:
            choice = ", or --hold-back 0 to go by the test split alone" if has_test else ""
            notes.append(
                f"too few to tell: {labels.held_back.height} of the {MIN_HELD_BACK_QUERIES} texts "
                f"that must be held back to show a difference; collect more feedback{choice}"
            )
        if replaced := not (worse or too_few or dry_run):
            _replace(path, old, new, index, store, device)
            shutil.rmtree(work)
    return Learning(path, labels.counts, tuple(compared), tuple(worse), tuple(notes), replaced)


def find_losses(
    compared: Sequence[Compared], *, margin: float = MARGIN
) -> tuple[list[str], list[str]]:
    """Find the types of query for which the new ranker's MAP@10 is lower.

    It is worse if the difference is significant by the paired permutation test at a level of .05,
    uncorrected (a correction would make it easier to pass), or larger than the margin.

    Returns:
        A line for each loss by which the new ranker is worse, and for each that is tolerated.
    """
    worse, tolerated = [], []
    for comparison in compared:
        for difference in comparison.differences:
            kind = difference.kind
            if difference.metric != METRIC or kind is None or difference.mean >= 0:
                continue
            queries = comparison.new.counts["types"][kind]
            few = ", too few to tell it from chance" if queries < MIN_HELD_BACK_QUERIES else ""
            evidence = f"({queries:,} queries{few}; p = {difference.p:.3f})"
            loss = f"MAP@10 of {kind} on {comparison.on} is lower by {-difference.mean:.3f}"
            if difference.p < SIGNIFICANCE_LEVEL:
                worse.append(f"{loss}, which is significant {evidence}")
            elif difference.mean < -margin:
                worse.append(f"{loss}, more than the margin of {margin:g} {evidence}")
            else:
                tolerated.append(
                    f"{loss}, within the margin of {margin:g} and not significantly {evidence}"
                )
    return worse, tolerated


def _load_trained(path: Path, store: FeatureStore, device: str) -> Ranker:
    ranker = Ranker.load(path, store=store, device=device)
    if ranker.recipe.training is None:
        raise RankerError(
            f"{path}: its recipe {ranker.recipe.name} is not trained on labels, so it cannot learn "
            "from feedback; train another, such as `even`"
        )
    return ranker


def _work_folder(path: Path, old: Ranker, base: Dataset, hold_back: float) -> Path:
    """Return the state folder of a learning with these inputs, and remove those of others."""
    answers = hashlib.sha256(old.answers.write_ndjson().encode()).hexdigest()
    inputs = [base.fingerprint, answers, old.recipe.values(), old.origin.seed, hold_back]
    home = learning_folder(path)
    work = home / hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]
    for folder in home.iterdir():
        if folder.is_dir() and folder != work:
            shutil.rmtree(folder)
    work.mkdir(exist_ok=True)
    return work


def _resume_verdicts(work: Path, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Return the verdicts of an unfinished training, or store the given ones for it.

    Else a service that goes on collecting would make every killed training start over.
    """
    file, run = work / VERDICTS, work / RUN
    if file.exists():
        begun = _VERDICTS.validate_json(file.read_bytes())
        before, now = ({verdict.key for verdict in group} for group in (begun, verdicts))
        if before == now:
            return begun
        if run.exists() and not (run / CURRENT).exists():
            log.warning(
                "%s: going on with %d verdicts; "
                "%d that came since, and %d that were taken back, wait for the next time",
                *(work.parent, len(before), len(now - before), len(before - now)),
            )
            return begun
    shutil.rmtree(run, ignore_errors=True)
    write_file(file, _VERDICTS.dump_json(tuple(verdicts)), private=True)
    return verdicts


def _find_learned(path: Path, dataset: Dataset) -> str | None:
    """Return a note if the ranker, or the one it replaced, has learned this very data."""
    notes = {False: "the ranker has learned all of this already"}
    if read_pointer(path).previous:
        notes[True] = "this was learned, and taken back; --rollback puts it in place again"
    for previous, note in notes.items():
        learned = read_manifest(path, previous=previous).origin.learned
        if learned and learned.fingerprint == dataset.fingerprint:
            return note
    return None


def _set_origin(
    new: Ranker, base: Dataset, dataset: Dataset, counts: dict[str, int], hold_back: float
) -> None:
    """Record the data set as the ranker's origin, and what it learned apart from it."""
    learned = Learned(
        fingerprint=dataset.fingerprint,
        queries=counts["learned"],
        hold_back=hold_back,
        on=datetime.now(UTC).date(),
    )
    folder = str(base.folder.resolve()) if base.folder else None
    update = {"data_fingerprint": base.fingerprint, "folder": folder, "learned": learned}
    new.origin = new.origin.model_copy(update=update)


def _add_labels(base: Dataset, answers: pl.DataFrame, labels: Labels) -> Dataset:
    """Return the data with the ranker's present answers and the learned labels in train.

    An answer that is new since and has no label is not trained on: the ranker ranks newcomers.
    """
    if not labels.counts["learned"]:
        raise FeedbackError(
            f"{labels.counts['verdicts']:,} verdicts hold nothing to learn: "
            f"{describe_counts(labels.counts)}; collect more, or hold back less of them"
        )
    trained = base.answers["id"].to_list() + labels.learned["answer"].to_list()
    dataset = _select_answers(base, answers.filter(pl.col("id").is_in(trained)))
    added = labels.learned.select(query="id", answer="answer", split=pl.lit("train"))
    queries = labels.learned.drop("answer").with_columns(metadata=pl.lit(NO_METADATA))
    return replace(
        dataset,
        queries=pl.concat([dataset.queries, queries]),
        labels=pl.concat([dataset.labels, added]),
        folder=None,
    )


def _select_answers(base: Dataset, answers: pl.DataFrame) -> Dataset:
    """Return the data with other answers, and those of its labels that are among them."""
    labels = base.labels.filter(pl.col("answer").is_in(answers["id"].implode()))
    return replace(base, answers=answers.select(base.answers.columns), labels=labels)


def _compare(
    old: Ranker, new: Ranker, base: Dataset, labels: Labels
) -> tuple[list[Compared], list[str]]:
    """Compare both rankers on a split of the data and on the feedback that was held back."""
    notes, compared = list[str](), list[Compared]()
    if base.fingerprint != old.origin.data_fingerprint:
        notes.append(f"the old ranker was trained on other data than {base.folder}")
    measured = _select_answers(base, old.answers)
    if "test" in measured.labels["split"]:
        gone = len(base.split("test")) - len(measured.split("test"))
        if gone:
            notes.append(f"{gone:,} test queries are not measured: their answers were removed")
        compared.append(Compared.measure("test", old, new, measured, "test"))
    else:
        notes.append("the data has no test labels: compared on feedback alone")
    if labels.held_back.is_empty():
        notes.append("no feedback was held back to measure on")
        return compared, notes
    rows = labels.held_back
    feedback = replace(
        measured,
        queries=rows.drop("answer"),
        labels=rows.select(query="id", answer="answer", split=pl.lit("test")),
    )
    compared.append(Compared.measure("feedback", old, new, feedback, "test"))
    before, now = old.origin.learned, new.origin.learned
    if before and now and before.hold_back < now.hold_back:
        notes.append("the old ranker learned from some of the feedback that is held back now")
    return compared, notes


def _replace(
    path: Path, old: Ranker, new: Ranker, index: str | None, store: FeatureStore, device: str
) -> None:
    """Put the new ranker in the old one's place, with the answers that are there by now."""
    if index:  # before the lock: a service that changes an answer would wait for it
        new.build_index(index, instead=True, progress="Indexing")
    with writing(path):
        current = Ranker.load(path, store=store, device=device)
        if (current.recipe, current.origin) != (old.recipe, old.origin):
            raise RankerError(f"{path}: another ranker took its place meanwhile; learn again")
        if not current.answers.equals(new.answers):
            new.match_answers(current.answers)  # and its index follows
        new.removed = current.removed
        new.save(path, keep=True)
