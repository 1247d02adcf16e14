"""A model in OpenVINO's form, XML and raw weights: converted from torch once, kept on disk."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from twinrank.encoding.batches import padded
from twinrank.encoding.model_files import EncoderFiles
from twinrank.encoding.network import Network, pooled, quiet
from twinrank.encoding.openvino_network import OpenVinoNetwork, core, load_openvino
from twinrank.files import new_folder, write_file

if TYPE_CHECKING:
    import openvino

log = logging.getLogger(__name__)

FOLDER, MODEL, WEIGHTS, ABOUT = "model", "network.xml", "network.bin", "about.json"
REFUSED = "refused.json"
NEAR = 0.9999  # cosine of its features to torch's, both in fp32


class ConversionError(Exception):
    """A model that OpenVINO cannot take, or that is another once it has; says why."""


def converted(home: Path, files: EncoderFiles) -> openvino.Model:
    """The model in OpenVINO's form, from `home` if it was kept there by this version of OpenVINO.

    Args:
        home: a folder for this model alone.
        files: the encoder's.

    Raises:
        ConversionError: if it cannot be converted; kept too, so that it is not tried again.
        EncoderError: if torch cannot load it.
    """
    kept = home / FOLDER
    if is_kept(home):
        return core().read_model(kept / MODEL)
    if why := _refused(home):
        raise ConversionError(why)
    try:
        model = _convert(files)
    except ConversionError as error:
        with suppress(OSError):
            write_file(home / REFUSED, json.dumps({load_openvino().__version__: str(error)}))
        raise
    try:
        _keep(model, kept)
    except (OSError, RuntimeError) as error:  # OpenVINO does not say it was the disk
        log.warning("%s: the converted model cannot be kept there: %s", home, _line(error))
        return model
    return core().read_model(kept / MODEL)


def is_kept(home: Path) -> bool:
    """Whether a model was kept there by this version of OpenVINO, and has its full length."""
    kept = home / FOLDER
    try:
        about = json.loads((kept / ABOUT).read_text(encoding="utf-8"))
        sizes = {name: (kept / name).stat().st_size for name in (MODEL, WEIGHTS)}
    except (OSError, ValueError):
        return False
    return bool(about == {"openvino": load_openvino().__version__, "bytes": sizes})


def _refused(home: Path) -> str | None:
    """Why this version of OpenVINO could not convert the model before; none if not tried."""
    try:
        reasons = json.loads((home / REFUSED).read_text(encoding="utf-8"))
        return str(reasons[load_openvino().__version__])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _convert(files: EncoderFiles) -> openvino.Model:
    network = Network(files, precision="fp32", device="cpu")
    traced, checked = _examples(files)
    try:
        with torch.inference_mode(), warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")  # tracing warns of what is checked below
            model = load_openvino().convert_model(_Pooled(network.model), example_input=traced)
        got = OpenVinoNetwork(model, pad=files.pad, precision="fp32").features(checked)
    except Exception as error:  # whatever tracing, converting or compiling find wrong with it
        raise ConversionError(_line(error)) from error
    near = cosines(got, network.features(checked)).min()
    if not near >= NEAR:
        raise ConversionError(f"its features are others once converted (cosine {near:.4f})")
    return model


class _Pooled(nn.Module):
    """Pooling is part of what is converted, so that hidden states need not leave it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pooled(self.model, ids, mask)


def _examples(files: EncoderFiles) -> tuple[tuple[Tensor, Tensor], list[np.ndarray]]:
    """What to trace the model with, and sequences of other lengths to check it on: random."""
    rng = np.random.default_rng(0)
    words = np.delete(np.arange(int(files.config.get("vocab_size") or 2)), files.pad)
    longest = min(files.position_limit or 100, 100)

    def sequences(*lengths: int) -> list[np.ndarray]:
        return [rng.choice(words, min(length, longest)) for length in lengths]

    filled, mask = padded(sequences(6, 9), files.pad)
    return (torch.from_numpy(filled), torch.from_numpy(mask).long()), sequences(3, 14, 100)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of vectors along the last axis."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    found: np.ndarray = (a * b).sum(-1) / norms
    return found


def _keep(model: openvino.Model, kept: Path) -> None:
    """Write a model so that its folder appears whole or not at all."""
    with new_folder(kept) as aside:
        load_openvino().save_model(model, aside / MODEL, compress_to_fp16=False)
        sizes = {name: (aside / name).stat().st_size for name in (MODEL, WEIGHTS)}
        about = {"openvino": load_openvino().__version__, "bytes": sizes}
        (aside / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        shutil.rmtree(kept, ignore_errors=True)


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
