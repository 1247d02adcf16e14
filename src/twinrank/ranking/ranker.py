"""The ranker: what a run leaves to use."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from twinrank.arguments import (
    Answers,
    AnyPath,
    Count,
    Texts,
    check_type,
    count_of,
    path_of,
    texts_of,
)
from twinrank.encoding import Store
from twinrank.errors import (
    ArgumentError,
    NoAnswerIndexError,
    OtherAnswerIndexError,
    RankerError,
)
from twinrank.ranking import folder
from twinrank.ranking.answer_index import (
    MANY_ANSWERS,
    AnswerIndex,
    check_index,
    update_index,
)
from twinrank.ranking.confidence import Confidence
from twinrank.ranking.faiss_index import FaissIndex, kind_for
from twinrank.ranking.index_place import LOCAL, place_of
from twinrank.ranking.manifest import Origin
from twinrank.ranking.milvus_index import MilvusIndex
from twinrank.ranking.passages import Passages
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.removed import Removed
from twinrank.ranking.scoring import Scoring, total
from twinrank.ranking.shortlist import Shortlist, top_k
from twinrank.ranking.signals import DenseSignal
from twinrank.recipe import Recipe


@dataclass(frozen=True)
class RankedAnswer:
    """One answer in a ranking.

    Attributes:
        rank: counts from one.
        id: of the answer.
        title: of the answer.
        score: by which it was ranked.
        parts: what each signal adds to the score, where there are several.
        confidence: the probability that it is right, if the ranker saw a validation split.
    """

    rank: int
    id: str
    title: str
    score: float
    parts: dict[str, float] | None = None
    confidence: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, without what is none."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class Ranker:
    """Ranks answers for what people write.

    Attributes:
        recipe: how it was made.
        answers: id, title, text, url and sections, in the order of the scores' columns.
        scoring: the signals that score them, and their weights.
        origin: what it was trained on, and what it reached there.
        confidence: how likely its first answer is right; none without a validation split.
        shortlist: finds the candidates that `rank` scores; none has it score every answer.
        removed: answers that `restore_answer` can bring back.
    """

    recipe: Recipe
    answers: pl.DataFrame
    scoring: Scoring
    origin: Origin
    confidence: Confidence | None = None
    shortlist: Shortlist | None = None
    removed: tuple[Removed, ...] = ()
    _saved: tuple[Path, dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    @property
    def dense(self) -> DenseSignal | None:
        """The signal that has vectors; None where words alone rank."""
        return self.scoring.dense

    @property
    def past(self) -> PastQueries | None:
        """The past queries that it ranks by, if it has a memory."""
        return self.scoring.past

    @property
    def vectors(self) -> Passages[np.ndarray]:
        """Of the answers' passages (v x d), as an answer index holds them.

        Raises:
            RankerError: if it ranks by words alone.
        """
        if self.dense is None:
            raise RankerError("this ranker goes by words alone: it has no vectors to index")
        return self.dense.vectors

    @property
    def fingerprint(self) -> str:
        """Digest of what was trained (32 hex digits): the same after answers come and go."""
        digest = hashlib.sha256(self.recipe.model_dump_json().encode())
        digest.update(self.origin.data_fingerprint.encode())
        if self.dense:
            digest.update(self.dense.reader.encoder.identity.encode())
            for name, tensor in sorted(self.dense.towers.tensors.items()):
                digest.update(name.encode())
                digest.update(tensor.tobytes())
        return digest.hexdigest()[:32]

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Score every answer (columns, in the order of `answers`) for every text (rows).

        Raises:
            RankerError: if one is not finite.
        """
        return _check_finite(self.scoring.scores(self.scoring.encode(texts)))

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode many texts at once, into the store if there is one, before they are scored."""
        if self.dense and self.dense.reader.store:
            self.dense.reader(texts, progress="Encoding queries")

    def rank(
        self, texts: Texts, k: Count = 10, *, min_confidence: float = 0.0
    ) -> list[list[RankedAnswer]]:
        """Return the k best answers for each text, best first; ties in the order of `answers`.

        Args:
            texts: one text or several.
            k: how many; fewer come back if there are fewer answers.
            min_confidence: a text whose first answer is less likely right gets no answer.

        Raises:
            RankerError: if a text is empty, k is less than one, or a confidence is asked for
                that the ranker never learned, or that is none from 0 to 1.
        """
        texts, k = texts_of(texts), count_of(k, "k")
        if k < 1:
            raise RankerError(f"k is {k}; ask for one answer or more")
        for i, text in enumerate(texts):
            if not text.strip():
                raise RankerError(f"text {i + 1} of {len(texts)} is empty; give it some words")
        if not (isinstance(min_confidence, Real) and 0 <= min_confidence <= 1):  # nor NaN
            raise RankerError(f"min_confidence is {min_confidence!r}; give a number from 0 to 1")
        if min_confidence > 0 and self.confidence is None:
            raise RankerError(
                "this ranker saw no validation split, so that it knows no confidence; "
                "train it on data with one, or leave min_confidence out"
            )
        rankings = self._rank(texts, k) if texts else []
        return [
            [] if min_confidence > 0 and (ranking[0].confidence or 0) < min_confidence else ranking
            for ranking in rankings
        ]

    def _rank(self, texts: list[str], k: int) -> list[list[RankedAnswer]]:
        ids, titles = self.answers["id"], self.answers["title"]
        rankings = []
        queries = self.scoring.encode(texts)
        for rows, signals in self.scoring.score_candidates(queries, k, self.shortlist):
            scores = _check_finite(total(signals))
            best = top_k(scores, k)
            sure = self.confidence.of_each(scores, best).tolist() if self.confidence else None
            several = len(signals) > 1
            rankings.append(
                [
                    RankedAnswer(
                        rank=rank + 1,
                        id=ids[int(rows[j])],
                        title=titles[int(rows[j])],
                        score=float(scores[j]),
                        parts={n: float(s[j]) for n, s in signals.items()} if several else None,
                        confidence=sure[rank] if sure else None,
                    )
                    for rank, j in enumerate(best.tolist())
                ]
            )
        return rankings

    def copy(self) -> Ranker:
        """Return a ranker whose answers can be changed while this one ranks in another thread.

        What neither changes is shared, and so is an index in Milvus: it follows every change at
        once.
        """
        shortlist = copy(self.shortlist)
        if shortlist:
            shortlist.index = copy(shortlist.index)
        return replace(self, shortlist=shortlist)

    def add_answers(self, answers: Answers) -> None:
        """Take answers in without retraining (columns as in `Dataset.answers`).

        Raises:
            ArgumentError: if it is no such frame; `url` and `sections` may be left out.
            RankerError: if an id is already there, or stands twice; nothing is added then.
        """
        answers = self._answers_of(answers)
        known = answers["id"].filter(answers["id"].is_in(self.answers["id"].to_list()))
        if len(known):
            raise RankerError(f"answer {known[0]!r} is already there; put it, or remove it first")
        self.put_answers(answers)

    def put_answers(self, answers: Answers) -> None:
        """Take answers in as `add_answers` does, or in place of those that have their ids.

        What takes another's place keeps the labels of past queries.

        Raises:
            RankerError: if an id stands twice; nothing is changed then.
            AnswerIndexError: if its index cannot follow; the ranker itself has them then.
        """
        answers = self._answers_of(answers)
        if answers.is_empty():
            return
        ids = answers["id"]
        twice = ids.filter(ids.is_duplicated())
        if len(twice):
            raise RankerError(f"answer {twice[0]!r} stands twice; give each once")
        places = {id_: row for row, id_ in enumerate(self.answers["id"])}
        rows = np.array([places.setdefault(id_, len(places)) for id_ in ids], np.int64)
        self._saved = None
        self.scoring = self.scoring.upsert(answers, rows)
        columns = pl.concat([self.answers.filter(~pl.col("id").is_in(ids.implode())), answers])
        order = columns["id"].map_elements(places.__getitem__, pl.Int64).arg_sort()
        self.answers = columns[order]
        if self.shortlist and self.dense:
            self.shortlist.upsert(self.answers["id"].to_list(), ids.to_list(), self.dense.vectors)

    def remove_answers(self, ids: Texts) -> None:
        """Forget an answer, or several, without retraining.

        Raises:
            RankerError: if an id is unknown, or none would be left; nothing is removed then.
            AnswerIndexError: if its index cannot follow; the ranker itself is without them then.
        """
        gone = set(texts_of(ids, "ids"))
        unknown = gone.difference(self.answers["id"])
        if unknown:
            raise RankerError(f"there is no answer {min(unknown)!r}; check the id")
        if len(gone) == self.answers.height:
            raise RankerError("a ranker needs an answer; leave at least one")
        mask = ~self.answers["id"].is_in(list(gone))
        self._saved = None
        self.scoring = self.scoring.select(mask.to_numpy())
        self.answers = self.answers.filter(mask)
        if self.shortlist:
            self.shortlist.remove(self.answers["id"].to_list(), gone)

    def set_aside(self, id_: str) -> None:
        """Forget an answer as `remove_answers` does, but so that it can be restored.

        Raises: see `remove_answers`.
        """
        former = [record for record in self.removed if record.answer["id"] == id_]
        rows = [row for row, known in enumerate(self.answers["id"]) if known == id_]
        records = [self._record(row, former) for row in rows]
        self.remove_answers([id_])
        self.removed = (*(old for old in self.removed if old not in former), *records)

    def _record(self, row: int, former: Sequence[Removed]) -> Removed:
        """Write down what restores an answer; a former one of its id adds its past queries."""
        past, offsets = self.past, self.dense.offsets if self.dense else None
        queries = past.solved_by(row) if past else []
        queries += [text for record in former for text in record.past if text not in queries]
        return Removed(
            at=datetime.now(UTC),
            answer=self.answers.row(row, named=True),
            past=tuple(queries),
            newcomer=bool(past.newcomers[row]) if past else True,
            ranker=self.fingerprint,
            offset=None if offsets is None else tuple(offsets[row].tolist()),
        )

    def restore_answer(self, id_: str) -> None:
        """Bring back an answer that was set aside, with its past queries, as it was.

        In another ranker than that it was removed from, past queries which that one lacks are
        read anew, and it has no offset.

        Raises:
            RankerError: if none was set aside under this id, or another has the id by now.
            AnswerIndexError: if its index cannot follow; the ranker itself has it then.
        """
        removed = next((record for record in self.removed if record.answer["id"] == id_), None)
        if removed is None:
            raise RankerError(f"no answer {id_!r} was set aside; check the id")
        frame = pl.DataFrame([removed.answer], schema=self.answers.schema)
        self.add_answers(frame)
        row = self.answers.height - 1
        dense = self.dense
        if dense and dense.offsets is not None and removed.ranker == self.fingerprint:
            offsets = dense.offsets.copy()
            offsets[row] = removed.offset
            signals = {**self.scoring.signals, "dense": replace(dense, offsets=offsets)}
            self.scoring = replace(self.scoring, signals=signals)
            self.put_answers(frame)  # which keeps the offset
        self.scoring = self.scoring.relabel(row, removed.past, newcomer=removed.newcomer)
        self.removed = tuple(record for record in self.removed if record is not removed)

    def match_answers(self, answers: Answers) -> None:
        """Have these answers and no others: put those that are new or differ, forget the rest.

        Raises:
            RankerError: if an id stands twice, or none would be left.
        """
        answers = self._answers_of(answers)
        known = {row["id"]: row for row in self.answers.iter_rows(named=True)}
        rows = answers.iter_rows(named=True)
        differs = pl.Series([known.get(row["id"]) != row for row in rows], dtype=pl.Boolean)
        if differs.any():
            self.put_answers(answers.filter(differs))
        if gone := set(known).difference(answers["id"]):
            self.remove_answers(gone)

    def _answers_of(self, answers: Answers) -> pl.DataFrame:
        """A caller's answers, with the columns and types of this ranker's."""
        mend = f"give a polars DataFrame with the columns {', '.join(self.answers.columns)}"
        check_type(answers, pl.DataFrame, mend)
        missing = [name for name in ("id", "title", "text") if name not in answers.columns]
        if missing:
            raise ArgumentError(f"the answers have no {missing[0]}; {mend}")
        ids = answers["id"]
        if ids.dtype.is_float() or ids.null_count() or (ids.cast(pl.String) == "").any():
            raise ArgumentError("an answer has no id, or a fraction as one; give each a text")
        try:
            columns = pl.concat(
                [
                    self.answers.clear(),
                    answers.select(
                        pl.col(name).cast(kind)
                        for name, kind in self.answers.schema.items()
                        if name in answers.columns
                    ),
                ],
                how="diagonal",
            )
        except pl.exceptions.PolarsError as error:
            raise ArgumentError(f"the answers: {str(error).splitlines()[0]}; {mend}") from None
        return columns.with_columns(
            pl.col("title", "text").fill_null(""), pl.col("sections").fill_null([])
        )

    def build_index(
        self, to: str, *, fresh: bool = False, instead: bool = False, progress: str | None = None
    ) -> None:
        """Make an answer index hold the vectors of these answers, and rank by it from now on.

        Args:
            to: `local`, which is saved with this ranker, or a Milvus as `twinrank index` names it.
            fresh: make one anew, whatever is there.
            instead: make one also where other rankers' are.
            progress: label of the progress bar; None shows none.

        Raises:
            RankerError: if it ranks by words alone.
            AnswerIndexError: if the index cannot be reached, is another ranker's (unless `fresh`
                or `instead`), or does not give back what was put there.
        """
        index = self.open_index(to, fresh=fresh, instead=instead)
        try:
            update_index(index, self.answers["id"].to_list(), self.vectors, progress)
            self.use_index(index)
        except BaseException:
            index.close()
            raise

    def open_index(self, to: str, *, fresh: bool = False, instead: bool = False) -> AnswerIndex:
        """Open the answer index that is there for this ranker, or make an empty one."""
        rows, dim = self.vectors.rows.shape
        place = place_of(to)
        if place is None:
            index = self.shortlist.index if self.shortlist and not fresh else None
            return index if isinstance(index, FaissIndex) else FaissIndex(dim, kind_for(rows))
        if not fresh:
            try:
                return MilvusIndex.open(place, self.fingerprint)
            except OtherAnswerIndexError:
                if not instead:
                    raise
            except NoAnswerIndexError:
                pass
        return MilvusIndex.create(place, self.fingerprint, dim=dim)

    def use_index(self, index: AnswerIndex) -> int:
        """Check and publish an index of these answers, and rank by it from now on.

        Returns:
            How many vectors were read back.
        """
        ids = self.answers["id"].to_list()
        compared = check_index(index, ids, self.vectors, sample=MANY_ANSWERS)
        index.publish()
        self.shortlist = Shortlist(index, ids)
        return compared

    def save(self, path: AnyPath, *, keep: bool = False) -> None:
        """Write this ranker as the current version of a folder, at once.

        A reader meanwhile gets it or the version before, and a kill leaves one of them.

        Args:
            path: the folder.
            keep: the version that is current now, to go back to: `load` gives it as `previous`.
        """
        path = path_of(path, "path")
        index = self.shortlist and self.shortlist.index
        if index:
            index.save()
        parts = (self.recipe, self.answers, self.scoring, self.origin, self.confidence)
        contents = folder.Contents(*parts, removed=self.removed)
        contents.index = index if isinstance(index, FaissIndex) else None
        folder.save(path, contents, keep=keep)
        if contents.index or not index:  # a Milvus is not known by its place
            self._saved = (path.absolute(), {"index": LOCAL} if contents.index else {})

    @classmethod
    def load(
        cls,
        path: AnyPath,
        *,
        store: Store | None = None,
        device: str = "auto",
        previous: bool = False,
        index: str | None = None,
    ) -> Ranker:
        """Open a ranker folder.

        Args:
            path: the folder.
            store: where features of texts are kept and found; without one each text that is
                ranked is encoded anew.
            device: where the encoder runs: `cpu`, `cuda`, `mps`, or `auto`.
            previous: open the ranker that was kept there when this one took its place.
            index: an answer index to rank by (see `Shortlist`): `local`, which is built in memory
                if the folder has none, or a Milvus, as `twinrank index` names it; without one
                every answer is scored.

        Raises:
            RankerError: if the folder is incomplete or damaged, of another format version, or
                made with another encoder than the one found here; it says what differs.
            AnswerIndexError: if the index cannot be reached, or does not hold just the vectors of
                this ranker's answers.
        """
        path = path_of(path, "path")
        place = place_of(index) if index is not None else None
        local = index is not None and place is None
        contents = folder.load(path, store=store, device=device, previous=previous, index=local)
        parts = (contents.recipe, contents.answers, contents.scoring, contents.origin)
        ranker = cls(*parts, contents.confidence, removed=contents.removed)
        ids = ranker.answers["id"].to_list()
        if contents.index:
            ranker.shortlist = Shortlist(contents.index, ids)
        elif local:
            ranker.build_index(LOCAL)
        elif place:
            opened = MilvusIndex.open(place, ranker.fingerprint)
            check_index(opened, ids, ranker.vectors)
            ranker.shortlist = Shortlist(opened, ids)
        options = {"device": device, "previous": previous, "index": index}
        ranker._saved = (path.absolute(), options)
        return ranker

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as the folder that holds this very ranker.

        Raises:
            RankerError: if none does.
        """
        if self._saved is None:
            raise RankerError(
                "this ranker is in no folder as it is now, so that it cannot be pickled; save it"
            )
        return _reopened, (*self._saved, self.fingerprint)

    def __copy__(self) -> Ranker:
        """Be copied as `copy` does."""
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranker:
        """Be copied as `copy` does."""
        return self.copy()


def _reopened(path: Path, options: dict[str, Any], fingerprint: str) -> Ranker:
    ranker = Ranker.load(path, **options)
    if ranker.fingerprint != fingerprint:
        raise RankerError(f"{path}: another ranker took the place of the one that was pickled")
    return ranker


def _check_finite(scores: np.ndarray) -> np.ndarray:
    """Return scores, or refuse them if one is not finite: nothing could be ranked by it."""
    if not np.isfinite(scores).all():
        raise RankerError("this ranker gives scores that are not finite; train it anew")
    return scores
