"""The question back to a query that says too little: which of two or three answers is meant."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import polars as pl

from twinrank.data.texts import answer_texts
from twinrank.ranking.bm25 import Bm25, tokenise

MAX_OPTIONS, MAX_TERMS = 3, 3
CANDIDATES = 5  # the best answers, of which options are chosen
# Chosen on validation of two data sets: docs/measurements/quality.md.
MIN_TOTAL_CONFIDENCE = 0.5  # of all options together: one of them is rather right than not
MIN_OPTION_CONFIDENCE = 0.05  # what is less likely is not worth reading
SAME_WORDS = 0.9  # share of the words of two texts that are in both


@dataclass(frozen=True)
class Option:
    """An answer that a query may mean.

    Attributes:
        confidence: the probability that it is right.
        terms: words that no other option has, nor its own title, the most telling first.
    """

    id: str
    title: str
    confidence: float
    terms: tuple[str, ...]


def choose_options(answers: pl.DataFrame, confidences: Sequence[float], language: str) -> list[int]:
    """Return the numbers of the answers to offer, of some, best first; none if it is not worth it.

    An answer that is nearly the same as one before is left out: its title has the same words, and
    nine of ten words of both texts are in both. Titles that differ are a choice, however alike
    the texts are: one is about Android, the other about iOS.
    """
    chosen: list[int] = []
    for number, confidence in enumerate(confidences[:CANDIDATES]):
        if confidence < MIN_OPTION_CONFIDENCE or len(chosen) == MAX_OPTIONS:
            break
        if not any(_is_nearly_same(answers[[number, option]], language) for option in chosen):
            chosen.append(number)
    total = sum(confidences[number] for number in chosen)
    return chosen if len(chosen) > 1 and total >= MIN_TOTAL_CONFIDENCE else []


def find_terms(
    answers: pl.DataFrame, chosen: Sequence[int], language: str, words: Bm25 | None
) -> list[tuple[str, ...]]:
    """Return the terms of the chosen answers, as they stand there, in lower case: by TF-IDF.

    How rare a word is, the signal of words knows; without one, all the answers given stand for
    the others.
    """
    texts = answer_texts(answers[list(chosen)])
    stems = tokenise(texts, language)
    titles = tokenise(answers["title"][list(chosen)].to_list(), language)
    frequency: Callable[[str], int]
    if words:
        count, frequency = words.width, words.frequency
    else:
        count = answers.height
        words_of = map(set, tokenise(answer_texts(answers), language))
        frequency = Counter(chain.from_iterable(words_of)).__getitem__
    terms = []
    for i, surface in enumerate(tokenise(texts, language, stem=False)):
        taken = set(titles[i]).union(*(stems[j] for j in range(len(stems)) if j != i))
        worth = {
            stem: times * math.log((1 + count) / frequency(stem))
            for stem, times in Counter(stems[i]).items()
            if stem not in taken and not stem.isdecimal()
        }
        first = dict(zip(reversed(stems[i]), reversed(surface), strict=True))
        best = sorted(worth, key=lambda stem: -worth[stem])[:MAX_TERMS]
        terms.append(tuple(first[stem] for stem in best))
    return terms


def _is_nearly_same(pair: pl.DataFrame, language: str) -> bool:
    titles = [set(words) for words in tokenise(pair["title"].to_list(), language)]
    if titles[0] != titles[1]:
        return False
    first, second = (set(words) for words in tokenise(answer_texts(pair), language))
    return len(first & second) >= SAME_WORDS * len(first | second)
