"""Ranking by candidates: full scores for those answers alone that could be among the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from twinrank.ranking.answer_index import AnswerIndex
from twinrank.ranking.dense import Dense
from twinrank.ranking.fused import Fused
from twinrank.ranking.order import best_first
from twinrank.ranking.passages import Passages, among
from twinrank.ranking.towers import total

CANDIDATES = 200  # of the index, and as many by all else
Row = dict[str, Float[np.ndarray, " c"]]


class Shortlist:
    """The candidates of each query: an index's best answers, and the best by all other parts.

    An answer is missed only if it is neither among the 200 nearest nor among the 200 that past
    queries, words and prior speak for most; its score is then below the last of both together.
    That is as exact as the index is, but for sections: the index goes by an answer's best one,
    and log(its sections) may lie between. Candidates are scored as without an index; the mass
    that confidence gives all others is left out.

    Args:
        index: of the vectors of the ranker's answers. Answers it has and the ranker has not, as
            when another process adds some, are passed over.
        ids: of all the ranker's answers, in their order.
    """

    def __init__(self, index: AnswerIndex, ids: Sequence[str]) -> None:
        self.index = index
        self._place(ids)

    def scored(
        self, channel: Dense | Fused, texts: Sequence[str], k: int
    ) -> Iterator[tuple[Int[np.ndarray, " c"], Row]]:
        """For each text the places of its candidates, rising, and their parts.

        Args:
            channel: scores them.
            texts: n queries.
            k: how many answers are wanted; there are no fewer candidates.
        """
        height = channel.at_once() if isinstance(channel, Fused) else max(1, len(texts))
        for start in range(0, len(texts), height):
            yield from self._chunk(channel, texts[start : start + height], max(k, CANDIDATES))

    def put(self, ids: Sequence[str], new: Sequence[str], vectors: Passages[Tensor]) -> None:
        """Follow a change of answers.

        Args:
            ids: of all answers, in their order.
            new: of those that came, or came in place of another.
            vectors: of all answers.
        """
        self._place(ids)
        self.index.remove(new)
        places = np.array([self._places[id_] for id_ in new], np.int64)
        chosen = among(vectors, places)
        self.index.add(new, chosen.of(chosen.rows.cpu().numpy()))

    def remove(self, ids: Sequence[str], gone: Iterable[str]) -> None:
        """Forget answers; `ids` are those that are left, in their order."""
        self.index.remove(gone)
        self._place(ids)

    def _place(self, ids: Sequence[str]) -> None:
        self._places = {id_: place for place, id_ in enumerate(ids)}

    def _chunk(
        self, channel: Dense | Fused, texts: Sequence[str], depth: int
    ) -> Iterator[tuple[Int[np.ndarray, " c"], Row]]:
        fused, dense = (channel, channel.dense) if isinstance(channel, Fused) else (None, channel)
        features = dense.reader(texts)
        beside = fused.beside(texts, features) if fused else {}
        weight = np.float32(fused.weights["dense"]) if fused else np.float32(1)
        for i, found in enumerate(self.index.search(dense.queries(features), depth)):
            known = [self._places[id_] for id_ in found.answers if id_ in self._places]
            places = np.sort(np.array(known, np.int64))
            if beside:
                others = total({name: part[i] for name, part in beside.items()})
                places = np.union1d(places, best_first(others, depth))
            near = dense.among(places).parts_of(features[i : i + 1])["dense"][0]
            parts = {name: part[i, places] for name, part in beside.items()}
            yield places, {"dense": weight * near, **parts}
