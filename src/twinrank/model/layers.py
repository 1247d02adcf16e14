"""Layers that give several processes, each with some rows of a batch, what one would have made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Share:
    """The rows of a batch that this process passes through a tower; others pass the rest.

    Attributes:
        rows: which they are.
        whole: how many rows the batch has.
        summed: adds up everyone's tensor, with gradients; all processes have to call it.
    """

    rows: slice
    whole: int
    summed: Callable[[Tensor], Tensor]


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def sharing(share: Share) -> Iterator[None]:
    """Let the layers know that what they are given is a share."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


class Dropout(nn.Dropout):
    """torch's; of a share the mask is drawn for the whole batch, so that generators stay alike."""

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Zero entries at random while training."""
        share = _SHARE.get()
        if share is None or not self.training:
            return super().forward(x)
        mask = functional.dropout(x.new_ones(share.whole, x.shape[1]), self.p)
        return x * mask[share.rows]


class BatchNorm(nn.BatchNorm1d):
    """torch's; of a share too, the statistics are those of the whole batch (also on a CPU)."""

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Standardise each column over the batch while training, else by the running statistics."""
        share = _SHARE.get()
        if share is None or not self.training:
            return super().forward(x)
        n = share.whole
        mean = share.summed(x.sum(dim=0)) / n
        variance = share.summed((x - mean).square().sum(dim=0)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
