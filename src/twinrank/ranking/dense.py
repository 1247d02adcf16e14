"""The dense channel: dot products of query and answer vectors, and the votes of past queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from twinrank.data import (
    Readable,
    answer_texts,
    readable_answers,
    readable_sections,
    section_texts,
)
from twinrank.data.text_selection import Selection
from twinrank.encoding import POOLINGS, Encoder, Store
from twinrank.ranking.memory import Past
from twinrank.ranking.passages import ROWS_A_CHUNK, Passages, among
from twinrank.ranking.towers import Towers, total

CELLS_A_CHUNK = 16_000_000  # products of queries with passages, or with past queries, at once
Parts = dict[str, Float[np.ndarray, "n m"]]


class Reader:
    """Texts to features of one pooling, from a store where it has them.

    Args:
        encoder: the frozen backbone.
        pooling: which of its poolings to read.
        store: keeps the features of every text seen; without one, each is encoded anew.
        selection: chooses sentences of what is longer than the encoder reads; without one, the
            encoder reads the beginning.
        sections: whether answers are read section by section.
    """

    def __init__(
        self,
        encoder: Encoder,
        pooling: str,
        store: Store | None = None,
        *,
        selection: Selection | None = None,
        sections: bool = False,
    ) -> None:
        self.encoder = encoder
        self.pooling = pooling
        self.store = store
        self.selection = selection
        self.sections = sections

    def __call__(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Features of queries; `progress` names the bar shown if it takes a while."""
        return self.features(self.queries(texts), progress=progress)

    def features(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Features of what is read, as `queries` and `passages` give it."""
        if self.store is None:
            pooled = self.encoder.encode(texts, progress=progress)
            return np.ascontiguousarray(pooled[:, POOLINGS.index(self.pooling)])
        return np.asarray(self.store.features(self.encoder, texts, self.pooling, progress=progress))

    def queries(self, texts: Sequence[str], *, progress: str | None = None) -> Sequence[str]:
        """What is read of queries."""
        if self.selection is None:
            return texts
        return self.selection([Readable.plain(text) for text in texts], progress=progress)

    def answers(self, answers: pl.DataFrame) -> Passages[np.ndarray]:
        """Features of the passages of answers (v x d)."""
        passages = self.passages(answers)
        return passages.of(self.features(passages.rows))

    def passages(
        self, answers: pl.DataFrame, *, progress: str | None = None
    ) -> Passages[list[str]]:
        """What is read of answers: each as a whole, or its sections."""
        owner: np.ndarray | None = None
        if self.selection is None and self.sections:
            texts, owner = section_texts(answers)
        elif self.selection is None:
            texts = answer_texts(answers)
        else:
            if self.sections:
                readable, owner = readable_sections(answers)
            else:
                readable = readable_answers(answers, by_section=self.selection.by_section)
            texts = self.selection(readable, progress=progress)
        return Passages(texts, owner, answers.height)


class Dense:
    """Scores answers by towers on the features of a frozen encoder.

    Args:
        reader: texts to features.
        towers: in eval mode.
        vectors: of the answers' passages (v x d), through the answers' tower, with offsets.
        past: the past queries that vote, if the towers have a memory; answers as here.
        offsets: of each answer (m x d), if training learned any.
    """

    def __init__(
        self,
        reader: Reader,
        towers: Towers,
        vectors: Passages[Tensor],
        past: Past | None = None,
        *,
        offsets: Float[Tensor, "m d"] | None = None,
    ) -> None:
        self.reader = reader
        self.towers = towers
        self.vectors = vectors
        self.past = past
        self.offsets = offsets

    @classmethod
    def of(
        cls,
        reader: Reader,
        towers: Towers,
        answers: Passages[np.ndarray],
        past: Past | None = None,
    ) -> Dense:
        """The channel over answers given by the features of their passages.

        Offsets that towers hold, as they do in training, go over to the channel's answers.
        """
        with torch.inference_mode():
            vectors = towers.shifted(answers.of(projected(towers, answers.rows)))
        held = towers.offsets
        return cls(
            reader, towers, vectors, past, offsets=None if held is None else held.detach().clone()
        )

    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer for every text."""
        return self.scores_of(self.reader(texts))

    def scores_of(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer for queries given by their features."""
        return total(self.parts_of(features))

    @torch.inference_mode()
    def parts_of(self, features: Float[np.ndarray, "n d"]) -> Parts:
        """What makes up the scores: `dense` alone, or with the votes of the `past`."""
        widest = max(len(self.vectors.rows), len(self.past.vectors) if self.past else 1)
        height = max(1, CELLS_A_CHUNK // widest)
        starts = range(0, max(1, len(features)), height)
        chunks = [self._parts(features[start : start + height]) for start in starts]
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    @torch.inference_mode()
    def queries(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Vectors of queries given by their features."""
        vectors: np.ndarray = self._queries(features).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def votes(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """The votes of the past alone, as `parts_of` gives them; takes a memory."""
        memory, past = self.towers.memory, self.past
        assert memory is not None and past is not None  # noqa: S101 (the caller has a past)
        votes: Tensor = memory(self._queries(features), past, self.vectors.answers)
        return votes.cpu().numpy()

    def among(self, places: Int[np.ndarray, " k"]) -> Dense:
        """The channel over k of its answers, without a past."""
        return Dense(self.reader, self.towers, among(self.vectors, places))

    def centres(self) -> Float[Tensor, "m d"]:
        """The mean of each answer's passages."""
        rows, owner = self.vectors.rows, self.vectors.owner
        if owner is None:
            return rows
        sums = rows.new_zeros(self.vectors.answers, rows.shape[1])
        sums = sums.index_add(0, torch.as_tensor(owner, device=rows.device), rows)
        return sums / torch.as_tensor(np.bincount(owner), device=rows.device)[:, None]

    def put(self, answers: pl.DataFrame, rows: Int[np.ndarray, " n"]) -> None:
        """Take n answers in, each at its row: in place of what is there, or right behind it all.

        What takes another's place keeps its offset; what comes behind has none.
        """
        passages, old = self.reader.answers(answers), self.vectors
        new = projected(self.towers, passages.rows)
        answers_now = max(old.answers, int(rows.max(initial=-1)) + 1)
        if self.offsets is not None:
            added = self.offsets.new_zeros(answers_now - old.answers, self.offsets.shape[1])
            self.offsets = torch.cat([self.offsets, added])
            into = rows if passages.owner is None else rows[passages.owner]
            new = new + self.offsets[torch.as_tensor(into)]
        before = np.arange(old.answers) if old.owner is None else old.owner
        stays = ~np.isin(before, rows)
        behind = rows if passages.owner is None else rows[passages.owner]
        owner = np.concatenate([before[stays], behind])
        order = np.argsort(owner, kind="stable")
        vectors = torch.cat([old.rows[torch.as_tensor(stays)], new])[torch.as_tensor(order)]
        owners = None if old.owner is None else owner[order]
        self.vectors = Passages(vectors, owners, answers_now)

    def keep(self, rows: Bool[np.ndarray, " m"]) -> None:
        """Forget the answers whose row is false, and the votes for them."""
        place = np.cumsum(rows) - 1
        self.vectors = among(self.vectors, np.flatnonzero(rows))
        if self.offsets is not None:
            self.offsets = self.offsets[torch.as_tensor(rows)]
        if self.past:
            stays = torch.as_tensor(rows)[self.past.answers]
            moved = torch.as_tensor(place)[self.past.answers[stays]]
            self.past = Past(self.past.vectors, self.past.voters[stays], moved)

    def _parts(self, features: Float[np.ndarray, "n d"]) -> Parts:
        parts = self.towers.parts(self._queries(features), self.vectors, self.past)
        return {name: part.cpu().numpy() for name, part in parts.items()}

    def _queries(self, features: Float[np.ndarray, "n d"]) -> Float[Tensor, "n d"]:
        return self.towers.query(torch.as_tensor(features, device=self.vectors.rows.device))


@torch.inference_mode()
def projected(towers: Towers, features: Float[np.ndarray, "v d"]) -> Float[Tensor, "v d"]:
    """Vectors of passages given by their features, through the answers' tower."""
    device = towers.log_scale.device
    parts = [torch.empty(0, towers.dim, device=device)]
    for start in range(0, len(features), ROWS_A_CHUNK):
        part = torch.as_tensor(features[start : start + ROWS_A_CHUNK], device=device)
        parts.append(towers.answer(part))
    return torch.cat(parts)
