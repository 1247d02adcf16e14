"""TF-IDF sentence selection: the most telling sentences that an encoder's token budget holds."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Bool, Float, Int

from twinrank.data import Readable
from twinrank.progress import progress_bar
from twinrank.text.idf import Idf
from twinrank.text.scores import CountTokens, Scored
from twinrank.text.sentences import sentences

AT_ONCE = 2048
TITLE = -1  # in place of a section's number

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """What is read of a text that is longer than an encoder's budget: some of its sentences.

    Sentences are taken from best to worst by TF-IDF (see `Scored`), each if the budget still
    holds it. The title is always kept. What was taken goes back into its order.

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
        """What is read of each text.

        Args:
            texts: any number; the words of twice 2,048 are held at once.
            progress: label of the progress bar, and of a line in the log that says how many
                texts were too long; none shows neither.
        """
        read: list[str] = []
        long, cut = 0, 0
        chunks = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)]
        # Half of the work is other libraries' and lets Python go on: two chunks fill two cores.
        with progress_bar(progress, len(texts)) as advance, ThreadPoolExecutor(2) as pool:
            for some, (numbers, found) in zip(chunks, pool.map(self._of_long, chunks), strict=True):
                chosen = dict(zip(numbers, found, strict=True))
                read += [chosen.get(number) or text.whole for number, text in enumerate(some)]
                long += len(found)
                cut += found.count(None)
                advance(len(some))
        if progress and long:
            of_cut = f", but {cut:,} have none that fits, and are cut" if cut else ""
            counts = f"{long:,} of {len(texts):,} texts are longer than {self.budget} tokens"
            log.info("%s: %s; sentences are chosen%s", progress, counts, of_cut)
        return read

    def _of_long(self, texts: Sequence[Readable]) -> tuple[list[int], list[str | None]]:
        """The numbers of the texts that are longer than the budget; what is chosen of each."""
        numbers = self._too_long([text.whole for text in texts])
        return numbers, self._chosen([texts[number] for number in numbers]) if numbers else []

    def _too_long(self, texts: Sequence[str]) -> list[int]:
        """The numbers of the texts that are longer than the budget."""
        # What stands between white space is a token or more, so that few have to be counted.
        long = np.array([len(text.split()) > self.budget for text in texts])
        rest = np.flatnonzero(~long)
        long[rest] = self.count_tokens([texts[int(number)] for number in rest]) > self.budget
        numbers: list[int] = np.flatnonzero(long).tolist()
        return numbers

    def _chosen(self, texts: Sequence[Readable]) -> list[str | None]:
        """The sentences chosen of each text, with its title; none where no sentence fits."""
        lines, owner, section = self._lines(texts)
        title = section == TITLE
        scored = Scored(lines, owner, self.idf, self.count_tokens)
        order = _best_first(scored.score, owner, section if self.by_section else None)
        order = order[~title[order]]
        left = np.full(len(texts), self.budget - self.count_tokens([""])[0])
        left[owner[title]] -= scored.tokens[title]
        taken = _taken(order, owner, scored.tokens, left)
        while True:
            read = np.unique(owner[taken])
            joined = _joined(lines, owner, (taken | title) & np.isin(owner, read))
            over = read[self.count_tokens(joined) > self.budget]
            if not len(over):
                break
            # Some tokenizers make more tokens of sentences together than of each alone.
            taken[_worst(order, owner, taken & np.isin(owner, over))] = False
        found: list[str | None] = [None] * len(texts)
        for number, text in zip(read, joined, strict=True):
            found[number] = text
        return found

    def _lines(
        self, texts: Sequence[Readable]
    ) -> tuple[list[str], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Title and sentences of each text: n lines, whose they are, and of which section."""
        rows = [
            (line, number, place)
            for number, text in enumerate(texts)
            for place, part in enumerate((text.title, *text.sections), start=TITLE)
            for line in ([part] if place == TITLE else sentences(part, self.language))
            if line
        ]
        lines = [line for line, _, _ in rows]
        numbers = np.array([numbers for _, *numbers in rows], np.int64).reshape(-1, 2)
        return lines, numbers[:, 0], numbers[:, 1]


def _best_first(
    score: Float[np.ndarray, " n"],
    owner: Int[np.ndarray, " n"],
    section: Int[np.ndarray, " n"] | None,
) -> Int[np.ndarray, " n"]:
    """Lines text by text, each text's best first; with sections, each section's best, and so on.

    Of lines that score alike the earlier comes first.
    """
    score = score.round(9)  # sums of one value in another order are alike
    best = np.lexsort((-score, owner))
    if section is None:
        return best
    within = np.lexsort((-score, section, owner))
    new_text = np.diff(owner[within], prepend=-1) != 0
    starts = new_text | (np.diff(section[within], prepend=TITLE) != 0)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(within)), 0))
    turn = np.empty(len(within), np.int64)
    turn[within] = np.arange(len(within)) - first
    return np.lexsort((-score, turn, owner))


def _taken(
    order: Int[np.ndarray, " k"],
    owner: Int[np.ndarray, " n"],
    cost: Int[np.ndarray, " n"],
    left: Int[np.ndarray, " t"],
) -> Bool[np.ndarray, " n"]:
    """Which lines the budgets hold, if each is taken in its order where it still fits.

    Args:
        order: of k lines, text by text.
        owner: the text of each line.
        cost: of each line.
        left: what each text may cost.
    """
    taken = np.zeros(len(owner), dtype=bool)
    left = left.copy()
    texts, starts, counts = np.unique(owner[order], return_index=True, return_counts=True)
    for turn in range(counts.max(initial=0)):
        there = counts > turn
        texts, starts, counts = texts[there], starts[there], counts[there]
        lines = order[starts + turn]
        fits = cost[lines] <= left[texts]
        taken[lines[fits]] = True
        left[texts[fits]] -= cost[lines[fits]]
    return taken


def _worst(
    order: Int[np.ndarray, " k"], owner: Int[np.ndarray, " n"], among: Bool[np.ndarray, " n"]
) -> Int[np.ndarray, " t"]:
    """Of each text that has any among these lines, the last in order."""
    lines = order[among[order]][::-1]
    worst: np.ndarray = lines[np.unique(owner[lines], return_index=True)[1]]
    return worst


def _joined(
    lines: Sequence[str], owner: Int[np.ndarray, " n"], kept: Bool[np.ndarray, " n"]
) -> list[str]:
    """The kept lines of each text that has any, in their order."""
    of_texts = groupby(np.flatnonzero(kept).tolist(), key=lambda row: owner[row])
    return [" ".join(lines[row] for row in rows) for _, rows in of_texts]
