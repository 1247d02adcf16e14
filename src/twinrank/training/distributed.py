"""Collective calls of the processes that train together; in one process they do nothing.

All processes make the same calls in the same order: if one does not, the others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed
from torch.nn import Parameter

LAUNCHED_TIMEOUT = timedelta(days=1)  # the others wait while the main process encodes

Value = TypeVar("Value")


def join_launched() -> None:
    """Join the processes that torchrun or `accelerate launch` started, if there are several."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=LAUNCHED_TIMEOUT)


def process_count() -> int:
    """Count the processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Tell whether this process writes and prints: it is the only one, or the first."""
    if distributed.is_initialized():
        return distributed.get_rank() == 0
    return int(os.environ.get("WORLD_SIZE", "1")) < 2 or int(os.environ.get("RANK", "0")) == 0


def local_device(device: str) -> str:
    """Name the device of this process; each of several has a GPU of its own, if there are any."""
    if process_count() == 1:
        return device
    if torch.cuda.is_available() and device != "cpu":
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu"


def from_main(compute: Callable[[], Value]) -> Value:
    """Return in every process what a function gives in the main process."""
    if process_count() == 1:
        return compute()
    values = [compute() if is_main() else None]
    distributed.broadcast_object_list(values)
    return values[0]  # type: ignore[return-value]


def local_rows(n: int) -> slice:
    """Return this process's part of n rows; parts differ by one row at most."""
    return _parts(n)[distributed.get_rank()] if process_count() > 1 else slice(0, n)


def gather_rows(rows: Float[Tensor, "s d"], n: int) -> Float[Tensor, "n d"]:
    """Join the `local_rows` of every process to all n.

    Gradients flow through the rows of this process alone, times the number of processes: so their
    mean over processes, by `average_gradients`, is the gradient of one process.
    """
    if process_count() == 1:
        return rows
    parts = _parts(n)
    padded = rows.new_zeros(parts[0].stop, *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    gathered = [torch.empty_like(padded) for _ in parts]
    distributed.all_gather(gathered, padded)
    gathered = [g[: part.stop - part.start] for g, part in zip(gathered, parts, strict=True)]
    if rows.requires_grad:
        rows.register_hook(lambda gradient: gradient * process_count())
    gathered[distributed.get_rank()] = rows
    return torch.cat(gathered)


def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Replace each gradient by its mean over all processes."""
    gradients = [weight.grad for weight in parameters if weight.grad is not None]
    if process_count() == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / process_count()
    distributed.all_reduce(flat)
    means = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def _parts(n: int) -> list[slice]:
    count = process_count()
    ends = [number * (n // count) + min(number, n % count) for number in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
