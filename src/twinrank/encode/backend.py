"""Which library computes the encoder: torch, or OpenVINO where it is faster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from twinrank.encode.choice import Choice, choice_file, this_place
from twinrank.encode.conversion import ConversionError, converted, cosines, is_kept
from twinrank.encode.encoder import BACKENDS, Encoder
from twinrank.encode.kept import network_home
from twinrank.encode.network import Network
from twinrank.encode.openvino_network import OpenVinoNetwork
from twinrank.encode.probe import CONVERSATIONS, QUESTIONS, race
from twinrank.encode.resolve import EncoderFiles
from twinrank.errors import EncoderError

VARIABLE = "TWINRANK_BACKEND"
PROBED_FROM_BYTES = 2**22  # a smaller model is quick in either
SAME = 0.999  # cosine of features that differ by rounding alone, at least
INT8_NEAR = 0.995  # cosine of int8 features to those of fp32, at least

# What a library says that is broken, or takes no such model.
UNUSABLE = (ConversionError, ImportError, OSError, RuntimeError)

log = logging.getLogger(__name__)


def open_network(encoder: Encoder, files: EncoderFiles, asked: str) -> Network | OpenVinoNetwork:
    """The network of an encoder, in the backend that is asked for or faster here.

    Args:
        encoder: whose.
        files: its own.
        asked: one of BACKENDS; `auto` takes what $TWINRANK_BACKEND says, and else measures.

    Raises:
        EncoderError: if it cannot be loaded; or what is asked for is not installed, cannot take
            the model, or loses too much by int8.
    """
    if asked == "auto":
        asked = os.environ.get(VARIABLE) or "auto"
        if asked not in BACKENDS:
            raise EncoderError(f"{VARIABLE} is {asked!r}; set it to {' or '.join(BACKENDS)}")
    if encoder.precision == "int8":
        if asked == "torch":
            raise EncoderError("precision int8 takes the backend openvino; choose bf16 or fp32")
        asked = "openvino"
    if encoder.device != "cpu" and asked == "openvino":
        raise EncoderError(f"the backend openvino is for the CPU, not {encoder.device}")
    if encoder.device != "cpu" or asked == "torch":
        return _torch(encoder, files)
    there = find_spec("openvino") is not None
    if asked == "auto" and (files.bytes < PROBED_FROM_BYTES or not there):
        return _torch(encoder, files)
    if not there:
        raise EncoderError("openvino is not installed: pip install 'twinrank[openvino]'")
    home = network_home(encoder.identity)
    if asked == "auto":
        return _faster(encoder, files, home)
    opened = _int8 if encoder.precision == "int8" else _openvino
    try:
        return opened(encoder, files, home)
    except UNUSABLE as error:
        raise EncoderError(f"{encoder.name}: openvino cannot compute it: {error}") from error


def _torch(encoder: Encoder, files: EncoderFiles) -> Network:
    return Network(files, precision=encoder.precision, device=encoder.device)


def _openvino(
    encoder: Encoder, files: EncoderFiles, home: Path, precision: str | None = None
) -> OpenVinoNetwork:
    with nullcontext() if is_kept(home) else _held(home):
        model = converted(home, files)
    return OpenVinoNetwork(model, pad=files.pad, precision=precision or encoder.precision)


def _faster(encoder: Encoder, files: EncoderFiles, home: Path) -> Network | OpenVinoNetwork:
    """The network of the backend that was found faster here, or is now."""
    file = choice_file(home, encoder.precision, this_place(torch.get_num_threads()))
    choice = Choice.load(file)
    if choice is None:
        with _held(home):
            choice = Choice.load(file)  # another process may have found it meanwhile
            if choice is None:
                choice, network = _probed(encoder, files, home)
                _keep(choice, file)
                return network
    if choice.backend == "openvino":
        try:
            return _openvino(encoder, files, home)
        except UNUSABLE as error:
            log.warning("%s: openvino fails, so torch encodes: %s", encoder.name, error)
    return _torch(encoder, files)


def _probed(
    encoder: Encoder, files: EncoderFiles, home: Path
) -> tuple[Choice, Network | OpenVinoNetwork]:
    """Measure both backends."""
    ours = _torch(encoder, files)
    try:
        theirs = _openvino(encoder, files, home)
    except UNUSABLE as error:
        return _choice(encoder, "torch", reason=f"openvino cannot compute it: {error}"), ours
    questions, conversations = encoder.tokens(QUESTIONS), encoder.tokens(CONVERSATIONS)
    ids = [*questions, *conversations]
    near = float(cosines(ours.features(ids), theirs.features(ids)).min())
    if not near >= SAME:
        reason = f"openvino's features are others (cosine {near:.4f})"
        return _choice(encoder, "torch", cosine=near, reason=reason), ours
    networks: dict[str, Network | OpenVinoNetwork] = {"torch": ours, "openvino": theirs}
    speeds = race(networks, questions, conversations, torch.get_num_threads())
    gain = speeds["openvino"].times_faster(speeds["torch"])
    choice = _choice(
        encoder,
        "openvino" if gain > 1 else "torch",
        times_faster=max(gain, 1 / gain),
        cosine=near,
        ms={name: speed.as_dict() for name, speed in speeds.items()},
    )
    return choice, networks[choice.backend]


def _int8(encoder: Encoder, files: EncoderFiles, home: Path) -> OpenVinoNetwork:
    """The network in int8, once it is known that this encoder bears it."""
    network = _openvino(encoder, files, home)
    file = choice_file(home, encoder.precision, this_place(torch.get_num_threads()))
    choice = Choice.load(file)
    if choice is None:
        ids = encoder.tokens([*QUESTIONS, *CONVERSATIONS])
        exact = _openvino(encoder, files, home, "fp32")
        near = float(cosines(network.features(ids), exact.features(ids)).min())
        choice = _choice(encoder, "openvino", cosine=near)
        _keep(choice, file)
    if not (choice.cosine or 0) >= INT8_NEAR:
        raise EncoderError(
            f"{encoder.name}: int8 changes its features too much (cosine {choice.cosine:.4f} to "
            f"fp32, {INT8_NEAR} is asked for); choose precision bf16, fp32 or auto"
        )
    return network


def _choice(encoder: Encoder, backend: str, **found: Any) -> Choice:  # noqa: ANN401
    place = this_place(torch.get_num_threads())
    return Choice(encoder.name, encoder.max_tokens, encoder.precision, place, backend, **found)


def _keep(choice: Choice, file: Path) -> None:
    """Say what was found, and keep it."""
    log.info("%s", choice)
    try:
        choice.save(file)
    except OSError as error:
        log.warning("%s: cannot be kept there, and is found anew: %s", file.parent, error.strerror)


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """Hold the lock of an encoder's folder, if that can be written: two probes spoil each other."""
    with ExitStack() as stack:
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
            # A singleton, so that who holds it may ask for it again.
            stack.enter_context(FileLock(home / ".lock", is_singleton=True))
        yield
