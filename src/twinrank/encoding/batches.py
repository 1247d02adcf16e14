"""Batches of token sequences: texts grouped by length, padded, and shared out to threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

# Padded tokens: measured on CPU (from 4,096 on, activations leave its caches), a guess elsewhere.
TOKENS_A_BATCH = {"cpu": 1_024, "mps": 16_384, "cuda": 65_536}
# Fixed cost of a batch, in tokens, as a share of the budget: 32 on a CPU, measured.
BATCH_COST = 1 / 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def tokens_a_batch(device: str) -> int:
    """Return how many padded tokens a device encodes at once."""
    return TOKENS_A_BATCH[device.split(":")[0]]


def plan_batches(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Group texts of similar length into batches of at most `budget` padded tokens.

    The texts are sorted by length; dynamic programming over the distinct lengths finds where to
    cut them: many batches waste little padding, few batches have little fixed cost.

    Args:
        lengths: tokens of each text, one text or more.
        budget: padded tokens; a longer text is a batch by itself.

    Returns:
        Row numbers of each batch; batches are shuffled, so that a progress bar's rate is unbiased.
    """
    order = np.argsort(lengths, kind="stable")
    widths, starts = np.unique(np.asarray(lengths, np.int64)[order], return_index=True)
    bounds = np.append(starts, len(order))
    max_texts = np.maximum(budget // widths, 1)  # in a batch, by the width of its longest text
    cost, cuts = np.zeros(len(bounds)), np.zeros(len(bounds), np.int64)
    for end, width in enumerate(widths, 1):
        texts = bounds[end] - bounds[:end]
        count = -(-texts // max_texts[end - 1])
        costs = cost[:end] + texts * width + count * (BATCH_COST * budget)
        cuts[end] = costs.argmin()
        cost[end] = costs[cuts[end]]
    batches: list[np.ndarray] = []
    end = len(widths)
    while end:
        rows = order[bounds[cuts[end]] : bounds[end]]
        batches += np.array_split(rows, -(-len(rows) // max_texts[end - 1]))
        end = cuts[end]
    if len(batches) == 1:  # one query alone: making a random generator would cost it .1 ms
        return batches
    return [batches[number] for number in np.random.default_rng(0).permutation(len(batches))]


def pad(sequences: Sequence[np.ndarray], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Stack n token sequences: their ids (n, t) int64, and a mask (n, t) int64, 0 at padding."""
    lengths = np.array([len(sequence) for sequence in sequences])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = np.concatenate(sequences)
    return ids, mask.astype(np.int64)


def map_in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    initializer: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """Apply a function to each item in several threads; yield the results in order.

    Each thread takes whole items: threads that share each small product wait for each other more
    than they compute. At most 2 * `threads` items are worked on ahead of the caller.
    `initializer` is called first in each thread.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, initializer=initializer) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
