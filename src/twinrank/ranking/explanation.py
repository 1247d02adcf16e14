"""Why an answer was ranked: its best section and sentence, and the past queries that led to it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinrank.data import split_sentences, titled_sections
from twinrank.errors import RankerError
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.dense import Dense, projected
from twinrank.ranking.fused import Fused
from twinrank.ranking.ranker import Ranker

PAST_SHOWN = 3
KEPT = 16_384  # sections whose sentences' vectors are kept; of ten sentences each, 250 MB
AHEAD = 8  # sentences encoded in a step of reading ahead
SHORTEST = 12  # characters: less is a heading, a button or a number


Place = tuple[int, int | None]  # an answer's row, and one of its sections, or all


@dataclass(frozen=True)
class PastQuery:
    """A labelled query of the past, and its cosine with the query.

    Its id is the data's own; none where a ranker was written without.
    """

    id: str | None
    text: str
    similarity: float


@dataclass(frozen=True)
class Evidence:
    """What speaks for one answer to one query.

    Attributes:
        section: title of the section the sentence is from; none if it has none.
        sentence: of the best section, the one nearest to the query, as it stands in the text.
        past_queries: of those labelled with the answer the nearest, nearest first.
        solved: how many past queries are labelled with the answer.
    """

    section: str | None
    sentence: str | None
    past_queries: tuple[PastQuery, ...] = ()
    solved: int = 0


class Candidates(NamedTuple):
    """The sentences of a place: titles of their sections, texts, and vectors (s x d)."""

    titles: list[str | None]
    sentences: list[str]
    vectors: Tensor


class Witness:
    """Finds the evidence for a ranker's answers.

    Where answers are read section by section, sentences are those of the section that scored
    best. They are compared with the query as answers are: by vectors, or in a ranker of words
    alone by BM25. Vectors of sentences are kept.

    Args:
        ranker: whose answers are explained; make another witness when its answers change.
    """

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._dense = ranker.dense
        self._rows = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
        self._sections = titled_sections(ranker.answers)
        self._read: OrderedDict[Place, Candidates] = OrderedDict()
        channel = ranker.channel
        past = channel.past if isinstance(channel, Fused) else None
        self._past = list(zip_longest(past.ids, past.texts)) if past else []
        self._voted = self._dense.past if self._dense and self._past else None
        if self._voted is not None:
            self._answers, self._order = self._voted.answers.sort(stable=True)

    def evidence(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[list[Evidence]]:
        """Evidence for some answers to each of n texts.

        Args:
            texts: n queries.
            ids: n lists of answers' ids.
        """
        rows = [[self._rows[id_] for id_ in some] for some in ids]
        if self._dense is None:
            pairs = zip(texts, rows, strict=True)
            return [[self._by_words(text, row) for row in some] for text, some in pairs]
        return self._by_vectors(self._dense, texts, rows)

    def read_ahead(self) -> Iterator[None]:
        """Encode the sentences of all answers, a few in each step, so that who asks need not wait.

        Ends when all were met, or as many as are kept.
        """
        dense = self._dense
        if dense is None:
            return
        by_section = dense.vectors.owner is not None
        for row, parts in enumerate(self._sections):
            for section in range(len(parts)) if by_section else (None,):
                place: Place = row, section
                if len(self._read) >= KEPT:
                    return
                if place in self._read:
                    continue
                found = self._split(place)
                vectors = []
                for first in range(0, max(1, len(found[1])), AHEAD):
                    some = found[1][first : first + AHEAD]
                    with torch.inference_mode():
                        vectors.append(projected(dense.towers, dense.reader.features(some)))
                    yield
                self._read[place] = Candidates(*found, torch.cat(vectors))

    @torch.inference_mode()
    def _by_vectors(
        self, dense: Dense, texts: Sequence[str], rows: list[list[int]]
    ) -> list[list[Evidence]]:
        device = dense.vectors.rows.device
        queries = dense.towers.query(torch.as_tensor(dense.reader(texts), device=device))
        places = [
            [(row, self._best_section(dense, query, row)) for row in some]
            for query, some in zip(queries, rows, strict=True)
        ]
        read = self._candidates(dense, [place for some in places for place in some])
        return [
            [
                self._of(read[place], read[place].vectors @ query, self._nearest(query, place[0]))
                for place in some
            ]
            for query, some in zip(queries, places, strict=True)
        ]

    def _best_section(self, dense: Dense, query: Float[Tensor, " d"], row: int) -> int | None:
        """Which of an answer's sections scores best, if they are scored one by one."""
        owner = dense.vectors.owner
        if owner is None:
            return None
        first, last = np.searchsorted(owner, [row, row + 1]).tolist()
        return int((dense.vectors.rows[first:last] @ query).argmax())

    @torch.inference_mode()
    def _candidates(self, dense: Dense, places: Sequence[Place]) -> dict[Place, Candidates]:
        """Sentences of some places, and their vectors; what is not kept is encoded, together."""
        new = {place: self._split(place) for place in places if place not in self._read}
        flat = [sentence for _, found in new.values() for sentence in found]
        vectors = projected(dense.towers, dense.reader.features(flat))
        counts = [len(found) for _, found in new.values()]
        for (place, found), own in zip(new.items(), vectors.split(counts), strict=True):
            self._read[place] = Candidates(*found, own.clone())
        for place in places:
            self._read.move_to_end(place)
        read = {place: self._read[place] for place in places}
        while len(self._read) > max(KEPT, len(read)):
            self._read.popitem(last=False)
        return read

    def _split(self, place: Place) -> tuple[list[str | None], list[str]]:
        """The title of the section of each sentence, and the sentence."""
        row, section = place
        parts = self._sections[row] if section is None else [self._sections[row][section]]
        pairs = [
            (title or None, sentence)
            for title, text in parts
            for sentence in split_sentences(text, self._ranker.recipe.language)
        ]
        pairs = [pair for pair in pairs if len(pair[1]) >= SHORTEST] or pairs
        return [title for title, _ in pairs], [sentence for _, sentence in pairs]

    def _nearest(self, query: Float[Tensor, " d"], row: int) -> tuple[list[PastQuery], int]:
        """The nearest past queries of an answer, and how many it has."""
        if self._voted is None:
            return [], 0
        first, last = torch.searchsorted(self._answers, torch.tensor([row, row + 1])).tolist()
        voters = self._voted.voters[self._order[first:last]]
        near = self._voted.vectors[voters] @ query
        best = near.argsort(descending=True, stable=True)[:PAST_SHOWN].tolist()
        return [PastQuery(*self._past[int(voters[i])], float(near[i])) for i in best], len(voters)

    def _by_words(self, text: str, row: int) -> Evidence:
        titles, found = self._split((row, None))
        try:
            words = Bm25(found, language=self._ranker.recipe.language)
        except RankerError:  # not one word among them
            return Evidence(None, None)
        best = int(words.scores([text])[0].argmax())
        return Evidence(titles[best], found[best])

    @staticmethod
    def _of(
        candidates: Candidates, scores: Float[Tensor, " s"], past: tuple[list[PastQuery], int]
    ) -> Evidence:
        """The best of s sentences, if there is any, and the past queries."""
        nearest, solved = past
        if not candidates.sentences:
            return Evidence(None, None, tuple(nearest), solved)
        best = int(scores.argmax())
        return Evidence(candidates.titles[best], candidates.sentences[best], tuple(nearest), solved)
