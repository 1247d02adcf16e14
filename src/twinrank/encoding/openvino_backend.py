"""The transformer in OpenVINO, on the CPU: converted from torch once, then run without torch.

A cached network is OpenVINO's XML, its raw weights, and `about.json`: the version of OpenVINO, the
length of both files, and the cosine of its features to torch's, checked when it was converted.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from twinrank.encoding.batches import map_in_threads, pad
from twinrank.encoding.hardware import count_threads
from twinrank.encoding.model_files import EncoderFiles
from twinrank.files import UNFINISHED, new_folder

if TYPE_CHECKING:
    import openvino

TELEMETRY = "openvino_telemetry"
# Kernels compiled for a shape are cached; a service meets thousands of shapes, and by OpenVINO's
# own limit of 5000 its memory doubles. This many are as fast.
MAX_CACHED_KERNELS = 512
MIN_COSINE = 0.9999  # of a converted network's features to torch's, both in fp32
FOLDER, MODEL, WEIGHTS, ABOUT = "network", "network.xml", "network.bin", "about.json"

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
    runtime: openvino.Core = load_openvino().Core()
    return runtime


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
        self._pad = pad_id
        has_bf16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 and precision != "fp32" else "f32",
            "CPU_RUNTIME_CACHE_CAPACITY": MAX_CACHED_KERNELS,
            "ENABLE_CPU_PINNING": False,  # two processes that pin threads pin them to one core
        }
        self._model = model
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


def open_openvino(files: EncoderFiles, precision: str, home: Path) -> OpenVinoBackend:
    """Open an encoder's network, from the cache if it was converted before.

    Args:
        files: the encoder's.
        precision: see `OpenVinoBackend`.
        home: the folder of this encoder in the cache.

    Raises:
        ConversionError: if it cannot be converted; that is cached too, and not tried again.
        RuntimeError: if OpenVINO cannot read or compile it.
        EncoderError: if torch cannot load the model.
    """
    with ExitStack() as stack:
        if not _read_about(home):
            with suppress(OSError):  # without a cache it is converted in each process
                home.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(home / ".lock"))
        model = _load(home) if _read_about(home) else _convert(files, home)
    return OpenVinoBackend(model, pad_id=files.pad, precision=precision)


def _read_about(home: Path) -> dict[str, Any]:
    """Read what this version of OpenVINO made of the model; nothing if its files are not whole."""
    folder = home / FOLDER
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        is_whole = about["openvino"] == load_openvino().__version__ and (
            "refused" in about or about["bytes"] == _sizes(folder)
        )
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return about if is_whole else {}


def _sizes(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_size for name in (MODEL, WEIGHTS)}


def _load(home: Path) -> openvino.Model:
    if reason := _read_about(home).get("refused"):
        raise ConversionError(reason)
    return core().read_model(home / FOLDER / MODEL)


def _convert(files: EncoderFiles, home: Path) -> openvino.Model:
    """Convert a model and cache it; or cache why that is not possible."""
    try:
        model, cosine = _convert_and_check(files)
    except ConversionError as error:
        with suppress(OSError):
            _write(home, None, {"refused": str(error)})
        raise
    try:
        _write(home, model, {"cosine": round(cosine, 6)})
    except OSError as error:
        log.warning("%s: the converted model cannot be kept there: %s", home, error.strerror)
        return model
    return _load(home)  # reads its weights from the file, in place of a copy in memory


def _convert_and_check(files: EncoderFiles) -> tuple[openvino.Model, float]:
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
        raise ConversionError(next(iter(str(error).splitlines()), type(error).__name__)) from error
    expected = network.features(sequences[2:])
    norms = np.linalg.norm(features, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosine = float(((features * expected).sum(axis=-1) / norms).min())
    if not cosine >= MIN_COSINE:
        raise ConversionError(f"its features are others once converted (cosine {cosine:.4f})")
    return model, cosine


def _write(home: Path, model: openvino.Model | None, about: dict[str, Any]) -> None:
    """Write a network, or a refusal alone, so that its folder appears whole or not at all."""
    openvino = load_openvino()
    for folder in home.glob(UNFINISHED):  # left by a kill
        shutil.rmtree(folder, ignore_errors=True)
    with new_folder(home / FOLDER) as folder:
        if model is not None:
            openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
            about = about | {"bytes": _sizes(folder)}
        about = {"openvino": openvino.__version__, **about}
        (folder / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        shutil.rmtree(home / FOLDER, ignore_errors=True)
