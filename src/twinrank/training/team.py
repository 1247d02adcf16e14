"""The processes that train together: those that were launched so, or met."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn import Parameter

from twinrank.training.tower_modules import Share, sharing

LAUNCHED = {"WORLD_SIZE": "1", "RANK": "0"}  # what launchers set, and what it is without one

Told = TypeVar("Told")


def is_main() -> bool:
    """Whether this is the process that writes and prints: the only one, or the first."""
    return int(os.environ.get("RANK", "0")) == 0


class TeamLostError(RuntimeError):
    """Another process of the team is gone, or unheard of for too long."""


class Team:
    """What the processes say to each other; with one of them nothing is said.

    Where they exchange something all must call, or those that do wait for ever.

    Args:
        size: how many they are.
        number: of this one; the first, 0, is the main process.
    """

    def __init__(self, size: int = 1, number: int = 0) -> None:
        self.size = size
        self.number = number

    @classmethod
    def launched(cls) -> Team:
        """The team that `accelerate launch` or torchrun started, or this process alone."""
        size, number = (int(os.environ.get(name, one)) for name, one in LAUNCHED.items())
        if size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(size, number)

    @classmethod
    def met(cls, place: TCPStore, size: int, number: int, *, patience_s: float) -> Team:
        """The team of those who meet at a place, on CPUs.

        Args:
            place: where they tell their addresses.
            size: how many will come.
            number: of this one.
            patience_s: how long to wait for another, now and later.

        Raises:
            TeamLostError: if not all of them come.
        """
        with _heard():
            distributed.init_process_group(
                "gloo",
                store=place,
                world_size=size,
                rank=number,
                timeout=timedelta(seconds=patience_s),
            )
        return cls(size, number)

    def leave(self) -> None:
        """End a team that met: nobody waits for this process any longer."""
        distributed.destroy_process_group()

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
        with _heard():
            distributed.all_gather(parts, padded)
        each, more = divmod(n, self.size)
        parts = [part[: each + (number < more)] for number, part in enumerate(parts)]
        parts[self.number] = own
        return torch.cat(parts)

    def through(
        self, tower: Callable[[Tensor], Tensor], features: Float[Tensor, "n d"]
    ) -> Float[Tensor, "n d"]:
        """What a tower makes of n rows, each process passing its share; gradients as `joined`."""
        if self.size == 1:
            return tower(features)
        rows = self.share(len(features))
        with sharing(Share(rows, len(features), self.summed)):
            own = tower(features[rows])
        return self.joined(own, len(features))

    def summed(self, own: Tensor) -> Tensor:
        """Everyone's tensor, added up, with gradients through all."""
        total: Tensor = _Summed.apply(own)  # type: ignore[no-untyped-call]
        return total

    def sum_gradients(
        self, parameters: Iterable[Parameter], alike: Iterable[Parameter] = ()
    ) -> None:
        """Add up everyone's gradients, in place: those of a loss over the rows of all.

        Args:
            parameters: of each the processes have a part of its gradient.
            alike: of each they all have the whole, but for rounding; they take the mean.
        """
        parts = [weight.grad for weight in parameters if weight.grad is not None]
        wholes = [weight.grad for weight in alike if weight.grad is not None]
        gradients = [*parts, *wholes]
        if self.size == 1 or not gradients:
            return
        for gradient in wholes:
            gradient /= self.size
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with _heard():
            distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, summed in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def told(self, what: Told) -> Told:
        """What the main process says."""
        if self.size == 1:
            return what
        said = [what]
        with _heard():
            distributed.broadcast_object_list(said)
        return said[0]


class _Summed(torch.autograd.Function):
    """all_reduce, whose gradient is the sum of everyone's: each has its part of the loss's rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ANN401, ARG004 (torch's own)
        return _added_up(own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401, ARG004
        return _added_up(gradient)


def _added_up(own: Tensor) -> Tensor:
    total = own.detach().clone()
    with _heard():
        distributed.all_reduce(total)
    return total


@contextmanager
def _heard() -> Iterator[None]:
    """Tell a process that is gone from all else that goes wrong."""
    try:
        yield
    except RuntimeError as error:
        raise TeamLostError(f"a process of the team is not heard of: {error}") from error
