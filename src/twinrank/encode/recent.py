"""Features of the texts met last, in memory: what a service meets again is not encoded again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from twinrank.encode.encoder import POOLINGS, Encoder

KEPT = 65_536  # texts; 384 wide that is 100 MB


class RecentFeatures:
    """Keeps the features of one encoder and pooling for the texts asked for last.

    Used where a `FeatureStore` is, but nothing of it outlives the process.

    Args:
        kept: how many texts; those of one call are kept besides.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._features: OrderedDict[str, np.ndarray] = OrderedDict()

    def features(
        self, encoder: Encoder, texts: Sequence[str], pooling: str, *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Features of n texts, as `FeatureStore.features` gives them."""
        new = [text for text in dict.fromkeys(texts) if text not in self._features]
        if new:
            encoded = encoder.encode(new, progress=progress)[:, POOLINGS.index(pooling)]
            # A copy each, since a row of an array would hold all of it.
            self._features.update(zip(new, map(np.copy, encoded), strict=True))
        found = np.empty((len(texts), encoder.dim), np.float32)
        for row, text in zip(found, texts, strict=True):
            row[:] = self._features[text]
            self._features.move_to_end(text)
        while len(self._features) > self.kept:
            self._features.popitem(last=False)
        return found
