"""The order of answers by their scores."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def best_first(scores: Float[np.ndarray, " m"], k: int) -> np.ndarray:
    """Places of the k highest scores, highest first; of equal scores the earlier place first."""
    k = min(k, len(scores))
    cut = np.partition(scores, -k)[-k]  # the k-th highest score
    candidates = np.flatnonzero(scores >= cut)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
