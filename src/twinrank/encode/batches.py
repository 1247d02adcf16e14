"""Which texts are encoded together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Padded tokens: measured on CPU (from 4,096 on, activations leave its caches), a guess elsewhere.
TOKENS_A_BATCH = {"cpu": 1_024, "mps": 16_384, "cuda": 65_536}


def tokens_a_batch(device: str) -> int:
    """How many padded tokens a device encodes at once."""
    return TOKENS_A_BATCH[device.split(":")[0]]


def plan(lengths: Sequence[int], budget: int) -> list[np.ndarray]:
    """Batches of texts alike in length, each of at most `budget` padded tokens.

    In random order, so that the rate seen so far foretells the time left.
    """
    order = np.argsort(lengths, kind="stable")
    batches, first = [], 0
    for position in range(1, len(order) + 1):
        if position == len(order) or (position - first + 1) * lengths[order[position]] > budget:
            batches.append(order[first:position])
            first = position
    shuffled = np.random.default_rng(0).permutation(len(batches))
    return [batches[number] for number in shuffled]
