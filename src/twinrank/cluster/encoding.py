"""Encoding on a cluster: texts handed out in chunks, features given back as they are ready."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from twinrank.cluster.connection import LOST, Slot, told_by
from twinrank.encoding import Encoder
from twinrank.errors import ClusterError

# Texts at a time, which is what a worker's death costs: enough to sort by length, few enough
# that all workers end at about the same time.
LEAST, MOST, TURNS = 32, 512, 8
DEATHS = 4  # a worker, with nothing encoded meanwhile, before all is given up
SAID_AFTER_S = 30.0

log = logging.getLogger(__name__)


class Replica:
    """The same encoder in another process.

    Args:
        name: see `Encoder`, and so for all others.
        max_tokens: where it cuts.
        precision: in what it computes, on whatever hardware: it is part of the features' key.
        device: where it runs.
    """

    def __init__(self, name: str, max_tokens: int, precision: str, device: str) -> None:
        self._asked = (name, max_tokens, precision, device)
        self._encoder: Encoder

    def begin(self) -> str:
        """Find the encoder here, and give its fingerprint; raised here, an error kills nobody."""
        name, max_tokens, precision, device = self._asked
        self._encoder = Encoder(name, max_tokens=max_tokens, precision=precision, device=device)
        return self._encoder.fingerprint

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """Features of n texts (n x 2 x d)."""
        return self._encoder.encode(texts)


def encoded_on_cluster(
    encoder: Encoder, texts: Sequence[str], *, workers: int | None = None, device: str = "auto"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What `Encoder.batches` gives, computed by the workers of the cluster.

    Each worker holds the encoder and has one chunk at a time; that of one who dies is given out
    again. A new worker takes the dead one's place as soon as some machine has room for it.

    Args:
        encoder: which; it has to be found under its name on all machines.
        texts: N of them.
        workers: how many; by default as many as the cluster has cores, or GPUs.
        device: where they compute; see `Slot`.

    Yields:
        Row numbers (n) in `texts`, and their features (n x 2 x d).

    Raises:
        ClusterError: if a machine has another encoder under that name, or workers die as fast as
            they begin.
        EncoderError: if a worker cannot load or run it.
    """
    slot = Slot.of(device)
    replica: Any = ray.remote(Replica).options(**slot.options)
    workers = workers or slot.there
    size = max(LEAST, min(MOST, -(-len(texts) // (TURNS * workers))))
    due = deque(range(len(texts))[start : start + size] for start in range(0, len(texts), size))
    crew: list[Any] = []
    under_way: dict[Any, tuple[Any, range | None]] = {}

    def begin() -> None:
        worker = replica.remote(encoder.name, encoder.max_tokens, encoder.precision, slot.device)
        crew.append(worker)
        under_way[worker.begin.remote()] = (worker, None)

    def give(worker: Any) -> None:  # noqa: ANN401 (Ray makes its class)
        if not due:
            ray.kill(worker)
            return
        rows = due.popleft()
        under_way[worker.features.remote([texts[row] for row in rows])] = (worker, rows)

    left, deaths = len(due), 0
    workers = min(workers, left)
    for _ in range(workers):
        begin()
    try:
        while left:
            ready, _ = ray.wait(list(under_way), timeout=SAID_AFTER_S)
            if not ready:
                log.info("%d texts are left; waiting for a worker", size * left)
                continue
            worker, rows = under_way.pop(ready[0])
            try:
                told = ray.get(ready[0])
            except LOST as error:
                deaths += 1
                if deaths > DEATHS * workers:
                    raise ClusterError(
                        f"{deaths} workers died, one after another: the logs of Ray on "
                        "their machines say why"
                    ) from error
                if rows is not None:
                    log.info("a worker was lost; its %d texts are encoded by another", len(rows))
                    due.appendleft(rows)
                begin()
                continue
            except RayTaskError as error:
                raise told_by(error) from None
            if rows is None:
                _check_same(encoder, told)
            give(worker)
            if rows is not None:
                left, deaths = left - 1, 0
                yield np.array(rows), told
    finally:
        for worker in crew:
            ray.kill(worker)


def _check_same(encoder: Encoder, fingerprint: str) -> None:
    """Refuse what a worker would compute with other weights, or another tokenizer."""
    if fingerprint != encoder.fingerprint:
        raise ClusterError(
            f"{encoder.name}: a machine of the cluster has another encoder of this name "
            f"({fingerprint[:12]}, not {encoder.fingerprint[:12]}); copy it to all machines"
        )
