"""Batches shared out to threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

Batch = Sequence[np.ndarray]


def spread(
    work: Callable[[Batch], np.ndarray],
    batches: Sequence[Batch],
    threads: int,
    prepare: Callable[[], None] | None = None,
) -> Iterator[np.ndarray]:
    """What `work` makes of each batch, in order; every thread takes whole batches of its own.

    Threads that share each small product wait for each other more than they compute, above all
    on a busy machine.

    Args:
        work: called in the threads, which must not disturb each other in it.
        batches: few are worked on ahead of what has been asked for.
        threads: how many.
        prepare: called first in each thread.
    """
    coming: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        for batch in batches:
            coming.append(pool.submit(work, batch))
            if len(coming) > 2 * threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
