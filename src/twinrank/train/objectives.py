"""What training minimises, each the formula and nothing else."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def cross_entropy(scores: Float[Tensor, "n m"], right: Bool[Tensor, "n m"]) -> Float[Tensor, " n"]:
    """-log of the softmax mass on the right answers, per query, over all m answers.

    With one right answer it is the usual cross-entropy; with several, the mass on all of
    them: `log sum_all exp(s) - log sum_right exp(s)`. A query needs at least one right answer.
    """
    on_right = scores.masked_fill(~right, -torch.inf).logsumexp(dim=-1)
    return scores.logsumexp(dim=-1) - on_right
