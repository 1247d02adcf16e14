"""The transformer in OpenVINO, on the CPU: converted from torch once, then run without torch."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import psutil
from filelock import FileLock

from twinrank.encoding.batches import map_in_threads, pad
from twinrank.encoding.model_files import NETWORK_FILES, EncoderFiles
from twinrank.errors import first_line
from twinrank.files import UNFINISHED, new_folder

if TYPE_CHECKING:
    import openvino

TELEMETRY = "openvino_telemetry"
# Kernels compiled for a shape are cached; a service meets thousands of shapes, and by OpenVINO's
# own limit of 5000 its memory doubles. This many are as fast.
MAX_CACHED_KERNELS = 512
MIN_COSINE = 0.9999  # of a converted network's features to torch's, both in fp32
STARTING = Lock()
FOLDER, MODEL = "network", NETWORK_FILES[0]

log = logging.getLogger(__name__)


class ConversionError(Exception):
    """A model that OpenVINO cannot take, or whose features differ once it has; says why."""


def load_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would report the import to Google Analytics.

    OpenVINO has a stub for the absence of that package. If another module has imported either
    before, it stays as it is.
    """
    if "openvino" in sys.modules or TELEMETRY in sys.modules:
        return import_module("openvino")
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # makes its import fail
    try:
        return import_module("openvino")
    finally:
        del sys.modules[TELEMETRY]


@cache
def core() -> openvino.Core:
    """Return OpenVINO's runtime, one per process."""
    with STARTING:
        # On first use OpenVINO asks NumPy for its types under a lock of its own, and lets go of
        # Python's: of two threads that begin at once, each waits for the other for ever.
        load_openvino().Type.i64.to_dtype()
    runtime: openvino.Core = load_openvino().Core()
    return runtime


def count_threads() -> int:
    """Return how many threads compute: as torch says where it is loaded, else its default."""
    torch_threads = getattr(sys.modules.get("torch"), "get_num_threads", None)
    if torch_threads:
        return int(torch_threads())
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    cores = min(psutil.cpu_count(logical=False) or usable, usable)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(int(limit), cores) if limit.isdecimal() and int(limit) else cores


class OpenVinoBackend:
    """A converted network on the CPU.

    Args:
        model: takes token ids and mask (n, t), gives features (n, 2, d); its weights are fp32.
        pad_id: id of the padding token.
        precision: fp32; or bf16, in which all but sums and norms is computed.

    Raises:
        RuntimeError: if OpenVINO cannot compile it.
    """

    name = "openvino"

    def __init__(self, model: openvino.Model, *, pad_id: int, precision: str) -> None:
        self._model, self._pad = model, pad_id
        has_bf16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
            "CPU_RUNTIME_CACHE_CAPACITY": MAX_CACHED_KERNELS,
            "ENABLE_CPU_PINNING": False,  # two processes that pin threads pin them to one core
        }
        self._requests: dict[tuple[int, int], SimpleQueue[openvino.InferRequest]] = {}
        self._compile(1, count_threads())  # fails here if it cannot be compiled

    @property
    def parallel_batches(self) -> int:
        """How many batches are best computed at the same time."""
        return count_threads()

    def map(self, batches: Sequence[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield the features of each batch, in order; several threads take batches."""
        threads = count_threads()
        if not 1 < threads <= len(batches):
            yield from map(self.features, batches)
            return
        requests = self._compile(threads, threads)
        yield from map_in_threads(lambda batch: self._infer(requests, batch), batches, threads)

    def features(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """Return cls and mean features, (n, 2, d) float32, of n token sequences."""
        return self._infer(self._compile(1, count_threads()), sequences)

    def _infer(
        self, requests: SimpleQueue[openvino.InferRequest], sequences: Sequence[np.ndarray]
    ) -> np.ndarray:
        request = requests.get()
        try:
            features: np.ndarray = request.infer(list(pad(sequences, self._pad)))[0]
        finally:
            requests.put(request)
        return features

    def _compile(self, streams: int, threads: int) -> SimpleQueue[openvino.InferRequest]:
        """Compile the network once for so many streams that share so many threads."""
        if (streams, threads) not in self._requests:
            sharing = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
            compiled = core().compile_model(self._model, "CPU", {**self._settings, **sharing})
            requests: SimpleQueue[openvino.InferRequest] = SimpleQueue()
            for _ in range(streams):
                requests.put(compiled.create_infer_request())
            self._requests[streams, threads] = requests
        return self._requests[streams, threads]


def open_network(files: EncoderFiles, home: Path) -> openvino.Model:
    """Open an encoder's network: the packaged one, or that of the cache, converted there once.

    Args:
        files: the encoder's.
        home: the folder of this encoder in the cache, which has one for each version of OpenVINO.

    Raises:
        ConversionError: if it cannot be converted, or not be read where it is packaged.
        TwinrankError: if torch cannot load the model, or is not installed.
    """
    if files.packaged:
        if model := _read(files.folder):
            return model
        raise ConversionError(f"the packaged network cannot be read: {files.folder / MODEL}")
    folder = home / load_openvino().__version__ / FOLDER
    with ExitStack() as stack:
        if not folder.exists():
            with suppress(OSError):  # without a cache it is converted in each process
                folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder.parent / ".lock"))
        return _read(folder) or _convert_into(folder, files)


def _read(folder: Path) -> openvino.Model | None:
    """Read a converted network; None where there is none, or a damaged one."""
    try:
        return core().read_model(folder / MODEL) if (folder / MODEL).exists() else None
    except RuntimeError:
        return None


def _convert_into(folder: Path, files: EncoderFiles) -> openvino.Model:
    """Convert a model, and cache it."""
    for leftover in (folder, *folder.parent.glob(UNFINISHED)):  # damaged, or of a kill
        shutil.rmtree(leftover, ignore_errors=True)
    model = _convert(files)
    try:
        with new_folder(folder) as new:
            load_openvino().save_model(model, new / MODEL, compress_to_fp16=False)
    except (OSError, RuntimeError) as error:  # OpenVINO raises the latter
        log.warning("%s: what was converted cannot be kept there: %s", folder, first_line(error))
    return _read(folder) or model  # that of the file needs no copy of its weights in memory


def _convert(files: EncoderFiles) -> openvino.Model:
    """Convert a model, and compare its features with torch's on sequences of other lengths."""
    from twinrank.encoding.torch_backend import TorchBackend  # imports torch

    rng = np.random.default_rng(0)
    words = np.delete(np.arange(files.embeddings or 2), files.pad)
    max_tokens = min(files.position_limit or 100, 100)
    sequences = [rng.choice(words, min(length, max_tokens)) for length in (6, 9, 3, 14, 100)]
    network = TorchBackend(files, precision="fp32", device="cpu")
    try:
        model = network.convert(load_openvino().convert_model, sequences[:2])
        backend = OpenVinoBackend(model, pad_id=files.pad, precision="fp32")
        features = backend.features(sequences[2:])
    except Exception as error:  # whatever tracing, converting or compiling find wrong with it
        raise ConversionError(first_line(error)) from error
    expected = network.features(sequences[2:])
    norms = np.linalg.norm(features, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosine = float(((features * expected).sum(axis=-1) / norms).min())
    if not cosine >= MIN_COSINE:
        raise ConversionError(f"its features are others once converted (cosine {cosine:.4f})")
    return model
