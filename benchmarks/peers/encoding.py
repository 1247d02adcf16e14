"""What encoding takes, where the store has already done it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peers.files import write_whole
from twinrank.encoding import Encoder, FeatureStore


class TimedStore(FeatureStore):
    """A store that knows how long it would take to encode all that it is asked for.

    Features are computed once for all systems, and often before; a system that needs them is
    charged with encoding its texts anew all the same. That is measured once for each set of
    texts and kept.

    Args:
        kept: the folder for what was measured.
        root: of the store.
    """

    def __init__(self, kept: Path, root: Path | None = None) -> None:
        super().__init__(root)
        self._kept = kept
        self._asked: dict[str, tuple[Encoder, dict[str, None]]] = {}
        self.spent_s = 0.0

    def features(
        self, encoder: Encoder, texts: Sequence[str], pooling: str, *, progress: str | None = None
    ) -> np.ndarray:
        """As `FeatureStore.features`; what is asked is remembered."""
        began = time.perf_counter()
        self._asked.setdefault(encoder.fingerprint, (encoder, {}))[1].update(dict.fromkeys(texts))
        found = super().features(encoder, texts, pooling, progress=progress)
        self.spent_s += time.perf_counter() - began
        return found

    def elsewhere_s(self) -> float:
        """Seconds of encoding everything asked for, less those that the store took for it."""
        asked = [self._encoding_s(encoder, list(texts)) for encoder, texts in self._asked.values()]
        return sum(asked) - self.spent_s

    def _encoding_s(self, encoder: Encoder, texts: list[str]) -> float:
        told = hashlib.sha256(json.dumps([encoder.fingerprint, sorted(texts)]).encode())
        file = self._kept / f"{told.hexdigest()[:16]}.json"
        if not file.exists():
            encoder.encode(texts[:64])  # warm-up: the model is loaded
            began = time.perf_counter()
            encoder.encode(texts, progress="Timing the encoder")
            write_whole(file, json.dumps({"seconds": time.perf_counter() - began}))
        return float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
