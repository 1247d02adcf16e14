"""What is fitted on the validation split: the scale of scores, channels' weights, confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import optimize, sparse
from scipy.special import expit

from twinrank.errors import DivergedError
from twinrank.training.losses import cross_entropy

HOLD = 0.01  # nats a query that a weight one away from where it starts costs


def fit_scale(scores: Float[np.ndarray, "n m"], labels: sparse.csr_array) -> float:
    """The positive factor on scores with the lowest mean cross-entropy (Guo et al. 2017).

    It changes no rank; it lets the loss of BM25 and of the bare encoder be read beside that
    of trained towers. Fit it on the validation split.

    Raises:
        DivergedError: if a score is not finite; so do the other fits.
    """
    _check_finite(scores)
    table = torch.as_tensor(scores, dtype=torch.float64)
    right = torch.as_tensor(labels.toarray() > 0)
    found = optimize.minimize_scalar(
        lambda log_scale: float(cross_entropy(math.exp(log_scale) * table, right).mean()),
        bounds=(-7.0, 7.0),
        method="bounded",
    )
    return math.exp(found.x)


def fit_weights(
    parts: Mapping[str, Float[np.ndarray, "n m"]],
    labels: sparse.csr_array,
    start: Mapping[str, float],
) -> dict[str, float]:
    """The weights, none negative, whose sum of parts has the lowest mean cross-entropy.

    Args:
        parts: what each channel gives every answer (m) for every query (n).
        labels: n x m, one or more a query.
        start: a weight for each part; moving away costs `HOLD` times the square, so that few
            queries move it little.
    """
    names = list(parts)
    _check_finite(*parts.values())
    table = torch.stack([torch.as_tensor(np.asarray(parts[name], np.float64)) for name in names])
    right = torch.as_tensor(labels.toarray() > 0)
    origin = torch.tensor([start[name] for name in names], dtype=torch.float64)

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(values, requires_grad=True)
        loss = cross_entropy(torch.einsum("c,cnm->nm", weights, table), right).mean()
        loss = loss + HOLD * (weights - origin).square().sum()
        (slope,) = torch.autograd.grad(loss, weights)
        return float(loss.detach()), slope.numpy()

    found = optimize.minimize(
        cost, origin.numpy(), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(names)
    )
    return dict(zip(names, map(float, found.x), strict=True))


def fit_confidence(
    log_odds: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> tuple[float, float]:
    """Slope and intercept of Platt's curve: P(right) = 1 / (1 + exp(-(slope x + intercept))).

    As in his paper (1999), targets are drawn in from 0 and 1 by Laplace's rule, so that it
    stays finite where all are right, or all wrong. Without a query it is the log-odds' own.
    """
    _check_finite(log_odds)
    x = np.clip(log_odds, -20, 20)
    yes, no = int(right.sum()), int((~right).sum())
    target = np.where(right, (yes + 1) / (yes + 2), 1 / (no + 2))

    def cost(values: np.ndarray) -> tuple[float, np.ndarray]:
        z = values[0] * x + values[1]
        off = (expit(z) - target) / max(1, len(x))
        loss = float((np.logaddexp(0, z) - target * z).sum() / max(1, len(x)))
        return loss, np.array([(off * x).sum(), off.sum()])

    found = optimize.minimize(cost, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B")
    return float(found.x[0]), float(found.x[1])


def _check_finite(*arrays: np.ndarray) -> None:
    """Refuse what nothing can be fitted to."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise DivergedError(
            "scores of the validation split are not finite, so that nothing can be fitted to them; "
            "train anew with a lower learning_rate"
        )
