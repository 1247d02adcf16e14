"""The processes that tune one encoder together; `accelerate launch` or torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import Parameter

Told = TypeVar("Told")


def is_main() -> bool:
    """Whether this is the process that writes and prints: the only one, or the first."""
    return int(os.environ.get("RANK", "0")) == 0


class Team:
    """What the processes say to each other; with one of them nothing is said.

    Where they exchange something all must call, or those that do wait for ever.
    """

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.number = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def device(self) -> str | None:
        """The device of this process among several; none for one, which may choose."""
        if self.size == 1:
            return None
        return f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"

    def share(self, n: int) -> slice:
        """This process's part of n rows; parts differ in length by one at most."""
        each, more = divmod(n, self.size)
        start = self.number * each + min(self.number, more)
        return slice(start, start + each + (self.number < more))

    def joined(self, own: Float[Tensor, "s d"], n: int) -> Float[Tensor, "n d"]:
        """All n rows from everyone's `share`; gradients flow through one's own alone."""
        if self.size == 1:
            return own
        longest = -(-n // self.size)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        each, more = divmod(n, self.size)
        parts = [part[: each + (number < more)] for number, part in enumerate(parts)]
        parts[self.number] = own
        return torch.cat(parts)

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Add up everyone's gradients, in place: those of a loss over the rows of all."""
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, summed in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def told(self, what: Told) -> Told:
        """What the main process says."""
        if self.size == 1:
            return what
        said = [what]
        distributed.broadcast_object_list(said)
        return said[0]
