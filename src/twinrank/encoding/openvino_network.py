"""The transformer in OpenVINO, on the CPU: token ids in, cls and mean features out."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch

from twinrank.encoding.batches import padded
from twinrank.encoding.threads import Batch, spread

if TYPE_CHECKING:
    import openvino

TELEMETRY = "openvino_telemetry"
# Kernels made for a shape are kept; a service meets thousands of shapes, and by OpenVINO's own
# 5000 its memory doubles. So many are as fast.
KERNELS = 512


def load_openvino() -> ModuleType:
    """The module, without its telemetry: importing it would tell Google Analytics.

    OpenVINO has a stub of its own for where that package is absent. If somebody imported it
    before, it is as they wanted it.
    """
    if "openvino" in sys.modules or TELEMETRY in sys.modules:
        return import_module("openvino")
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails
    try:
        return import_module("openvino")
    finally:
        del sys.modules[TELEMETRY]


@cache
def core() -> openvino.Core:
    """OpenVINO's runtime, one a process."""
    made: openvino.Core = load_openvino().Core()
    return made


class OpenVinoNetwork:
    """A converted model on the CPU.

    Args:
        model: takes token ids and mask (n x t), gives features (n x 2 x d), all its weights fp32.
        pad: id of the padding token.
        precision: fp32; or bf16, in which all of the model computes but sums and norms.

    Raises:
        RuntimeError: if OpenVINO cannot compile it.
    """

    backend = "openvino"

    def __init__(self, model: openvino.Model, *, pad: int, precision: str) -> None:
        self._pad = pad
        able = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint = "bf16" if able and precision != "fp32" else "f32"
        self._settings = {"INFERENCE_PRECISION_HINT": hint, "CPU_RUNTIME_CACHE_CAPACITY": KERNELS}
        self._model = model
        self._requests: dict[tuple[int, int], SimpleQueue[openvino.InferRequest]] = {}
        self._ready(1, torch.get_num_threads())  # what cannot be compiled fails here

    @property
    def at_once(self) -> int:
        """How many batches are best computed at the same time."""
        return torch.get_num_threads()

    def map(self, batches: Sequence[Batch]) -> Iterator[np.ndarray]:
        """The features of each batch, in order; several threads take batches."""
        threads = self.at_once
        if not 1 < threads <= len(batches):
            yield from map(self.features, batches)
            return
        requests = self._ready(threads, threads)
        yield from spread(lambda batch: self._inferred(requests, batch), batches, threads)

    def features(self, ids: Batch) -> np.ndarray:
        """Cls and mean features, (n, 2, d) float32, of n token sequences."""
        return self._inferred(self._ready(1, torch.get_num_threads()), ids)

    def _inferred(self, requests: SimpleQueue[openvino.InferRequest], ids: Batch) -> np.ndarray:
        filled, mask = padded(ids, self._pad)
        request = requests.get()
        try:
            features: np.ndarray = request.infer([filled, mask.astype(np.int64)])[0]
        finally:
            requests.put(request)
        return features

    def _ready(self, streams: int, threads: int) -> SimpleQueue[openvino.InferRequest]:
        """Requests of the model compiled so that as many streams share as many threads."""
        shape = (streams, threads)
        if shape not in self._requests:
            sharing = {
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": threads,
                # Two processes that pin threads pin them to the same core.
                "ENABLE_CPU_PINNING": False,
            }
            compiled = core().compile_model(self._model, "CPU", {**self._settings, **sharing})
            requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
            for _ in range(streams):
                requests.put(compiled.create_infer_request())
            self._requests[shape] = requests
        return self._requests[shape]
