"""The signal of words: BM25, by bm25s."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import Stemmer
from jaxtyping import Bool, Float, Int

from twinrank.data.texts import WORD, answer_texts, space_words
from twinrank.errors import RankerError
from twinrank.ranking.signals import QueryBatch

# The languages for which bm25s has a list of stop words.
_STOP_WORDS = frozenset(
    {"danish", "dutch", "english", "french", "german", "italian"}
    | {"norwegian", "portuguese", "russian", "spanish", "swedish", "turkish"}
)
K1, B = 1.5, 0.75


class Bm25:
    """The signal of answers' words: BM25 (Lucene's variant, k1 = 1.5, b = 0.75).

    Args:
        texts: of the answers; that none holds a word is an error.
        language: a name of `LANGUAGE_CODES`; see `tokenise`.
        scale: factor on the scores, so that they are on the scale of log-probabilities.
    """

    def __init__(self, texts: Sequence[str], *, language: str, scale: float = 1.0) -> None:
        self.language = language
        self.scale = scale
        self._words = tokenise(texts, self.language)
        self._index = _build_index(self._words)

    @property
    def width(self) -> int:
        """See `Signal.width`."""
        return len(self._words)

    def scores(self, queries: QueryBatch) -> Float[np.ndarray, "n m"]:
        """See `Signal.scores`."""
        return self.score_texts(queries.texts)

    def score_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Score every answer for every text; all zero where no word is shared."""
        table = np.zeros((len(texts), len(self._words)), dtype=np.float32)
        for row, words in zip(table, tokenise(texts, self.language), strict=True):
            if words:
                row[:] = self._index.get_scores(words)
        return table * np.float32(self.scale)

    def score_documents(self, query: str, documents: Sequence[str]) -> Float[np.ndarray, " t"]:
        """Score t texts that are not in the index, by its counts of words and its mean length."""
        wanted = Counter(tokenise([query], self.language)[0])
        count, mean_length = len(self._words), np.mean([len(words) for words in self._words])
        known = self._index.vocab_dict
        frequencies = {word: self.frequency(word) if word in known else 0 for word in wanted}
        idf = {word: np.log1p((count - n + 0.5) / (n + 0.5)) for word, n in frequencies.items()}
        scores = np.zeros(len(documents), np.float32)
        for i, words in enumerate(tokenise(documents, self.language)):
            damping = K1 * (1 - B + B * len(words) / mean_length)
            for word, n in Counter(words).items():
                scores[i] += wanted[word] * idf.get(word, 0.0) * n / (n + damping)
        return scores * np.float32(self.scale)

    def frequency(self, word: str) -> int:
        """Return in how many answers a word of theirs stands, as `tokenise` gives it."""
        column = self._index.vocab_dict[word]
        first, last = self._index.scores["indptr"][column : column + 2].tolist()
        return int(last - first)

    def upsert(self, answers: pl.DataFrame, rows: Int[np.ndarray, " k"]) -> Bm25:
        """See `Signal.upsert`."""
        words = dict(enumerate(self._words))
        words |= zip(rows.tolist(), tokenise(answer_texts(answers), self.language), strict=True)
        return self._with_words([words[row] for row in range(len(words))])

    def select(self, mask: Bool[np.ndarray, " m"]) -> Bm25:
        """See `Signal.select`."""
        return self._with_words([self._words[row] for row in np.flatnonzero(mask)])

    def _with_words(self, words: list[list[str]]) -> Bm25:
        index = copy(self)
        index._words, index._index = words, _build_index(words)
        return index


def tokenise(texts: Sequence[str], language: str, *, stem: bool = True) -> list[list[str]]:
    """Return the words of each text, in lower case, without stop words; stemmed unless not.

    Words are stemmed where Snowball knows the language; bm25s knows stop words of fewer.
    """
    has_stemmer = stem and language in Stemmer.algorithms()
    words: list[list[str]] = _load_bm25s().tokenize(
        [space_words(text) for text in texts],
        token_pattern=WORD,
        stopwords=language if language in _STOP_WORDS else [],
        stemmer=Stemmer.Stemmer(language) if has_stemmer else None,  # no two threads share one
        return_ids=False,
        show_progress=False,
    )
    return words


@cache
def _load_bm25s() -> Any:  # noqa: ANN401 (bm25s has no types)
    import bm25s  # slow, and not needed by every ranker

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets DEBUG when it is imported
    return bm25s


def _build_index(words: list[list[str]]) -> Any:  # noqa: ANN401 (bm25s has no types)
    if not any(words):
        raise RankerError("no answer holds a word BM25 could index; check the answers' texts")
    index = _load_bm25s().BM25(k1=K1, b=B)
    index.index(words, show_progress=False)
    return index
