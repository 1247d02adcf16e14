"""Encoding all texts once, and what is stored of them."""

from __future__ import annotations

import math
from functools import partial

from twinrank.encoding import POOLINGS
from twinrank.encoding.feature_store import COMMIT_BYTES, KEY_BYTES
from twinrank.planning.constants import Assumed, Measured
from twinrank.planning.machine import Machine
from twinrank.planning.needs import FLOAT, Needs, Stage
from twinrank.planning.workload import Workload

LOOK_UP = 100  # bytes a text while its features are looked up: keys, their order, places


def encode(within: float) -> Stage:
    """The stage that encodes, by as many machines as do it within so many seconds."""
    return partial(_encode, within=within)


def _encode(w: Workload, machine: Machine, c: Measured, *, within: float) -> Needs:
    seconds = encode_seconds(w, machine, c)
    return Needs(
        stage="encode",
        memory=encode_bytes(w, c),
        room=machine.memory,
        disk=0.0,
        seconds=seconds,
        machines=max(1, math.ceil(seconds / within)),
        note=f"{w.texts:.3g} texts, {w.tokens:.3g} tokens" + _bound(w, machine, c),
        mend="one process holds all texts: encode them in parts, the store adds up",
        rests_on=(*encode_constants(machine), "process_bytes", "encode_token_bytes"),
    )


def store(w: Workload, machine: Machine, c: Measured) -> Needs:  # noqa: ARG001 (as all stages)
    """What the feature store keeps: a key and both poolings of each text, as its format has it."""
    return Needs(
        stage="feature store",
        memory=0.0,
        room=machine.memory,
        disk=w.texts * text_bytes(w.width),
        seconds=0.0,
        machines=0,
        note=f"{text_bytes(w.width):,} bytes a text",
        mend="",
        rests_on=(),
    )


def text_bytes(width: int) -> int:
    """Bytes of a text in the feature store, without SQLite's own: 7 % more, 384 wide."""
    return KEY_BYTES + len(POOLINGS) * width * FLOAT


def encode_bytes(w: Workload, c: Measured) -> float:
    """Bytes of the process that has all texts and, in the end, all features of one pooling."""
    texts = w.tokens * c.encode_token_bytes
    unpublished = min(COMMIT_BYTES, w.texts * text_bytes(w.width))
    return c.process_bytes + unpublished + texts + w.texts * (LOOK_UP + w.width * FLOAT)


def encode_seconds(w: Workload, machine: Machine, c: Measured) -> float:
    """Seconds in which one machine encodes all texts."""
    if machine.gpu:
        return max(_flop(w) / _gpu_rate(machine), _tokenising_seconds(w, machine, c))
    return core_seconds(_flop(w), w.texts, c) / machine.cores


def query_seconds(w: Workload, machine: Machine, c: Measured) -> tuple[float, float]:
    """Seconds of a core, and of the GPU, to encode a query."""
    flop = w.encoder.flop(w.query_tokens)
    if machine.gpu:
        return w.query_tokens / c.tokenise_tokens_s, flop / _gpu_rate(machine)
    return core_seconds(flop, 1, c), 0.0


def core_seconds(flop: float, texts: float, c: Measured) -> float:
    """Seconds of a core to encode some texts with so many FLOPs of products."""
    return flop / c.encode_flop_s + texts * c.encode_text_s


def _flop(w: Workload) -> float:
    asked = w.queries + w.validation
    return w.passages * w.encoder.flop(w.passage_tokens) + asked * w.encoder.flop(w.query_tokens)


def _tokenising_seconds(w: Workload, machine: Machine, c: Measured) -> float:
    return w.tokens / (c.tokenise_tokens_s * machine.cores)


def _bound(w: Workload, machine: Machine, c: Measured) -> str:
    """What keeps a GPU waiting, if anything does."""
    if machine.gpu and _tokenising_seconds(w, machine, c) > _flop(w) / _gpu_rate(machine):
        return f"; {machine.cores} cores make tokens more slowly than the GPU takes them"
    return ""


def _gpu_rate(machine: Machine) -> float:
    peak = machine.gpu.bf16_tflop_s * 1e12 if machine.gpu else 0.0
    return peak * Assumed.load().gpu_encode_share


def encode_constants(machine: Machine) -> tuple[str, ...]:
    """What the time to encode rests on."""
    if machine.gpu:
        return ("gpu_encode_share", "tokenise_tokens_s")
    return ("encode_flop_s", "encode_text_s")
