"""Retrain a ranker on feedback, and replace it only if no type of query gets worse."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import FeedbackError, RankerError
from twinrank.feedback.acceptance import MARGIN, MIN_HELD_BACK_QUERIES, Compared, find_losses
from twinrank.feedback.labels import LabelCounts, Labels, make_labels
from twinrank.feedback.verdicts import Verdict
from twinrank.files import write_file
from twinrank.ranking import (
    CURRENT,
    LOCAL,
    Learned,
    Ranker,
    place_of,
    read_manifest,
    read_pointer,
    writing,
)
from twinrank.training.train import train

HOLD_BACK = 0.2
RUN, VERDICTS = "run", "verdicts.json"
_VERDICTS = TypeAdapter(tuple[Verdict, ...])

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learning:
    """The outcome of learning from feedback.

    Attributes:
        ranker: the folder.
        counts: what became of the verdicts.
        compared: the old and the new ranker, on a split and on feedback that was held back.
        worse: where the new one is worse; if anywhere, the old one stays.
        notes: remarks on the comparison, a line each.
        replaced: whether the new ranker has replaced the old one.
    """

    ranker: Path
    counts: LabelCounts
    compared: tuple[Compared, ...] = ()
    worse: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    replaced: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "ranker": str(self.ranker),
            "feedback": self.counts.as_dict(),
            "compared": [comparison.as_dict() for comparison in self.compared],
            "worse": list(self.worse),
            "notes": list(self.notes),
            "replaced": self.replaced,
        }


def learn(
    path: Path,
    verdicts: Sequence[Verdict],
    *,
    data: Path | None = None,
    hold_back: float = HOLD_BACK,
    margin: float = MARGIN,
    dry_run: bool = False,
    index: str | None = None,
    store: FeatureStore,
    device: str = "auto",
) -> Learning:
    """Retrain a ranker on its data and on feedback, and replace it unless that is worse.

    Recipe and seed stay. The answers are those that the ranker has when it is replaced, with all
    changes since it was trained. After a kill the same call goes on from the state in the folder
    `NAME.learning` beside the ranker, with the verdicts it began with. `roll_back` undoes it.

    Args:
        path: folder of the ranker.
        verdicts: oldest first.
        data: data set to train and measure on; None takes the ranker's own.
        hold_back: share of the feedback to measure on; see `make_labels`.
        margin: see `find_losses`.
        dry_run: compare, and replace nothing.
        index: an answer index to build before the new ranker takes the place; see `twinrank index`.
        store: features; only texts that are new to it are encoded.
        device: where to compute.

    Raises:
        TwinrankError: if there is nothing to learn from, the ranker or its data cannot be used,
            the index cannot be made, or another ranker takes its place meanwhile; the old one
            stays then.
    """
    _check_arguments(verdicts, hold_back, margin, index)
    old = _load_trained(path, store, device)
    base = Dataset.load(data) if data else old.origin.dataset()
    home = learning_folder(path)
    with writing(home):
        work = _work_folder(home, old, base, hold_back)
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
        if data and base.fingerprint != old.origin.data_fingerprint:
            notes.append(f"the old ranker was trained on other data than {data}")
        worse, tolerated = find_losses(compared, margin=margin)
        too_few = _note_too_few(labels, compared) if hold_back else []
        replaced = not (worse or too_few or dry_run)
        if replaced:
            _replace(path, old, new, index, store, device)
            shutil.rmtree(work)
    notes += tolerated + too_few
    return Learning(path, labels.counts, tuple(compared), tuple(worse), tuple(notes), replaced)


def roll_back(
    path: Path,
    *,
    index: str | None = None,
    store: FeatureStore | None = None,
    device: str = "auto",
) -> Ranker:
    """Put the ranker that was replaced in its place again, and keep the other one in turn.

    It gets the answers that the other has by now: no removed answer comes back.

    Args:
        path: folder of the ranker.
        index: an answer index that is to hold its answers before it takes the place.
        store: features; only texts that are new to it are encoded.
        device: where to compute.

    Raises:
        RankerError: if none was kept.
        AnswerIndexError: if the index cannot be made; nothing is changed then.
    """
    with writing(path):
        local = index if index == LOCAL else None
        former = Ranker.load(path, store=store, device=device, previous=True, index=local)
        current = Ranker.load(path, store=store, device=device)
        former.match_answers(current.answers)
        former.removed = current.removed
        if index:
            former.build_index(index, instead=True)
        former.save(path, keep=True)
    return former


def _check_arguments(
    verdicts: Sequence[Verdict], hold_back: float, margin: float, index: str | None
) -> None:
    for name, value, most in (("hold_back", hold_back, 0.9), ("margin", margin, math.inf)):
        if not 0 <= value <= most:  # nor NaN
            raise FeedbackError(f"{name} is {value:g}; give a number from 0 to {most:g}")
    if index:
        place_of(index)
    if not verdicts:
        raise FeedbackError("there are no verdicts yet; learn when people have judged some answers")


def _load_trained(path: Path, store: FeatureStore, device: str) -> Ranker:
    ranker = Ranker.load(path, store=store, device=device)
    if ranker.recipe.training is None:
        raise RankerError(
            f"{path}: its recipe {ranker.recipe.name} is not trained on labels, so it cannot learn "
            "from feedback; train another, such as `even`"
        )
    return ranker


def _note_too_few(labels: Labels, compared: Sequence[Compared]) -> list[str]:
    """Return a note if too few queries were held back to show a difference."""
    count = labels.held_back.height
    if count >= MIN_HELD_BACK_QUERIES:
        return []
    return [
        f"too few to tell: {count} of the {MIN_HELD_BACK_QUERIES} texts that must be held back to "
        "show a difference; collect more feedback, or --hold-back 0 to go by the "
        f"{compared[0].on} split alone"
    ]


def learning_folder(ranker: Path) -> Path:
    """Return the folder beside a ranker in which its learnings keep their state."""
    return ranker.resolve().with_name(f"{ranker.resolve().name}.learning")


def clear_learnings(ranker: Path, *, dry_run: bool = False, wait: bool = True) -> int:
    """Remove the state of a ranker's unfinished learnings, once none is under way.

    Returns:
        How many there were.

    Raises:
        RankerError: if one is under way, and this is not to wait for it.
    """
    home = learning_folder(ranker)
    if not home.is_dir():
        return 0
    with nullcontext() if dry_run else writing(home, wait=wait):
        works = [folder for folder in home.iterdir() if folder.is_dir()]
        for folder in [] if dry_run else works:
            shutil.rmtree(folder)
    return len(works)


def _work_folder(home: Path, old: Ranker, base: Dataset, hold_back: float) -> Path:
    """Return the state folder of a learning with these inputs, and remove those of others."""
    answers = hashlib.sha256(old.answers.write_ndjson().encode()).hexdigest()
    inputs = [base.fingerprint, answers, old.recipe.values(), old.origin.seed, hold_back]
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
        unfinished = run.exists() and not (run / CURRENT).exists()
        if unfinished and before != now:
            log.warning(
                "%s: going on with %d verdicts; "
                "%d that came since, and %d that were taken back, wait for the next time",
                *(work.parent, len(before), len(now - before), len(before - now)),
            )
        if unfinished or before == now:
            return begun
    if run.exists():
        shutil.rmtree(run)
    write_file(file, _VERDICTS.dump_json(tuple(verdicts)), private=True)
    return verdicts


def _find_learned(path: Path, dataset: Dataset) -> str | None:
    """Return a note if the ranker, or the one it replaced, has learned this very data."""
    notes = {
        False: "the ranker has learned all of this already",
        True: "this was learned, and taken back; --rollback puts it in place again",
    }
    for previous, note in notes.items():
        if previous and not read_pointer(path).previous:
            break
        learned = read_manifest(path, previous=previous).origin.learned
        if learned and learned.fingerprint == dataset.fingerprint:
            return note
    return None


def _set_origin(
    new: Ranker, base: Dataset, dataset: Dataset, counts: LabelCounts, hold_back: float
) -> None:
    """Record the data set as the ranker's origin, and what it learned apart from it."""
    learned = Learned(fingerprint=dataset.fingerprint, queries=counts.learned, hold_back=hold_back)
    folder = str(base.folder.resolve()) if base.folder else None
    update = {"data_fingerprint": base.fingerprint, "folder": folder, "learned": learned}
    new.origin = new.origin.model_copy(update=update)


def _add_labels(base: Dataset, answers: pl.DataFrame, labels: Labels) -> Dataset:
    """Return the data with the ranker's present answers and the learned labels in train.

    An answer that is new since and has no label is not trained on: the ranker gets it as a
    newcomer, which is how it ranks those.

    Raises:
        FeedbackError: if nothing is learned.
    """
    if not labels.counts.learned:
        raise FeedbackError(
            f"{labels.counts.verdicts:,} verdicts hold nothing to learn: {labels.counts}; collect "
            "more, or hold back less of them"
        )
    trained = base.answers["id"].to_list() + labels.learned["answer"].to_list()
    dataset = _select_answers(base, answers.filter(pl.col("id").is_in(trained)))
    added = labels.learned.select(query="id", answer="answer", split=pl.lit("train"))
    return replace(
        dataset,
        queries=pl.concat([dataset.queries, labels.learned.drop("answer").lazy()]),
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
    notes = []
    measured = _select_answers(base, old.answers)
    split = "test" if "test" in measured.labels["split"] else "validation"
    if split == "validation":
        notes.append(
            "the data has no test labels: compared on validation, on which each was chosen"
        )
    gone = len(base.split(split)) - len(measured.split(split))
    if gone:
        notes.append(f"{gone:,} {split} queries are not measured: their answers were removed")
    compared = [Compared.measure(split, old, new, measured, split)]
    if labels.held_back.is_empty():
        notes.append("no feedback was held back to measure on")
        return compared, notes
    rows = labels.held_back
    feedback = replace(
        measured,
        queries=rows.drop("answer").lazy(),
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
