"""TF-IDF sentence selection: the most telling sentences that an encoder's token budget holds."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from twinrank.data.texts import Readable, space_words, split_sentences
from twinrank.files import write_file
from twinrank.progress import progress_bar

log = logging.getLogger(__name__)

CountTokens = Callable[[Sequence[str]], np.ndarray]
Lines = list[tuple[int, str]]  # sentences of a text, each after the number of its section

TEXTS_AT_ONCE = 2048
SCORE_DIGITS = 9  # sums of the same values in another order are alike


@dataclass(frozen=True)
class Idf:
    """The document frequency of each word that stands in two texts or more, and their number."""

    texts: int
    counts: dict[str, int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Idf:
        """Count the words of texts."""
        counts: Counter[str] = Counter()
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            words = split_words(texts[start : start + TEXTS_AT_ONCE])
            counts.update(chain.from_iterable(map(set, words)))
        return cls(len(texts), {word: n for word, n in sorted(counts.items()) if n > 1})

    def weight(self, word: str) -> float:
        """Give log((1 + texts) / (1 + texts with the word)) + 1, as scikit-learn does.

        A word that was never seen counts as one seen once: in the text that it is in.
        """
        return math.log((1 + self.texts) / (1 + self.counts.get(word, 1))) + 1

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        content = {"texts": self.texts, "counts": self.counts}
        write_file(file, json.dumps(content, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, stream: BinaryIO) -> Idf:
        """Read what `save` wrote."""
        return cls(**json.load(stream))


@dataclass(frozen=True)
class Selection:
    """Chooses sentences of a text that is longer than an encoder's budget.

    A sentence scores the TF-IDF of its words, summed and divided by their number; TF counts a word
    in the whole text. Sentences are taken from best to worst, each if the budget still holds it.
    The title is always read. What was taken goes back into its order.

    A text within the budget is read as it is. So is one of which no sentence fits, up to where
    the encoder cuts it.

    Attributes:
        idf: of words.
        language: of sentences, as Snowball calls it.
        count_tokens: how many tokens the encoder makes of each text, special ones included.
        budget: tokens the encoder reads, special ones included.
        by_section: take the best sentence of every section before the second best of any.
    """

    idf: Idf
    language: str
    count_tokens: CountTokens
    budget: int
    by_section: bool = False

    def __call__(self, texts: Sequence[Readable], *, progress: str | None = None) -> list[str]:
        """Give what is read of each text; with a label, show progress, and log how many are cut."""
        read = [text.whole for text in texts]
        long, cut = 0, 0
        with progress_bar(progress, len(texts)) as advance:
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                counts = self.count_tokens(read[start : start + TEXTS_AT_ONCE])
                for row in np.flatnonzero(np.asarray(counts) > self.budget) + start:
                    chosen = self._choose(texts[int(row)])
                    read[row] = chosen or read[row]
                    long += 1
                    cut += chosen is None
                advance(len(counts))
        if progress and long:
            of_cut = f", but {cut:,} have none that fits, and are cut" if cut else ""
            numbers = f"{long:,} of {len(texts):,} texts are longer than {self.budget} tokens"
            log.info("%s: %s; sentences are chosen%s", progress, numbers, of_cut)
        return read

    def _choose(self, text: Readable) -> str | None:
        """Join the best sentences that the budget holds, with the title; none where none fits.

        The sum of their costs is exact where the tokenizer splits at white space first, as BERT's
        does; of others the tokens of what was chosen are counted, and the worst go again.
        """
        lines = [
            (number, sentence)
            for number, part in enumerate(text.sections)
            for sentence in split_sentences(part, self.language)
        ]
        pieces = ["", text.title, *(sentence for _, sentence in lines)]
        special, of_title, *counts = self.count_tokens(pieces).tolist()
        left = self.budget - of_title
        chosen: list[int] = []
        for row in self._rank(text.title, lines):
            cost = counts[row] - special
            if cost <= left:
                chosen.append(row)
                left -= cost
        while chosen:
            parts = (text.title, *(lines[row][1] for row in sorted(chosen)))
            read = " ".join(filter(None, parts))
            if self.count_tokens([read])[0] <= self.budget:
                return read
            chosen.pop()
        return None

    def _rank(self, title: str, lines: Lines) -> list[int]:
        """Order the sentences of a text, best first; of those that score alike the earlier."""
        words = split_words([title, *(line for _, line in lines)])
        counts = Counter(chain.from_iterable(words))
        tf_idf = {word: count * self.idf.weight(word) for word, count in counts.items()}
        scores = [sum(tf_idf[w] for w in of_line) / max(len(of_line), 1) for of_line in words[1:]]
        order = sorted(range(len(lines)), key=lambda row: -round(scores[row], SCORE_DIGITS))
        if self.by_section:
            turns, next_turn = {}, Counter[int]()
            for row in order:
                section = lines[row][0]
                turns[row] = next_turn[section]
                next_turn[section] += 1
            order.sort(key=turns.__getitem__)
        return order


def split_words(texts: Sequence[str]) -> list[list[str]]:
    """Split texts into words of letters, marks, digits and underscores, in lower case.

    A word may have one letter: Danish å, i and ø are words.
    """
    spaced = pl.Series([space_words(text) for text in texts], dtype=pl.String)
    listed: list[list[str]] = spaced.str.to_lowercase().str.extract_all(r"\w+").to_list()
    return listed
