"""Features of the texts met last, in memory: what a service meets again is not encoded again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from threading import Lock

import numpy as np
from jaxtyping import Float

from twinrank.encoding.encoder import POOLINGS, Encoder

KEPT = 65_536  # texts; 384 wide that is 100 MB


class RecentFeatures:
    """Keeps the features of one encoder and pooling for the texts asked for last.

    Used where a `FeatureStore` is, but nothing of it outlives the process. Threads take turns, and
    so use the encoder in turns.

    Args:
        kept: how many texts; those of one call are kept besides.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.kept = kept
        self._features: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._turn = Lock()

    def features(
        self, encoder: Encoder, texts: Sequence[str], pooling: str, *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Features of n texts, as `FeatureStore.features` gives them."""
        keys = [_key(text) for text in texts]
        with self._turn:
            new = {
                key: text
                for key, text in zip(keys, texts, strict=True)
                if key not in self._features
            }
            if new:
                encoded = encoder.encode(list(new.values()), progress=progress)
                # A copy each, since a row of an array would hold all of it.
                rows = map(np.copy, encoded[:, POOLINGS.index(pooling)])
                self._features.update(zip(new, rows, strict=True))
            found = np.empty((len(texts), encoder.dim), np.float32)
            for row, key in zip(found, keys, strict=True):
                row[:] = self._features[key]
                self._features.move_to_end(key)
            while len(self._features) > self.kept:
                self._features.popitem(last=False)
            return found


def _key(text: str) -> bytes:
    """A digest, for a conversation is longer than its features."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
