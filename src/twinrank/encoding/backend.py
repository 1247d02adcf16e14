"""Which library computes the encoder: on a CPU OpenVINO where it is installed, else torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from twinrank.encoding.conversion import ConversionError, converted, is_kept
from twinrank.encoding.encoder import BACKENDS, Encoder
from twinrank.encoding.kept import network_home
from twinrank.encoding.model_files import EncoderFiles
from twinrank.encoding.network import Network
from twinrank.encoding.openvino_network import OpenVinoNetwork
from twinrank.errors import EncoderError

VARIABLE = "TWINRANK_BACKEND"

# What a library says that is broken, or takes no such model.
UNUSABLE = (ConversionError, ImportError, OSError, RuntimeError)

log = logging.getLogger(__name__)


def open_network(encoder: Encoder, files: EncoderFiles, asked: str) -> Network | OpenVinoNetwork:
    """Load the network of an encoder, in the backend that is asked for.

    Args:
        encoder: the encoder.
        files: the files of that encoder.
        asked: one of BACKENDS; `auto` takes what $TWINRANK_BACKEND says, and else, on a CPU,
            OpenVINO if it is installed and can compute the model.

    Raises:
        EncoderError: if it cannot be loaded; or what is asked for is not installed, or cannot
            compute the model.
    """
    if asked == "auto":
        asked = os.environ.get(VARIABLE) or "auto"
        if asked not in BACKENDS:
            raise EncoderError(f"{VARIABLE} is {asked!r}; set it to {' or '.join(BACKENDS)}")
    if encoder.device != "cpu" and asked == "openvino":
        raise EncoderError(f"the backend openvino is for the CPU, not {encoder.device}")
    installed = find_spec("openvino") is not None
    if asked == "openvino" and not installed:
        raise EncoderError("openvino is not installed: pip install 'twinrank[openvino]'")
    if encoder.device == "cpu" and asked != "torch" and installed:
        try:
            return _openvino(encoder, files)
        except UNUSABLE as error:
            if asked == "openvino":
                message = f"{encoder.name}: openvino cannot compute it: {error}"
                raise EncoderError(message) from error
            log.warning("%s: openvino cannot compute it, so torch does: %s", encoder.name, error)
    return Network(files, precision=encoder.precision, device=encoder.device)


def _openvino(encoder: Encoder, files: EncoderFiles) -> OpenVinoNetwork:
    home = network_home(encoder.identity)
    with nullcontext() if is_kept(home) else _locked(home):
        model = converted(home, files)
    return OpenVinoNetwork(model, pad=files.pad, precision=encoder.precision)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Lock an encoder's folder, if that can be written, so that its model is converted once."""
    with ExitStack() as stack:
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(home / ".lock"))
        yield
