"""The ranker: what a run leaves to use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from twinrank.data import answer_texts
from twinrank.encode import FeatureStore
from twinrank.errors import RankerError
from twinrank.recipe import Recipe
from twinrank.search import folder
from twinrank.search.bm25 import Bm25
from twinrank.search.dense import Dense


@dataclass(frozen=True)
class RankedAnswer:
    """One answer in a ranking; `rank` counts from one."""

    rank: int
    id: str
    title: str
    score: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Plain JSON values."""
        return asdict(self)


@dataclass
class Ranker:
    """Ranks answers for what people write.

    Attributes:
        recipe: how it was made.
        answers: id, title, text, url and sections, in the order of the scores' columns.
        channel: what scores them.
        origin: what it was trained on, and what it reached there.
    """

    recipe: Recipe
    answers: pl.DataFrame
    channel: Bm25 | Dense
    origin: folder.Origin

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer (columns, in the order of `answers`) for every text (rows)."""
        return self.channel.scores(texts)

    def prepare(self, texts: Sequence[str]) -> None:
        """Encode many texts at once, into the store if there is one, before they are scored."""
        if isinstance(self.channel, Dense) and self.channel.reader.store:
            self.channel.reader(texts, progress="Encoding queries")

    def rank(self, texts: str | Sequence[str], k: int = 10) -> list[list[RankedAnswer]]:
        """The k best answers for each text, best first; ties in the order of `answers`.

        Args:
            texts: one text or several.
            k: how many; fewer come back if there are fewer answers.

        Raises:
            RankerError: if a text is empty, or k is less than one.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if k < 1:
            raise RankerError(f"k is {k}; ask for one answer or more")
        for i, text in enumerate(texts):
            if not text.strip():
                raise RankerError(f"text {i + 1} of {len(texts)} is empty; give it some words")
        ids, titles = self.answers["id"], self.answers["title"]
        return [
            [
                RankedAnswer(rank=place + 1, id=ids[j], title=titles[j], score=float(row[j]))
                for place, j in enumerate(best_first(row, k).tolist())
            ]
            for row in (self.scores(texts) if texts else [])
        ]

    def add_answers(self, answers: pl.DataFrame) -> None:
        """Take answers in without retraining (columns as in `Dataset.answers`).

        Raises:
            RankerError: if an id is already there, or stands twice; nothing is added then.
        """
        ids = answers["id"]
        twice = ids.filter(ids.is_duplicated() | ids.is_in(self.answers["id"].to_list()))
        if len(twice):
            raise RankerError(f"answer {twice[0]!r} is already there; remove it first")
        self.channel.add(answer_texts(answers))
        self.answers = pl.concat([self.answers, answers.select(self.answers.columns)])

    def remove_answers(self, ids: Iterable[str]) -> None:
        """Forget answers without retraining.

        Raises:
            RankerError: if an id is unknown, or none would be left; nothing is removed then.
        """
        gone = set(ids)
        unknown = gone.difference(self.answers["id"])
        if unknown:
            raise RankerError(f"there is no answer {min(unknown)!r}; check the id")
        if len(gone) == self.answers.height:
            raise RankerError("a ranker needs an answer; leave at least one")
        kept = ~self.answers["id"].is_in(list(gone))
        self.channel.keep(kept.to_numpy())
        self.answers = self.answers.filter(kept)

    def save(self, path: Path) -> None:
        """Write the ranker folder; `ranker.json` comes last and makes it one."""
        folder.save(path, self.recipe, self.answers, self.channel, self.origin)

    @classmethod
    def load(cls, path: Path, *, store: FeatureStore | None = None, device: str = "auto") -> Ranker:
        """Open a ranker folder.

        Args:
            path: the folder.
            store: where features of texts are kept and found; without one each text that is
                ranked is encoded anew.
            device: where the encoder runs: `cpu`, `cuda`, `mps`, or `auto`.

        Raises:
            RankerError: if the folder is incomplete or damaged, of another format version, or
                made with another encoder than the one found here; it says what differs.
        """
        recipe, answers, channel, origin = folder.load(Path(path), store=store, device=device)
        return cls(recipe, answers, channel, origin)


def best_first(scores: Float[np.ndarray, " m"], k: int) -> np.ndarray:
    """Places of the k highest scores, highest first; of equal scores the earlier place first."""
    k = min(k, len(scores))
    cut = np.partition(scores, -k)[-k]  # the k-th highest score
    candidates = np.flatnonzero(scores >= cut)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
