"""Encoding on a cluster: texts handed out in chunks, features given back as they are ready."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from twinrank.cluster.connection import LOST, Slot, worker_error
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
    """Yield batches as `Encoder.batches` does, computed by the workers of the cluster.

    Each worker has the encoder and one chunk at a time; the chunk of a worker that dies is given
    out again. A new worker takes its place as soon as some machine has room for it.

    Args:
        encoder: it has to be found under its name on all machines.
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
    crew = _Crew(encoder, texts, workers or slot.count, slot)
    try:
        yield from crew.encode()
    finally:
        for worker in crew.workers:
            ray.kill(worker)


class _Crew:
    """Workers that encode chunks of texts.

    Attributes:
        workers: all that were begun.
    """

    def __init__(self, encoder: Encoder, texts: Sequence[str], workers: int, slot: Slot) -> None:
        size = max(LEAST, min(MOST, -(-len(texts) // (TURNS * workers))))
        starts = range(0, len(texts), size)
        self._due = deque(range(len(texts))[start : start + size] for start in starts)
        self._left, self._size = len(self._due), size
        self._count = min(workers, self._left)
        self._encoder, self._texts, self._slot = encoder, texts, slot
        self._replica: Any = ray.remote(Replica).options(**slot.options)
        self._under_way: dict[Any, tuple[Any, range | None]] = {}
        self.workers: list[Any] = []

    def encode(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows and features of each chunk; see `encoded_on_cluster`."""
        for _ in range(self._count):
            self._begin()
        deaths = 0
        while self._left:
            ready, _ = ray.wait(list(self._under_way), timeout=SAID_AFTER_S)
            if not ready:
                log.info("%d texts are left; waiting for a worker", self._size * self._left)
                continue
            worker, rows = self._under_way.pop(ready[0])
            try:
                result = ray.get(ready[0])
            except LOST as error:
                deaths += 1
                if deaths > DEATHS * self._count:
                    raise ClusterError(
                        f"{deaths} workers died, one after another: the logs of Ray on "
                        "their machines say why"
                    ) from error
                self._replace(rows)
                continue
            except RayTaskError as error:
                raise worker_error(error) from None
            if rows is None:
                _check_same(self._encoder, result)
            self._give(worker)
            if rows is not None:
                self._left, deaths = self._left - 1, 0
                yield np.array(rows), result

    def _begin(self) -> None:
        encoder = self._encoder
        settings = (encoder.name, encoder.max_tokens, encoder.precision, self._slot.device)
        worker = self._replica.remote(*settings)
        self.workers.append(worker)
        self._under_way[worker.begin.remote()] = (worker, None)

    def _give(self, worker: Any) -> None:  # noqa: ANN401 (Ray makes its class)
        if not self._due:
            ray.kill(worker)
            return
        rows = self._due.popleft()
        texts = [self._texts[row] for row in rows]
        self._under_way[worker.features.remote(texts)] = (worker, rows)

    def _replace(self, rows: range | None) -> None:
        """Begin a worker in place of a lost one, whose chunk is due again."""
        if rows is not None:
            log.info("a worker was lost; its %d texts are encoded by another", len(rows))
            self._due.appendleft(rows)
        self._begin()


def _check_same(encoder: Encoder, fingerprint: str) -> None:
    """Refuse what a worker would compute with other weights, or another tokenizer."""
    if fingerprint != encoder.fingerprint:
        raise ClusterError(
            f"{encoder.name}: a machine of the cluster has another encoder of this name "
            f"({fingerprint[:12]}, not {encoder.fingerprint[:12]}); copy it to all machines"
        )
