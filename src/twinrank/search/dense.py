"""The dense channel: dot products of query and answer vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from twinrank.encode import POOLINGS, Encoder, FeatureStore
from twinrank.model import Towers

ROWS_A_CHUNK = 65_536


class Reader:
    """Texts to features of one pooling, from a store where it has them.

    Args:
        encoder: the frozen backbone.
        pooling: which of its poolings to read.
        store: keeps the features of every text seen; without one, each is encoded anew.
    """

    def __init__(self, encoder: Encoder, pooling: str, store: FeatureStore | None = None) -> None:
        self.encoder = encoder
        self.pooling = pooling
        self.store = store

    def __call__(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Features of texts; `progress` names the bar shown if it takes a while."""
        if self.store is None:
            pooled = self.encoder.encode(texts, progress=progress)
            return np.ascontiguousarray(pooled[:, POOLINGS.index(self.pooling)])
        return np.asarray(self.store.features(self.encoder, texts, self.pooling, progress=progress))


class Dense:
    """Scores answers by towers on the features of a frozen encoder.

    Args:
        reader: texts to features.
        towers: in eval mode.
        vectors: of the answers (m x d), through the answers' tower.
    """

    def __init__(self, reader: Reader, towers: Towers, vectors: Float[Tensor, "m d"]) -> None:
        self.reader = reader
        self.towers = towers
        self.vectors = vectors

    @classmethod
    def of(cls, reader: Reader, towers: Towers, answers: Float[np.ndarray, "m d"]) -> Dense:
        """The channel over answers given by their features."""
        dense = cls(reader, towers, torch.empty(0, towers.dim, device=towers.log_scale.device))
        dense._append(answers)
        return dense

    @torch.inference_mode()
    def scores(self, texts: Sequence[str]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer for every text."""
        return self.scores_of(self.reader(texts))

    @torch.inference_mode()
    def scores_of(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Scores of every answer for queries given by their features."""
        queries = self.towers.query(torch.as_tensor(features, device=self.vectors.device))
        table: np.ndarray = self.towers.scores(queries, self.vectors).cpu().numpy()
        return table

    def add(self, texts: Sequence[str]) -> None:
        """Take answers in, behind those there are."""
        self._append(self.reader(texts))

    def keep(self, rows: Bool[np.ndarray, " m"]) -> None:
        """Forget the answers whose row is false."""
        self.vectors = self.vectors[torch.as_tensor(rows)]

    @torch.inference_mode()
    def _append(self, features: Float[np.ndarray, "m d"]) -> None:
        device = self.vectors.device
        parts = [self.vectors]
        for start in range(0, len(features), ROWS_A_CHUNK):
            part = torch.as_tensor(features[start : start + ROWS_A_CHUNK], device=device)
            parts.append(self.towers.answer(part))
        self.vectors = torch.cat(parts)
