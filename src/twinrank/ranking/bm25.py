"""The BM25 channel: what words alone say, by bm25s."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import bm25s
import numpy as np
import polars as pl
import Stemmer
from jaxtyping import Bool, Float, Int

from twinrank.data import answer_texts
from twinrank.errors import RankerError

# The languages for which bm25s has a list of stop words.
_STOP_WORDS = frozenset(
    {"danish", "dutch", "english", "french", "german", "italian"}
    | {"norwegian", "portuguese", "russian", "spanish", "swedish", "turkish"}
)
logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets DEBUG when it is imported


class Bm25:
    """Scores answers for queries by BM25 (Lucene's variant, k1 = 1.5, b = 0.75).

    Args:
        answers: the text of each answer.
        language: a Snowball stemmer's name; stop words are dropped where bm25s knows them.
        scale: factor on the scores; it changes no rank.

    Raises:
        RankerError: if the answers hold no word at all.
    """

    def __init__(self, answers: Sequence[str], *, language: str, scale: float = 1.0) -> None:
        self.scale = scale
        self._language = language
        self._stop_words = language if language in _STOP_WORDS else []
        self._stemmer = Stemmer.Stemmer(language)
        self._answers = self._words(answers)
        self._index = self._indexed()

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer for every text; all zero where no word is shared."""
        table = np.zeros((len(texts), len(self._answers)), dtype=np.float32)
        for row, words in zip(table, self._words(texts), strict=True):
            if words:
                row[:] = self._index.get_scores(words)
        return table * np.float32(self.scale)

    def put(self, answers: pl.DataFrame, rows: Int[np.ndarray, " n"]) -> None:
        """Take n answers in, each at its row: in place of what is there, or right behind it all."""
        self._stemmer = Stemmer.Stemmer(self._language)  # a copy may stem in another thread
        known = dict(enumerate(self._answers))
        known |= zip(rows.tolist(), self._words(answer_texts(answers)), strict=True)
        self._answers = [known[row] for row in range(len(known))]
        self._index = self._indexed()

    def keep(self, rows: Bool[np.ndarray, " m"]) -> None:
        """Forget the answers whose row is false."""
        self._answers = [words for words, kept in zip(self._answers, rows, strict=True) if kept]
        self._index = self._indexed()

    def _indexed(self) -> bm25s.BM25:
        if not any(self._answers):
            raise RankerError("no answer holds a word BM25 could index; check the answers' texts")
        index = bm25s.BM25()
        index.index(self._answers, show_progress=False)
        return index

    def _words(self, texts: Sequence[str]) -> list[list[str]]:
        words: list[list[str]] = bm25s.tokenize(
            list(texts),
            stopwords=self._stop_words,
            stemmer=self._stemmer,
            return_ids=False,
            show_progress=False,
        )
        return words
