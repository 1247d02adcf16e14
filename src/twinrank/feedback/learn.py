"""A ranker that learns from what people said of it, and takes its own place if it is not worse."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import polars as pl

from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import FeedbackError, RankerError
from twinrank.feedback.begun import RUN, begun_with, folder_of, home_of
from twinrank.feedback.gate import FEWEST, MARGIN, Compared, lower_within, worse
from twinrank.feedback.labels import Counts, Lessons, lessons
from twinrank.feedback.verdicts import Verdict
from twinrank.ranking import Ranker, place_of, read_manifest, read_pointer, writing
from twinrank.ranking.index_place import LOCAL
from twinrank.ranking.manifest import Learned
from twinrank.training.train import fit

HOLD_BACK = 0.2


class Where(TypedDict):
    """Where features are kept, and where to compute."""

    store: FeatureStore
    device: str


@dataclass(frozen=True)
class Learning:
    """What came of learning from feedback.

    Attributes:
        ranker: the folder.
        counts: what became of the verdicts.
        compared: the old and the new ranker, on a split and on feedback that was held back.
        worse: where the new one is worse; if anywhere, the old one stays.
        notes: what else is to be known of the comparison, a line each.
        replaced: whether the new ranker has taken the old one's place.
    """

    ranker: Path
    counts: Counts
    compared: tuple[Compared, ...]
    worse: tuple[str, ...]
    notes: tuple[str, ...]
    replaced: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "ranker": str(self.ranker),
            "feedback": self.counts.as_dict(),
            "compared": [each.as_dict() for each in self.compared],
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
    """Train a ranker anew on its data and on feedback, and put it in its own place if it may.

    The recipe and the seed stay. Answers are those that the ranker has when it is replaced, also
    where they were added, changed or removed after it was trained. What is done is kept in a
    folder beside the ranker, `NAME.learning`: after a kill, the same call goes on from there,
    with the verdicts it had begun with. The old ranker is kept; see `roll_back`.

    Args:
        path: folder of the ranker.
        verdicts: oldest first.
        data: what to train and measure on; none takes what the ranker was trained on.
        hold_back: share of the feedback to measure on; see `lessons`.
        margin: see `worse`.
        dry_run: compare, and replace nothing.
        index: an answer index, as `twinrank index` names places, that is to hold the new
            ranker's answers before it takes the place; the old one's stay beside them.
        store: features; only texts that are new to it are encoded.
        device: where to compute.

    Raises:
        FeedbackError: if there is nothing to learn from.
        RankerError: if it is no ranker, its recipe learns nothing, its data is gone, or another
            ranker takes its place meanwhile.
        DataError: if the data lacks a split that the recipe needs.
        AnswerIndexError: if the index cannot be made; the old ranker stays.
    """
    for name, value, most in (("hold_back", hold_back, 0.9), ("margin", margin, math.inf)):
        if not 0 <= value <= most:  # nor NaN
            raise FeedbackError(f"{name} is {value:g}; give a number from 0 to {most:g}")
    if index:
        place_of(index)  # now, not when all is trained
    if not verdicts:
        raise FeedbackError("there are no verdicts yet; learn when people have judged some answers")
    where: Where = {"store": store, "device": device}
    old = Ranker.load(path, **where)
    if old.recipe.training is None:
        raise RankerError(
            f"{path}: its recipe {old.recipe.name} is not trained on labels, so it cannot learn "
            "from feedback; train another, such as `even`"
        )
    base = Dataset.load(data) if data else old.origin.dataset()
    home = home_of(path)
    with writing(home):
        work = folder_of(home, old, base, hold_back)
        verdicts = begun_with(work, verdicts)
        taught = lessons(verdicts, base, old.answers["id"].to_list(), hold_back=hold_back)
        dataset = _with_lessons(base, old.answers, taught)
        if note := _learned_before(path, dataset):
            return Learning(path, taught.counts, (), (), (note,), replaced=False)
        new = fit(dataset, old.recipe, seed=old.origin.seed, out=work / RUN, **where)
        _say_origin(new, base, dataset, taught.counts, hold_back)
        new.match_answers(old.answers)
        compared, notes = _compared(old, new, base, taught)
        if data and base.fingerprint != old.origin.data_fingerprint:
            notes.append(f"the old ranker was trained on other data than {data}")
        reasons = worse(compared, margin=margin)
        notes += lower_within(compared, margin=margin)
        few = hold_back > 0 and taught.held_back.height < FEWEST
        if few:
            notes.append(
                f"too few to tell: {taught.held_back.height} of the {FEWEST} texts that must be "
                "held back to show a difference; collect more feedback, or --hold-back 0 to go by "
                f"the {compared[0].on} split alone"
            )
        replaced = not (reasons or few or dry_run)
        if replaced:
            _replace(path, old, new, index, where)
            shutil.rmtree(work)
    told = (taught.counts, tuple(compared), tuple(reasons), tuple(notes))
    return Learning(path, *told, replaced)


def roll_back(
    path: Path,
    *,
    index: str | None = None,
    store: FeatureStore | None = None,
    device: str = "auto",
) -> Ranker:
    """Put the ranker that was replaced in its place again; the other is kept in turn.

    It is given the answers that the other has by now: what was removed does not come back.

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
        now = Ranker.load(path, store=store, device=device)
        former.match_answers(now.answers)
        former.removed = now.removed
        if index:
            former.build_index(index, instead=True)
        former.save(path, keep=True)
    return former


def _learned_before(path: Path, dataset: Dataset) -> str | None:
    """That the ranker, or the one it replaced, learned this very data; none if neither did."""
    for previous, said in (
        (False, "the ranker has learned all of this already"),
        (True, "this was learned, and taken back; --rollback puts it in place again"),
    ):
        if previous and not read_pointer(path).previous:
            break
        learned = read_manifest(path, previous=previous).origin.learned
        if learned and learned.fingerprint == dataset.fingerprint:
            return said
    return None


def _say_origin(
    new: Ranker, base: Dataset, dataset: Dataset, counts: Counts, hold_back: float
) -> None:
    """Its data is the data set, and what it learned is told apart."""
    learned = Learned(fingerprint=dataset.fingerprint, queries=counts.learned, hold_back=hold_back)
    folder = str(base.folder.resolve()) if base.folder else None
    update = {"data_fingerprint": base.fingerprint, "folder": folder, "learned": learned}
    new.origin = new.origin.model_copy(update=update)


def _with_lessons(base: Dataset, answers: pl.DataFrame, taught: Lessons) -> Dataset:
    """The data, its answers as the ranker has them now, with what was learned in train.

    An answer that is new since and has no label is not trained on: the ranker will have it as a
    newcomer, which is how it ranks those.

    Raises:
        FeedbackError: if nothing was learned.
    """
    counts = taught.counts
    if not counts.learned:
        raise FeedbackError(
            f"{counts.verdicts:,} verdicts hold nothing to learn: {counts}; collect more, or hold "
            "back less of them"
        )
    trained = base.answers["id"].to_list() + taught.learned["answer"].to_list()
    known = answers.filter(pl.col("id").is_in(trained))
    labels = taught.learned.select(query="id", answer="answer", split=pl.lit("train"))
    queries = taught.learned.drop("answer").lazy()
    dataset = _among(base, known)
    return replace(
        dataset,
        queries=pl.concat([dataset.queries, queries]),
        labels=pl.concat([dataset.labels, labels]),
        folder=None,
    )


def _among(base: Dataset, answers: pl.DataFrame) -> Dataset:
    """The data with other answers, and the labels that are among them."""
    labels = base.labels.filter(pl.col("answer").is_in(answers["id"].implode()))
    return replace(base, answers=answers.select(base.answers.columns), labels=labels)


def _compared(
    old: Ranker, new: Ranker, base: Dataset, taught: Lessons
) -> tuple[list[Compared], list[str]]:
    """Both rankers on a split of the data, and on the feedback that was held back."""
    notes = []
    measured = _among(base, old.answers)
    split = "test" if "test" in measured.labels["split"] else "validation"
    if split == "validation":
        notes.append(
            "the data has no test labels: compared on validation, on which each was chosen"
        )
    gone = len(base.split(split)) - len(measured.split(split))
    if gone:
        notes.append(f"{gone:,} {split} queries are not measured: their answers were removed")
    compared = [Compared.of(split, old, new, measured, split)]
    if taught.held_back.is_empty():
        notes.append("no feedback was held back to measure on")
    else:
        rows = taught.held_back
        labels = rows.select(query="id", answer="answer", split=pl.lit("test"))
        held = replace(measured, queries=rows.drop("answer").lazy(), labels=labels)
        compared.append(Compared.of("feedback", old, new, held, "test"))
        before, now = old.origin.learned, new.origin.learned
        if before and now and before.hold_back < now.hold_back:
            notes.append("the old ranker learned from some of the feedback that is held back now")
    return compared, notes


def _replace(path: Path, old: Ranker, new: Ranker, index: str | None, where: Where) -> None:
    """Put the new ranker in the old one's place, with the answers that are there by now."""
    if index:  # outside: a service that changes an answer would wait for it
        new.build_index(index, instead=True, progress="Indexing")
    with writing(path):
        now = Ranker.load(path, **where)
        if (now.recipe, now.origin) != (old.recipe, old.origin):
            raise RankerError(f"{path}: another ranker took its place meanwhile; learn again")
        if not now.answers.equals(new.answers):
            new.match_answers(now.answers)  # and its index follows
        new.removed = now.removed
        new.save(path, keep=True)
