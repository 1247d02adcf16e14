"""The ranker: what a run leaves to use."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from twinrank.arguments import ASK_BELOW, AnyPath, Texts, check_type, path_of, texts_of
from twinrank.data.validation import NO_METADATA
from twinrank.encoding import Store
from twinrank.errors import (
    ArgumentError,
    NoAnswerIndexError,
    OtherAnswerIndexError,
    RankerError,
    first_line,
)
from twinrank.ranking import folder
from twinrank.ranking.answer_index import (
    LOCAL,
    AnswerIndex,
    MilvusPlace,
    PostgresPlace,
    Shortlist,
    answer_keys,
    check_index,
    place_of,
    top_k,
    update_index,
)
from twinrank.ranking.clarification import CANDIDATES, Option, choose_options, find_terms
from twinrank.ranking.faiss_index import FaissIndex, kind_for
from twinrank.ranking.filters import AnswerFields, Filter, Where
from twinrank.ranking.manifest import INDEX, Contents, Removed
from twinrank.ranking.milvus_index import MilvusIndex
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.pgvector_index import PgvectorIndex
from twinrank.ranking.reader import Passages
from twinrank.ranking.rules import RULES, Pin, Rules
from twinrank.ranking.scoring import Scoring, total
from twinrank.ranking.signals import DenseSignal
from twinrank.ranking.storage import download, read_manifest, read_pointer, writing

MAX_WORDS = 3  # that are shown as reasons

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankedAnswer:
    """One answer in a ranking; the first has rank 1.

    Attributes:
        parts: of the score, by signal, where there are several.
        confidence: the probability that it is right, if the ranker saw a validation split; 1 if
            it is pinned.
        pinned: words of the pin that puts it first, see `Rules`; None where none does.
    """

    rank: int
    id: str
    title: str
    score: float
    parts: dict[str, float] | None = None
    confidence: float | None = None
    pinned: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without what is none."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class Ranker(Contents):
    """Ranks answers for what people write; see `Contents` for its parts.

    `shortlist` finds the candidates that `rank` scores; without one it scores every answer.
    `rules` are read from the folder, and not written to it: they are their author's.
    """

    shortlist: Shortlist | None = None
    rules: Rules = field(default_factory=Rules)
    _fields: tuple[pl.DataFrame, AnswerFields] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def fields(self) -> AnswerFields:
        """The metadata of the answers, by which they can be filtered."""
        if self._fields is None or self._fields[0] is not self.answers:
            self._fields = self.answers, AnswerFields(self.answers["metadata"])
        return self._fields[1]

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
        """Of the answers' passages (v x d), as an answer index holds them."""
        if self.dense is None:
            raise RankerError("this ranker goes by words alone: it has no vectors to index")
        return self.dense.vectors

    @property
    def fingerprint(self) -> str:
        """Digest of what was trained (32 hex digits): the same after answers come and go."""
        folders = {"name", "others"}  # wherever they lie
        recipe = self.recipe.model_dump_json(exclude={"encoder": folders})
        digest = hashlib.sha256(recipe.encode())
        digest.update(self.origin.data_fingerprint.encode())
        if self.dense:
            digest.update(self.dense.reader.identity.encode())
            for name, tensor in sorted(self.dense.towers.tensors.items()):
                digest.update(name.encode())
                digest.update(tensor.tobytes())
        return digest.hexdigest()[:32]

    def scores(self, texts: Sequence[str], *, with_rules: bool = False) -> Float[np.ndarray, "n m"]:
        """Score every answer (columns, in the order of `answers`) for every text (rows).

        That is by what was trained alone; `with_rules` a pinned answer has the highest score.
        """
        read = self.rules.expand(texts) if with_rules else texts
        scores = _check_finite(self.scoring.scores(self.scoring.encode(read)))
        for i, text in enumerate(texts if with_rules else ()):
            _, row = self._find_pin(text)
            if row is not None:
                scores[i, row] = scores[i].max() + 1
        return scores

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode many texts at once, into the store if there is one, before they are scored."""
        if self.dense and self.dense.reader.store:
            self.dense.reader(texts, progress="Encoding queries")

    def rank(
        self,
        texts: Texts,
        k: int = 10,
        *,
        min_confidence: float = 0.0,
        where: Where | Filter | None = None,
    ) -> list[list[RankedAnswer]]:
        """Return the k best answers for each text, best first; ties in the order of `answers`.

        Args:
            texts: one text or several.
            k: fewer come back if there are fewer answers.
            min_confidence: a text whose first answer is less likely right gets no answer.
            where: rank those answers alone whose metadata fit: `{"locale": "da"}`, or
                `{"brand": ["a", "b"]}` for any of several values; all fields must fit. Scores stay
                the same; the confidence is that of a choice among these answers.

        Raises:
            RankerError: if a text is empty, k is less than one, or a confidence is asked for
                that the ranker never learned, or that is not from 0 to 1.
        """
        texts = texts_of(texts)
        if k < 1:
            raise RankerError(f"k is {k}; ask for one answer or more")
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise RankerError(f"text {number} of {len(texts)} is empty; give it some words")
        self.check_min_confidence(min_confidence)
        wanted = Filter.of(where)
        fits = self.fields.select(wanted) if wanted else None
        if not texts or (fits is not None and not fits.any()):
            return [[] for _ in texts]
        return [
            [] if min_confidence > 0 and (ranking[0].confidence or 0) < min_confidence else ranking
            for ranking in self._rank(texts, k, fits)
        ]

    def check_min_confidence(self, min_confidence: float) -> None:
        """Refuse a confidence that `rank` would refuse: see there."""
        if not 0 <= min_confidence <= 1:  # nor NaN
            raise RankerError(f"min_confidence is {min_confidence!r}; give a number from 0 to 1")
        if min_confidence > 0 and self.confidence is None:
            raise RankerError(
                "this ranker saw no validation split, so that it knows no confidence; "
                "train it on data with one, or leave min_confidence out"
            )

    def clarify(self, ranking: Sequence[RankedAnswer], below: float = ASK_BELOW) -> list[Option]:
        """Return two or three answers of which to ask whoever wrote a query: which is meant?

        None if asking is not worth it: the first answer is likely enough, the options together
        are less likely right than not, or the ranker knows no confidence.

        Args:
            ranking: of the query, as `rank` gives it, of five answers or more, none withheld.
            below: ask if the first answer is less likely right.
        """
        sure = [answer.confidence or 0.0 for answer in ranking[:CANDIDATES]]
        if not sure or sure[0] >= below:
            return []
        places = [self.answers["id"].index_of(answer.id) for answer in ranking]
        rows = [row for row in places if row is not None]
        if len(rows) < len(places):
            raise RankerError("the ranking names answers that this ranker lacks; rank again")
        candidates, language = self.answers[rows], self.recipe.language
        chosen = choose_options(candidates, sure, language)
        if not chosen:
            return []
        terms = find_terms(candidates, chosen, language, self.scoring.words)
        return [
            Option(ranking[i].id, ranking[i].title, sure[i], of_option)
            for i, of_option in zip(chosen, terms, strict=True)
        ]

    def _rank(
        self, texts: list[str], k: int, fits: Bool[np.ndarray, " m"] | None
    ) -> list[list[RankedAnswer]]:
        ids, titles = self.answers["id"], self.answers["title"]
        rankings = []
        queries = self.scoring.encode(self.rules.expand(texts))
        pins = [self._find_pin(text, fits) for text in texts]
        pinned_rows = [row for _, row in pins]
        candidates = self.scoring.score_candidates(queries, k, self.shortlist, fits, pinned_rows)
        for (pin, pinned_row), (rows, signals) in zip(pins, candidates, strict=True):
            scores = _check_finite(total(signals))
            best = top_k(scores, k)
            sure = self.confidence.of_each(scores, best).tolist() if self.confidence else None
            if pin and pinned_row is not None:
                pinned = np.searchsorted(rows, pinned_row)
                if sure:
                    sure = [1.0, *(p for j, p in zip(best, sure, strict=True) if j != pinned)][:k]
                best = np.array([pinned, *best[best != pinned]])[:k]
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
                        pinned=pin.query if pin and rank == 0 else None,
                    )
                    for rank, j in enumerate(best.tolist())
                ]
            )
        return rankings

    def _find_pin(
        self, text: str, fits: Bool[np.ndarray, " m"] | None = None
    ) -> tuple[Pin | None, int | None]:
        """Return the pin for a query and the row of its answer; none if that may not be ranked."""
        pin = self.rules.find_pin(text)
        row = self.answers["id"].index_of(pin.answer) if pin else None
        is_shown = row is not None and (fits is None or fits[row])
        return (pin, row) if is_shown else (None, None)

    def leading_words(self, text: str, ids: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the words of a query that speak most for each of some answers, by their ids.

        None where there is no classifier of words.
        """
        classifier = self.scoring.classifier
        if classifier is None:
            return [()] * len(ids)
        row_of = {id_: row for row, id_ in enumerate(self.answers["id"])}
        [text] = self.rules.expand([text])
        worths = classifier.explain(text, [row_of[id_] for id_ in ids])
        return [tuple(w for w, value in worth.items() if value > 0)[:MAX_WORDS] for worth in worths]

    def copy(self) -> Ranker:
        """Return a ranker whose answers can be changed while this one ranks in another thread."""
        return replace(self)

    def add_answers(self, answers: pl.DataFrame) -> None:
        """Take answers in without retraining (columns as in `Dataset.answers`).

        `url`, `sections` and `metadata` may be left out.

        Raises:
            RankerError: if an id is already there, or stands twice; nothing is added then.
        """
        answers = self._conform(answers)
        known = answers["id"].filter(answers["id"].is_in(self.answers["id"].to_list()))
        if len(known):
            raise RankerError(f"answer {known[0]!r} is already there; put it, or remove it first")
        self.put_answers(answers)

    def put_answers(self, answers: pl.DataFrame) -> None:
        """Take answers in as `add_answers` does, or in place of those that have their ids.

        What takes another's place keeps the labels of past queries, and the metadata if it is
        given none.

        Raises:
            RankerError: if an id stands twice; nothing is changed then.
        """
        self._put(self._conform(answers), self.scoring)

    def _put(self, answers: pl.DataFrame, scoring: Scoring) -> None:
        """Take answers into a scoring of the present ones, which becomes this ranker's."""
        if answers.is_empty():
            return
        ids = answers["id"]
        twice = ids.filter(ids.is_duplicated())
        if len(twice):
            raise RankerError(f"answer {twice[0]!r} stands twice; give each once")
        row_of = {id_: row for row, id_ in enumerate(self.answers["id"])}
        rows = np.array([row_of.setdefault(id_, len(row_of)) for id_ in ids], np.int64)
        self.scoring = scoring.upsert(answers, rows)
        columns = pl.concat([self.answers.filter(~pl.col("id").is_in(ids.implode())), answers])
        self.answers = columns[np.argsort([row_of[id_] for id_ in columns["id"]])]
        self.shortlist = self.shortlist and self.shortlist.upsert(rows)

    def remove_answers(self, ids: Texts) -> None:
        """Forget an answer, or several, without retraining.

        Raises:
            RankerError: if an id is unknown, or none would be left; nothing is removed then.
        """
        gone = set(texts_of(ids, "ids"))
        unknown = gone.difference(self.answers["id"])
        if unknown:
            raise RankerError(f"there is no answer {min(unknown)!r}; check the id")
        if len(gone) == self.answers.height:
            raise RankerError("a ranker needs an answer; leave at least one")
        mask = ~self.answers["id"].is_in(list(gone)).to_numpy()
        self.scoring = self.scoring.select(mask)
        self.answers = self.answers.filter(mask)
        self.shortlist = self.shortlist and self.shortlist.select(mask)

    def set_aside(self, id_: str) -> None:
        """Forget an answer as `remove_answers` does, but so that it can be restored."""
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
            newcomer=not past or not past.has_texts or bool(past.newcomers[row]),
            ranker=self.fingerprint,
            offset=None if offsets is None else tuple(offsets[row].tolist()),
        )

    def restore_answer(self, id_: str) -> None:
        """Bring back an answer that was set aside, with its past queries, as it was.

        In another ranker than that it was removed from, past queries which that one lacks are
        read anew, and it has no offset.

        Raises:
            RankerError: if none was set aside under this id, or another has the id by now.
        """
        record = next((record for record in self.removed if record.answer["id"] == id_), None)
        if record is None or id_ in self.answers["id"]:
            raise RankerError(f"no answer {id_!r} was set aside, or another has its id; check it")
        scoring = self.scoring
        if record.offset and record.ranker == self.fingerprint:
            scoring = scoring.with_offset(record.offset)
        answer = pl.DataFrame([record.answer], schema=self.answers.schema)
        self._put(self._conform(answer), scoring)
        row = self.answers.height - 1
        self.scoring = self.scoring.relabel(row, record.past, newcomer=record.newcomer)
        self.removed = tuple(r for r in self.removed if r is not record)

    def match_answers(self, answers: pl.DataFrame) -> None:
        """Have these answers and no others: put those that are new or differ, forget the rest."""
        answers = self._conform(answers)
        known = {row["id"]: row for row in self.answers.iter_rows(named=True)}
        rows = answers.iter_rows(named=True)
        differs = pl.Series([known.get(row["id"]) != row for row in rows], dtype=pl.Boolean)
        if differs.any():
            self.put_answers(answers.filter(differs))
        if gone := set(known).difference(answers["id"]):
            self.remove_answers(gone)

    def _conform(self, answers: pl.DataFrame) -> pl.DataFrame:
        """Return a caller's answers with the columns and types of this ranker's."""
        mend = f"give a polars DataFrame with the columns {', '.join(self.answers.columns)}"
        check_type(answers, pl.DataFrame, mend)
        missing = self.answers.schema.keys() - set(answers.columns)
        if needed := missing & {"id", "title", "text"}:
            raise ArgumentError(f"the answers have no {min(needed)}; {mend}")
        empty = {name: pl.lit(None) for name in missing}
        try:
            columns = answers.with_columns(**empty).cast(self.answers.schema)
        except pl.exceptions.PolarsError as error:
            raise ArgumentError(f"the answers: {first_line(error)}; {mend}") from None
        if columns["id"].null_count() or (columns["id"] == "").any():
            raise ArgumentError("an answer has no id; give each one")
        former = self.answers.select("id", former="metadata")
        columns = columns.join(former, on="id", how="left", maintain_order="left").with_columns(
            pl.col("title", "text").fill_null(""),
            pl.col("sections").fill_null([]),
            pl.coalesce("metadata", "former", pl.lit(NO_METADATA)).alias("metadata"),
        )
        return columns.select(self.answers.columns)

    def build_index(
        self, to: str, *, fresh: bool = False, instead: bool = False, progress: str | None = None
    ) -> None:
        """Make an answer index hold the vectors of these answers, and rank by it from now on.

        Args:
            to: `local`, which is saved with this ranker, or a place as `twinrank index` names it.
            fresh: make one anew, whatever is there.
            instead: make one also where other rankers' are.
            progress: label of the progress bar; None shows none.

        Raises:
            RankerError: if it ranks by words alone.
            AnswerIndexError: if the index cannot be reached or made, or is another ranker's.
        """
        index = self._open_index(to, fresh=fresh, instead=instead)
        update_index(index, self._keys(), self.vectors, progress)
        self._use_index(index)
        index.publish()

    def _keys(self) -> Int[np.ndarray, " m"]:
        return answer_keys(self.answers["id"].to_list(), self.vectors)

    def _open_index(self, to: str, *, fresh: bool, instead: bool = False) -> AnswerIndex:
        """Open the answer index that is there for this ranker, or make an empty one."""
        rows, dim = self.vectors.rows.shape
        place = place_of(to)
        if place is None:
            index = self.shortlist.index if self.shortlist and not fresh else None
            return index if isinstance(index, FaissIndex) else FaissIndex(dim, kind_for(rows))
        if not fresh:
            try:
                return _open_published(place, self.fingerprint)
            except OtherAnswerIndexError:
                if not instead:
                    raise
            except NoAnswerIndexError:
                pass
        if isinstance(place, PostgresPlace):
            return PgvectorIndex.create(place, self.fingerprint, dim=dim)
        return MilvusIndex.create(place, self.fingerprint, dim=dim)

    def _use_index(self, index: AnswerIndex) -> None:
        """Rank by an index of these answers from now on, once it is checked."""
        keys = self._keys()
        check_index(index, keys, self.vectors)
        self.shortlist = Shortlist(index, keys)

    def save(self, path: AnyPath, *, keep: bool | None = False) -> None:
        """Write this ranker as the current version of a folder, at once.

        A reader meanwhile gets it or the version before, and a kill leaves one of them. `keep`
        keeps the version that is current now, to go back to: `load` gives it as `previous`. None
        keeps no other version.
        """
        index = self.shortlist.index if self.shortlist else None
        local = index if isinstance(index, FaissIndex) else None
        folder.save(path_of(path, "path"), self, local, keep=keep)

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
            store: keeps features of texts; without one each text is encoded anew.
            device: where the encoder runs: `cpu`, `cuda`, `mps`, or `auto`.
            previous: open the ranker that was kept there when this one took its place.
            index: to rank by: `local`, which is built in memory if the folder has none, or a
                place as `twinrank index` names it; without one every answer is scored.

        Raises:
            RankerError: if the folder is incomplete or damaged, of another format version, or
                made with another encoder than the one found here; it says what differs.
            AnswerIndexError: if the index cannot be reached, or does not hold just the vectors of
                this ranker's answers.
        """
        place = place_of(index) if index is not None else None
        wants_local = index is not None and place is None
        contents, opened = folder.load(
            path_of(path, "path"),
            store=store,
            device=device,
            previous=previous,
            index=wants_local,
        )
        ranker = cls(**vars(contents), rules=Rules.load(path_of(path, "path")))
        if unknown := {pin.answer for pin in ranker.rules.pins}.difference(ranker.answers["id"]):
            log.warning("%s pins %r, which is no answer here", RULES, min(unknown))
        if opened:
            ranker.shortlist = Shortlist.match(opened, ranker._keys())
        if place:
            ranker._use_index(_open_published(place, ranker.fingerprint))
        elif wants_local and not (ranker.shortlist and ranker.shortlist.serves):
            ranker.build_index(LOCAL)
        return ranker

    @classmethod
    def from_hub(
        cls,
        name: str,
        *,
        revision: str | None = None,
        store: Store | None = None,
        device: str = "auto",
    ) -> Ranker:
        """Open a ranker of a model hub, which `twinrank push` put there.

        Its files are JSON and safetensors alone, and are checked as those of every folder are.

        Args:
            name: of its repository, `user/name`; the hub is that of $HF_ENDPOINT.
            revision: a branch, tag or commit; without one, what is there now.
            store: as `load` takes it.
            device: as `load` takes it.

        Raises:
            RankerError: if it cannot be downloaded, or as `load` raises it.
        """
        return cls.load(download(name, revision), store=store, device=device)


def _check_finite(scores: np.ndarray) -> np.ndarray:
    """Return scores, or refuse them if one is not finite: nothing could be ranked by it."""
    if not np.isfinite(scores).all():
        raise RankerError("this ranker gives scores that are not finite; train it anew")
    return scores


@dataclass(frozen=True)
class Indexed:
    """An answer index: where it is, how much it holds, and the work it took.

    `compared` counts vectors that were found to be the ranker's.
    """

    where: str
    answers: int
    vectors: int
    dim: int
    added: int
    removed: int
    compared: int
    seconds: float

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.where}: {self.answers:,} answers, {self.vectors:,} vectors {self.dim} wide; "
            f"{self.added:,} answers added, {self.removed:,} removed; "
            f"{self.compared:,} vectors compared and right; {self.seconds:.1f} s"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def _open_published(place: MilvusPlace | PostgresPlace, fingerprint: str) -> AnswerIndex:
    if isinstance(place, PostgresPlace):
        return PgvectorIndex.open(place, fingerprint)
    return MilvusIndex.open(place, fingerprint)


def index_folder(
    path: Path, to: str, *, fresh: bool = False, progress: str | None = None
) -> Indexed:
    """Make an answer index hold the answers of the ranker in a folder; see `Ranker.build_index`.

    A service may go on changing answers: what it changed meanwhile is done last, while it waits,
    and then the index is published. A local index is part of a new version of the ranker.
    """
    start = time.monotonic()
    place = place_of(to)
    before = read_pointer(path).version
    has_index = place is None and not fresh and INDEX in read_manifest(path).files
    ranker = Ranker.load(path, index=LOCAL if has_index else None)
    fingerprint, index = ranker.fingerprint, ranker._open_index(to, fresh=fresh)
    added, removed = update_index(index, ranker._keys(), ranker.vectors, progress)
    with writing(path):
        if read_pointer(path).version != before:
            ranker = Ranker.load(path)
            if ranker.fingerprint != fingerprint:
                raise RankerError(f"{path}: another ranker took its place meanwhile; index again")
            more, less = update_index(index, ranker._keys(), ranker.vectors)
            added, removed = added + more, removed + less
        ranker._use_index(index)
        index.publish()
        if isinstance(index, FaissIndex) and index.unsaved:
            ranker.save(path)
    rows, dim = ranker.vectors.rows.shape
    seconds = time.monotonic() - start
    where, answers = str(place or path), ranker.answers.height
    return Indexed(where, answers, rows, dim, added, removed, len(index), seconds)


def load_indexed(path: Path, index: str, *, store: Store, device: str) -> Ranker:
    """Load a ranker that ranks by an index, which is made or brought up to date if need be."""
    with writing(path):
        local = place_of(index) is None
        ranker = Ranker.load(path, store=store, device=device, index=LOCAL if local else None)
        if not local:
            ranker.build_index(index)
        elif ranker.shortlist and getattr(ranker.shortlist.index, "unsaved", False):
            ranker.save(path)
        return ranker


def roll_back(
    path: Path,
    *,
    index: str | None = None,
    store: Store | None = None,
    device: str = "auto",
) -> Ranker:
    """Put the ranker that was replaced in its place again, and keep the other one in turn.

    It gets the answers that the other has by now: no removed answer comes back. An index holds its
    answers before it takes the place.

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
