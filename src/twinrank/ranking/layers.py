"""Layers that give several processes, each with some rows of a batch, what one would have made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
    """Dropout whose mask costs a byte an entry where that is drawn on a CPU.

    torch draws masks there one number at a time: a tenth of a training step, in a residual tower
    a fifth. The probability is met to the nearest 1/256, and the rest scaled by just that.
    Of a share, the mask is drawn for the whole batch, so that everyone's generator stays alike.
    """

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Zero entries at random while training."""
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        share = _SHARE.get()
        rows, whole = (share.rows, share.whole) if share else (slice(None), len(x))
        count = whole * x.shape[1]
        words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 8),))
        draws = words.view(torch.uint8)[:count].view(whole, -1)[rows]
        dropped = min(round(256 * self.p), 255)
        return x * (draws >= dropped).to(x.dtype).mul_(256 / (256 - dropped))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics are those of the whole batch, also for a share of it."""

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
