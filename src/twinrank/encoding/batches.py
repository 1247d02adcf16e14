"""Which texts are encoded together, and how they become one array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

# Padded tokens: measured on CPU (from 4,096 on, activations leave its caches), a guess elsewhere.
TOKENS_A_BATCH = {"cpu": 1_024, "mps": 16_384, "cuda": 65_536}
# What a batch costs besides its tokens, in tokens, as a share of the budget: 32 on a CPU, measured.
BATCH_COST = 1 / 32


def tokens_a_batch(device: str) -> int:
    """How many padded tokens a device encodes at once."""
    return TOKENS_A_BATCH[device.split(":")[0]]


def plan(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Batches of texts alike in length, each of at most `budget` padded tokens.

    Where to cut the texts, sorted by length, is found by dynamic programming over the distinct
    lengths: many batches waste no padding, few cost less besides their tokens.
    In random order, so that the rate seen so far foretells the time left.

    Args:
        lengths: tokens of each text, one or more.
        budget: padded tokens; a longer text is a batch of its own.
    """
    order = np.argsort(lengths, kind="stable")
    widths, starts = np.unique(np.asarray(lengths, np.int64)[order], return_index=True)
    bounds = np.append(starts, len(order))
    most = np.maximum(budget // widths, 1)  # texts in a batch, by the width of its longest
    cost, cuts = np.zeros(len(bounds)), np.zeros(len(bounds), np.int64)
    for end, width in enumerate(widths, 1):
        texts = bounds[end] - bounds[:end]
        batches = -(-texts // most[end - 1])
        costs = cost[:end] + texts * width + batches * (BATCH_COST * budget)
        cuts[end] = costs.argmin()
        cost[end] = costs[cuts[end]]
    found: list[np.ndarray] = []
    end = len(widths)
    while end:
        rows = order[bounds[cuts[end]] : bounds[end]]
        found += np.array_split(rows, -(-len(rows) // most[end - 1]))
        end = cuts[end]
    if len(found) < 2:  # a query alone: the generator would cost it a tenth of a millisecond
        return found
    return [found[number] for number in np.random.default_rng(0).permutation(len(found))]


def padded(
    ids: Sequence[np.ndarray], pad: int
) -> tuple[Int64[np.ndarray, "n t"], Bool[np.ndarray, "n t"]]:
    """Some token sequences as one array, filled up with `pad`; and what of it is no padding."""
    lengths = np.array([len(sequence) for sequence in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    filled = np.full(mask.shape, pad, np.int64)
    filled[mask] = np.concatenate(ids)
    return filled, mask
