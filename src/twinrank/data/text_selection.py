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

from twinrank.data.sentences import split_sentences
from twinrank.data.texts import Readable
from twinrank.files import write_file
from twinrank.progress import progress_bar

log = logging.getLogger(__name__)

CountTokens = Callable[[Sequence[str]], np.ndarray]
Lines = list[tuple[int, str]]  # sentences of a text, each after the number of its section

TEXTS_AT_ONCE = 2048
SCORE_DIGITS = 9  # sums of the same values in another order are alike


@dataclass(frozen=True)
class Idf:
    """The document frequency of each word, over texts that training may see.

    Attributes:
        texts: how many there were.
        counts: for each word that stands in two of them or more, in how many.
    """

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
        """Give what is read of each text.

        Args:
            texts: any number; the words of 2,048 are in memory at once.
            progress: label of the progress bar, and of a line in the log that says how many
                texts were too long; none shows neither.
        """
        read = [text.whole for text in texts]
        long, cut = 0, 0
        with progress_bar(progress, len(texts)) as advance:
            for start in range(0, len(texts), TEXTS_AT_ONCE):
                chunk = texts[start : start + TEXTS_AT_ONCE]
                numbers = self._find_long([text.whole for text in chunk])
                chosen = self._choose([chunk[number] for number in numbers])
                for number, text in zip(numbers, chosen, strict=True):
                    read[start + number] = text or chunk[number].whole
                long += len(chosen)
                cut += chosen.count(None)
                advance(len(chunk))
        if progress and long:
            of_cut = f", but {cut:,} have none that fits, and are cut" if cut else ""
            counts = f"{long:,} of {len(texts):,} texts are longer than {self.budget} tokens"
            log.info("%s: %s; sentences are chosen%s", progress, counts, of_cut)
        return read

    def _find_long(self, texts: Sequence[str]) -> list[int]:
        """Find the numbers of the texts that are longer than the budget."""
        # What stands between white space is a token or more, so that few have to be counted.
        long = np.array([len(text.split()) > self.budget for text in texts])
        rest = np.flatnonzero(~long)
        long[rest] = self.count_tokens([texts[int(number)] for number in rest]) > self.budget
        numbers: list[int] = np.flatnonzero(long).tolist()
        return numbers

    def _choose(self, texts: Sequence[Readable]) -> list[str | None]:
        """Join the sentences chosen of each text, with its title; none where no sentence fits."""
        lines = [
            [(n, s) for n, part in enumerate(text.sections) for s in self._split(part)]
            for text in texts
        ]
        cost_of = self._count_pieces(texts, lines)
        chosen = [self._fill(t.title, part, cost_of) for t, part in zip(texts, lines, strict=True)]
        read: list[str | None] = [None] * len(texts)
        rest = [number for number, rows in enumerate(chosen) if rows]
        while rest:
            for i in rest:
                parts = (lines[i][row][1] for row in sorted(chosen[i]))
                read[i] = " ".join(filter(None, (texts[i].title, *parts)))
            tokens = self.count_tokens([f"{read[i]}" for i in rest])
            # Some tokenizers make more tokens of sentences together than of each alone.
            over = [i for i, count in zip(rest, tokens, strict=True) if count > self.budget]
            for i in over:
                chosen[i].pop()
                read[i] = None
            rest = [i for i in over if chosen[i]]
        return read

    def _split(self, text: str) -> list[str]:
        return split_sentences(text, self.language)

    def _count_pieces(self, texts: Sequence[Readable], lines: list[Lines]) -> dict[str, int]:
        """Count the tokens of each piece between white space, and those that every text has ("").

        Their sum is exact where the tokenizer splits at white space first, as BERT's does.
        """
        read = chain((text.title for text in texts), (s for part in lines for _, s in part))
        pieces = [*dict.fromkeys(piece for text in read for piece in text.split())]
        special, *counts = self.count_tokens(["", *pieces]).tolist()
        costs = {piece: n - special for piece, n in zip(pieces, counts, strict=True)}
        return {"": special, **costs}

    def _fill(self, title: str, lines: Lines, cost_of: dict[str, int]) -> list[int]:
        """Fill the budget with sentences of a text, from the best on; give their numbers."""
        left = self.budget - cost_of[""] - sum(cost_of[piece] for piece in title.split())
        chosen = []
        for row in self._rank(title, lines):
            cost = sum(cost_of[piece] for piece in lines[row][1].split())
            if cost <= left:
                chosen.append(row)
                left -= cost
        return chosen

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
    """Split texts into words of two letters, digits or underscores and more, in lower case.

    scikit-learn's default pattern, with marks, such as vowel signs, counted as letters.
    """
    words = pl.Series(texts, dtype=pl.String).str.to_lowercase().str.extract_all(r"\w{2,}")
    listed: list[list[str]] = words.to_list()
    return listed
