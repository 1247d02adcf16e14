"""Channels weighed against each other: towers, past queries, words, and a prior."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int

from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.dense import CELLS_A_CHUNK, Dense, Parts
from twinrank.ranking.memory import Past
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.towers import total
from twinrank.recipe import Recipe

# What was trained together starts, and is held, near one; what joins it later, near nothing.
PARTS = {"dense": 1.0, "past": 1.0, "past words": 0.0, "prior": 0.0, "words": 0.0}


class Fused:
    """The weighted sum of what several channels give each answer.

    Args:
        dense: towers, and the votes of past queries.
        past: those queries; none without a memory.
        words: BM25 over the answers; none without words.
        recipe: says the language of words, and what newcomers are given instead of votes.
        weights: of each part, by name.
    """

    def __init__(
        self,
        dense: Dense,
        *,
        past: PastQueries | None,
        words: Bm25 | None,
        recipe: Recipe,
        weights: Mapping[str, float],
    ) -> None:
        self.dense = dense
        self.past = past
        self.words = words
        self.newcomer = recipe.memory.newcomer if recipe.memory else 0.0
        self.weights = dict(weights)
        self._language = recipe.language
        self._past_words = past.words(recipe.language) if past and recipe.words else None

    @property
    def names(self) -> set[str]:
        """Of the parts that have a weight."""
        past = {"past", "prior"} if self.past is not None else set()
        past_words = {"past words"} if self._past_words else set()
        return {"dense"} | past | past_words | ({"words"} if self.words else set())

    def __copy__(self) -> Fused:
        """Channels of its own, to be changed; what they hold is shared."""
        other = object.__new__(Fused)
        other.__dict__.update(self.__dict__, dense=copy(self.dense), words=copy(self.words))
        return other

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer for every text."""
        return np.concatenate([total(parts) for parts in self._chunks(texts)])

    def parts(self, texts: Sequence[str]) -> Parts:
        """What each part gives each answer, weighed; their sum is the score."""
        chunks = list(self._chunks(texts))
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def unweighed(self, texts: Sequence[str]) -> Parts:
        """What each part gives each answer before it is weighed."""
        parts = self.dense.parts_of(self.dense.reader(texts))
        return parts | self._beside(texts, parts.get("past"))

    def beside(self, texts: Sequence[str], features: Float[np.ndarray, "n d"]) -> Parts:
        """What all parts but `dense` give each answer, weighed, for texts and their features."""
        votes = self.dense.votes(features) if self.past is not None else None
        return self._weighed(self._beside(texts, votes))

    def put(self, answers: pl.DataFrame, rows: Int[np.ndarray, " n"]) -> None:
        """Take n answers in, each at its row: in place of what is there, or right behind it all.

        What takes another's place keeps its past queries; what comes behind has none.
        """
        newcomers = int((rows >= self.dense.vectors.answers).sum())
        self.dense.put(answers, rows)
        if self.words:
            self.words.put(answers, rows)
        if self.past is not None:
            self.past = self.past.add(newcomers)

    def keep(self, rows: Bool[np.ndarray, " m"]) -> None:
        """Forget the answers whose row is false."""
        self.dense.keep(rows)
        if self.words:
            self.words.keep(rows)
        if self.past is not None:
            self.past = self.past.keep(rows)

    def restore_past(self, row: int, queries: Sequence[str], *, newcomer: bool) -> None:
        """Label past queries with an answer again; those that are not there are read anew."""
        past, votes = self.past, self.dense.past
        if past is None or votes is None:
            return
        known: dict[str, list[int]] = {}
        for place, text in enumerate(past.texts):
            known.setdefault(text, []).append(place)
        places = [known[text].pop(0) if known.get(text) else -1 for text in queries]
        new = [text for text, place in zip(queries, places, strict=True) if place < 0]
        behind = iter(range(len(past.texts), len(past.texts) + len(new)))
        voters = torch.as_tensor([next(behind) if place < 0 else place for place in places])
        vectors = votes.vectors
        if new:
            read = self.dense.queries(self.dense.reader(new))
            vectors = torch.cat([vectors, torch.as_tensor(read, device=vectors.device)])
        voters = torch.cat([votes.voters, voters.to(votes.voters)])
        answers = torch.cat([votes.answers, votes.answers.new_full((len(places),), row)])
        self.dense.past = Past(vectors, voters, answers)
        newcomers = past.newcomers.copy()
        newcomers[row] = newcomer
        ids = [*past.ids, *[None] * len(new)] if past.ids else ()
        self.past = PastQueries.of([*past.texts, *new], self.dense.past, newcomers, ids)
        if new and self._past_words:
            self._past_words = self.past.words(self._language)

    def _beside(self, texts: Sequence[str], votes: Float[np.ndarray, "n m"] | None) -> Parts:
        parts = {}
        if self.past is not None and votes is not None:
            parts["past"] = np.where(self.past.newcomers, self.newcomer, votes)
            parts["prior"] = np.broadcast_to(self.past.prior(), votes.shape)
            if self.words:
                parts["past words"] = np.zeros(votes.shape, np.float32)
            if self._past_words:
                parts["past words"] = self.past.by_words(self._past_words.scores(texts))
        if self.words:
            parts["words"] = self.words.scores(texts)
        return parts

    def _weighed(self, parts: Parts) -> Parts:
        return {name: np.float32(self.weights[name]) * part for name, part in parts.items()}

    def at_once(self) -> int:
        """How many texts are scored at once."""
        widest = max(self.dense.vectors.answers, len(self.past.texts) if self.past else 1)
        return max(1, CELLS_A_CHUNK // (len(PARTS) * widest))

    def _chunks(self, texts: Sequence[str]) -> Iterator[Parts]:
        """Weighed parts of some texts at a time."""
        height = self.at_once()
        for start in range(0, max(1, len(texts)), height):
            yield self._weighed(self.unweighed(texts[start : start + height]))
