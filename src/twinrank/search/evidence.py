"""Why an answer was ranked: its best section and sentence, and the past queries that led to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from twinrank.data import titled_sections
from twinrank.errors import RankerError
from twinrank.search.bm25 import Bm25
from twinrank.search.dense import Dense, projected
from twinrank.search.fused import Fused
from twinrank.search.ranker import Ranker
from twinrank.text import sentences

PAST_SHOWN = 3
SHORTEST = 12  # characters: less is a heading, a button or a number


@dataclass(frozen=True)
class PastQuery:
    """A labelled query of the past, and its cosine with the query."""

    text: str
    similarity: float


@dataclass(frozen=True)
class Evidence:
    """What speaks for one answer to one query.

    Attributes:
        section: title of the section the sentence is from; none if it has none.
        sentence: of the best section, the one nearest to the query, as it stands in the text.
        past_queries: those labelled with the answer, nearest first.
    """

    section: str | None
    sentence: str | None
    past_queries: tuple[PastQuery, ...] = ()


class Witness:
    """Finds the evidence for a ranker's answers.

    Where answers are read section by section, sentences are those of the section that scored
    best. They are compared with the query as answers are: by vectors, or in a ranker of words
    alone by BM25. Load the ranker with `RecentFeatures`, or each sentence is encoded anew.

    Args:
        ranker: whose answers are explained; make another witness when its answers change.
    """

    def __init__(self, ranker: Ranker) -> None:
        self._ranker = ranker
        self._dense = ranker.dense
        self._rows = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
        self._sections = titled_sections(ranker.answers)

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

    @torch.inference_mode()
    def _by_vectors(
        self, dense: Dense, texts: Sequence[str], rows: list[list[int]]
    ) -> list[list[Evidence]]:
        device = dense.vectors.rows.device
        queries = dense.towers.query(torch.as_tensor(dense.reader(texts), device=device))
        candidates = [
            self._candidates(row, self._best_section(dense, query, row))
            for query, some in zip(queries, rows, strict=True)
            for row in some
        ]
        flat = [sentence for _, found in candidates for sentence in found]
        vectors = iter(
            projected(dense.towers, dense.reader.features(flat)).split(
                [len(found) for _, found in candidates]
            )
        )
        each = iter(candidates)
        return [
            [self._of(*next(each), next(vectors) @ query, self._past(query, row)) for row in some]
            for query, some in zip(queries, rows, strict=True)
        ]

    def _best_section(self, dense: Dense, query: Float[Tensor, " d"], row: int) -> int | None:
        """Which of an answer's sections scores best, if they are scored one by one."""
        owner = dense.vectors.owner
        if owner is None:
            return None
        first, last = np.searchsorted(owner, [row, row + 1]).tolist()
        return int((dense.vectors.rows[first:last] @ query).argmax())

    def _candidates(self, row: int, section: int | None) -> tuple[list[str | None], list[str]]:
        """Sentences of a section, or of all, and the title of the section of each."""
        parts = self._sections[row] if section is None else [self._sections[row][section]]
        pairs = [
            (title or None, sentence)
            for title, text in parts
            for sentence in sentences(text, self._ranker.recipe.language)
        ]
        pairs = [pair for pair in pairs if len(pair[1]) >= SHORTEST] or pairs
        return [title for title, _ in pairs], [sentence for _, sentence in pairs]

    def _past(self, query: Float[Tensor, " d"], row: int) -> tuple[PastQuery, ...]:
        channel = self._ranker.channel
        if not isinstance(channel, Fused) or channel.past is None or channel.dense.past is None:
            return ()
        voted = channel.dense.past
        voters = voted.voters[voted.answers == row]
        near = voted.vectors[voters] @ query
        best = near.argsort(descending=True, stable=True)[:PAST_SHOWN].tolist()
        return tuple(PastQuery(channel.past.texts[int(voters[i])], float(near[i])) for i in best)

    def _by_words(self, text: str, row: int) -> Evidence:
        titles, found = self._candidates(row, None)
        try:
            words = Bm25(found, language=self._ranker.recipe.language)
        except RankerError:  # not one word among them
            return Evidence(None, None)
        return self._of(titles, found, torch.as_tensor(words.scores([text])[0]), ())

    @staticmethod
    def _of(
        titles: list[str | None],
        found: list[str],
        scores: Float[Tensor, " s"],
        past: tuple[PastQuery, ...],
    ) -> Evidence:
        """The best of s sentences, if there is any, and the past queries."""
        if not found:
            return Evidence(None, None, past)
        best = int(scores.argmax())
        return Evidence(titles[best], found[best], past)
