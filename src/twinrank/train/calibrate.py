"""The scale that makes untrained scores probabilities, as far as one number can."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy import optimize, sparse

from twinrank.train.objectives import cross_entropy


def fit_scale(scores: Float[np.ndarray, "n m"], labels: sparse.csr_array) -> float:
    """The positive factor on scores with the lowest mean cross-entropy (Guo et al. 2017).

    It changes no rank; it lets the loss of BM25 and of the bare encoder be read beside that
    of trained towers. Fit it on the validation split.
    """
    table = torch.as_tensor(scores, dtype=torch.float64)
    right = torch.as_tensor(labels.toarray() > 0)
    found = optimize.minimize_scalar(
        lambda log_scale: float(cross_entropy(math.exp(log_scale) * table, right).mean()),
        bounds=(-7.0, 7.0),
        method="bounded",
    )
    return math.exp(found.x)
