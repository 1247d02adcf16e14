"""Why an answer was ranked: its best section and sentence, and the past queries that led to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from twinrank.data.texts import split_sentences, titled_sections
from twinrank.errors import RankerError
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.ranker import Ranker
from twinrank.ranking.signals import DenseSignal

MAX_PAST_QUERIES = 3
MAX_CACHED_SECTIONS = 16_384  # whose sentences' vectors are kept; of ten sentences each, 250 MB
SENTENCES_A_STEP = 8  # of warming up
MIN_SENTENCE_CHARACTERS = 12  # less is a heading, a button or a number

Section = tuple[int, int | None]  # an answer's row, and the number of one of its sections, or all


@dataclass(frozen=True)
class PastQuery:
    """A labelled query, its id in the data (if it had one), and its cosine with the query."""

    id: str | None
    text: str
    similarity: float


@dataclass(frozen=True)
class Evidence:
    """The reasons for one answer to one query.

    Attributes:
        section: title of the section the sentence is from; None if it has no title.
        sentence: of the best section, the one nearest to the query, as it stands in the text.
        past_queries: of those labelled with the answer the nearest, nearest first.
        solved: how many past queries are labelled with the answer; None where nobody looked.
        words: of the query, those that speak most for the answer by what past queries taught.
        passage: the text of the section, or of the whole answer where it has none.
    """

    section: str | None
    sentence: str | None
    past_queries: tuple[PastQuery, ...] = ()
    solved: int | None = None
    words: tuple[str, ...] = ()
    passage: str | None = None


class Sentences(NamedTuple):
    """Sentences: the number of each one's section, its text, its vector (s x d)."""

    numbers: list[int]
    texts: list[str]
    vectors: Float[np.ndarray, "s d"]


class Explainer:
    """Finds the evidence for a ranker's answers.

    Where answers are read section by section, sentences are those of the section that scored
    best. They are compared with the query as answers are: by vectors, or in a ranker of words
    alone by BM25. Vectors of sentences are cached.

    Args:
        ranker: whose answers are explained; make another explainer when its answers change.
    """

    def __init__(self, ranker: Ranker) -> None:
        self._dense, self._past = ranker.dense, ranker.past
        self._ranker = ranker
        self._language = ranker.recipe.language
        self._rows = {id_: row for row, id_ in enumerate(ranker.answers["id"])}
        self._sections = titled_sections(ranker.answers)
        self._labels = self._past.labels.tocsc() if self._past else None
        self._cache: dict[Section, Sentences] = {}

    def explain(self, texts: Sequence[str], ids: Sequence[Sequence[str]]) -> list[list[Evidence]]:
        """Find evidence for some answers, by their ids, to each of n texts."""
        rows = [[self._rows[id_] for id_ in ranking] for ranking in ids]
        dense, read = self._dense, self._ranker.rules.expand(texts)
        if dense is None:
            pairs = zip(read, rows, strict=True)
            return [
                [self._explain_by_words(text, row) for row in answers] for text, answers in pairs
            ]
        queries = dense.embed_queries(read)
        sections = [
            [(row, self._best_section(dense, query, row)) for row in ranking]
            for query, ranking in zip(queries, rows, strict=True)
        ]
        sentences = self._read(dense, [section for ranking in sections for section in ranking])
        words = [self._ranker.leading_words(*pair) for pair in zip(texts, ids, strict=True)]
        return [
            [
                replace(self._explain_by_vectors(query, key[0], sentences[key]), words=leading)
                for key, leading in zip(ranking, of_query, strict=True)
            ]
            for query, ranking, of_query in zip(queries, sections, words, strict=True)
        ]

    def warm_up(self) -> Iterator[None]:
        """Encode the sentences of all answers, a few in each step, so that no query waits for them.

        Ends when all are in the cache, or the cache is full.
        """
        dense = self._dense
        if dense is None:
            return
        by_section = dense.vectors.owner is not None
        for row, parts in enumerate(self._sections):
            for number in range(len(parts)) if by_section else (None,):
                if len(self._cache) >= MAX_CACHED_SECTIONS:
                    return
                if (row, number) in self._cache:
                    continue
                numbers, texts = self._split((row, number))
                vectors = []
                for first in range(0, max(1, len(texts)), SENTENCES_A_STEP):
                    vectors.append(dense.embed_passages(texts[first : first + SENTENCES_A_STEP]))
                    yield
                self._cache[row, number] = Sentences(numbers, texts, np.concatenate(vectors))

    def _explain_by_vectors(
        self, query: Float[np.ndarray, " d"], row: int, sentences: Sentences
    ) -> Evidence:
        past, solved = self._nearest_past_queries(query, row)
        if not sentences.texts:
            return Evidence(None, None, past, solved)
        best = int((sentences.vectors @ query).argmax())
        title, passage = self._sections[row][sentences.numbers[best]]
        return Evidence(title or None, sentences.texts[best], past, solved, passage=passage)

    def _explain_by_words(self, text: str, row: int) -> Evidence:
        numbers, texts = self._split((row, None))
        try:
            words = Bm25(texts, language=self._language)
        except RankerError:  # not one word among them
            return Evidence(None, None)
        best = int(words.score_texts([text])[0].argmax())
        title, passage = self._sections[row][numbers[best]]
        return Evidence(title or None, texts[best], passage=passage)

    def _best_section(
        self, dense: DenseSignal, query: Float[np.ndarray, " d"], row: int
    ) -> int | None:
        """Return the number of an answer's best section; None if it is scored as a whole."""
        if dense.vectors.owner is None:
            return None
        first, last = np.searchsorted(dense.vectors.owner, [row, row + 1]).tolist()
        return int((dense.vectors.rows[first:last] @ query).argmax())

    def _read(self, dense: DenseSignal, sections: Sequence[Section]) -> dict[Section, Sentences]:
        """Return the sentences of sections; those not in the cache are encoded together."""
        read = {key: self._cache[key] for key in sections if key in self._cache}
        new = {key: self._split(key) for key in sections if key not in read}
        vectors = dense.embed_passages([text for _, texts in new.values() for text in texts])
        last = 0
        for key, (numbers, texts) in new.items():
            first, last = last, last + len(texts)
            read[key] = Sentences(numbers, texts, vectors[first:last].copy())
        self._cache |= read
        while len(self._cache) > MAX_CACHED_SECTIONS:
            del self._cache[next(iter(self._cache))]  # the oldest
        return read

    def _split(self, section: Section) -> tuple[list[int], list[str]]:
        """Return the number of the section of each sentence, and the sentences."""
        row, number = section
        pairs = [
            (i, sentence)
            for i in (range(len(self._sections[row])) if number is None else [number])
            for sentence in split_sentences(self._sections[row][i][1], self._language)
        ]
        pairs = [pair for pair in pairs if len(pair[1]) >= MIN_SENTENCE_CHARACTERS] or pairs
        return [i for i, _ in pairs], [sentence for _, sentence in pairs]

    def _nearest_past_queries(
        self, query: Float[np.ndarray, " d"], row: int
    ) -> tuple[tuple[PastQuery, ...], int]:
        """Return the nearest past queries of an answer, and how many it has."""
        past, labels = self._past, self._labels
        if past is None or labels is None:
            return (), 0
        queries = labels.indices[labels.indptr[row] : labels.indptr[row + 1]]
        cosines = past.vectors[queries] @ query
        best = np.argsort(-cosines, kind="stable")[:MAX_PAST_QUERIES]
        nearest = [(past.ids[queries[i]], past.texts[queries[i]], float(cosines[i])) for i in best]
        return tuple(PastQuery(*fields) for fields in nearest if fields[1]), len(queries)
