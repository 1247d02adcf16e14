"""The losses that training minimises, each the formula and nothing else."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

STD_FLOOR = 1e-4


def cross_entropy(
    scores: Float[Tensor, "n m"],
    right: Bool[Tensor, "n m"],
    *,
    weights: Float[Tensor, " m"] | None = None,
) -> Float[Tensor, " n"]:
    """Return -log of the softmax mass on the right answers, per query, over all m answers.

    With one right answer it is the usual cross-entropy; with several, the mass on all of
    them: `log sum_all exp(s) - log sum_right exp(s)`. A query needs at least one right answer.
    With `weights` each column stands for as many answers in both sums over all: where weights are
    one over the odds to be drawn, they are those of importance sampling (Bengio and Senecal 2008).
    A right answer's weight has to be one.
    """
    rows, columns = right.nonzero(as_tuple=True)
    if len(rows) == len(scores):  # one each, the usual: exp of all those -inf takes long
        on_right = scores[rows, columns]
    else:
        on_right = scores.masked_fill(~right, -torch.inf).logsumexp(dim=-1)
    total = (scores if weights is None else scores + weights.log()).logsumexp(dim=-1)
    return total - on_right


def barlow_twins(
    f: Float[Tensor, "n d"],
    g: Float[Tensor, "n d"],
    *,
    off_diagonal: float = 5e-3,
    around: tuple[Float[Tensor, "r d"], Float[Tensor, "r d"]] | None = None,
) -> Float[Tensor, ""]:
    """Return sum (1 - c_ii)^2 + lambda sum c_ij^2: Barlow Twins (Zbontar et al. 2021).

    c = f'g / n (d x d) is the correlation of the features of two views, each feature
    standardised over the batch (arXiv 2103.03230). Row i of f and of g are views of one thing.

    The deviation is over n, and one below `STD_FLOOR` counts as `STD_FLOOR`: a constant feature
    has correlation zero. The paper's code adds 1e-5 to the variance instead.

    Args:
        f: vectors of one view.
        g: vectors of the other.
        off_diagonal: lambda.
        around: vectors of each view whose mean and deviation standardise instead of the
            batch's own.

    Raises:
        ValueError: if there are fewer than two pairs: nothing can be standardised over one.
    """
    if len(f) < 2:
        raise ValueError(f"{len(f)} pair in a Barlow Twins batch; correlations need two or more")
    around_f, around_g = around or (f, g)
    c = _standardise(f, around_f).T @ _standardise(g, around_g) / len(f)
    diagonal = c.diagonal()
    off = c.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + off_diagonal * off


def flat_loss(pairs: int, dim: int, off_diagonal: float = 5e-3) -> float:
    """Return the Barlow Twins loss to expect where partners are matched at random.

    For two columns of n standardised values in a uniformly random matching, E c = 0 and
    E c^2 = 1 / (n - 1) (the variance of a permutation statistic, Hoeffding 1951), whatever the
    values are. So the expected loss is d (1 + 1 / (n - 1)) + lambda d (d - 1) / (n - 1), whatever
    the head: there is no slope to walk down.

    Args:
        pairs: n, in the batch; two or more.
        dim: d, features that are not constant in the batch.
        off_diagonal: lambda.
    """
    return dim * (1 + 1 / (pairs - 1)) + off_diagonal * dim * (dim - 1) / (pairs - 1)


def _standardise(x: Float[Tensor, "n d"], around: Float[Tensor, "r d"]) -> Float[Tensor, "n d"]:
    variance, mean = torch.var_mean(around, dim=0, correction=0)
    return (x - mean) * variance.clamp_min(STD_FLOOR**2).rsqrt()
