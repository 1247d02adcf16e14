"""A ranker's towers as plain layers, which any other tool computes.

BatchNorm is folded into the linear layer before it. A residual tower adds its input to what it
computes by layers alone, since GELU(x) - GELU(-x) = x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from twinrank.encoding.sentence_settings import ACTIVATIONS, Dense
from twinrank.ranking import DenseSignal, FrozenTowers
from twinrank.ranking.towers import BATCH_NORM_EPSILON

IDENTITY, RELU, GELU = (
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.activation.GELU",
)


@dataclass(frozen=True)
class Layer:
    """activation(W x + b); the activation by torch's name, as sentence-transformers has it."""

    weight: Float[np.ndarray, "e d"]
    bias: Float[np.ndarray, " e"]
    activation: str = IDENTITY


Layers = list[Layer | None]  # None scales to unit length


def list_layers(dense: DenseSignal, *, answers: bool) -> Layers:
    """Return the layers from pooled features to vectors of queries, or of answers."""
    towers = dense.towers
    activations = {function: name for name, function in ACTIVATIONS.items()}
    layers: Layers = []
    for layer in dense.reader.encoder.files.settings.layers:
        if isinstance(layer, Dense):
            weight = layer.weights["linear.weight"]
            bias = layer.weights.get("linear.bias", np.zeros(len(weight), np.float32))
            layers.append(Layer(weight, bias, activations[layer.activation]))
        else:
            layers.append(None)
    if towers.base:
        layers += _tower_layers(towers, "base")
    return layers + _tower_layers(
        towers, "answer_tower" if answers and towers.dual else "query_tower"
    )


def _tower_layers(towers: FrozenTowers, tower: str) -> Layers:
    """Return a tower as layers; see `FrozenTowers` for what it computes."""
    tensors = {
        name.removeprefix(f"{tower}."): tensor
        for name, tensor in towers.tensors.items()
        if name.startswith(f"{tower}.")
    }
    if towers.kind == "none":
        return [None]
    if towers.kind == "projection":
        return [_fold(tensors, "0", "1", RELU), _fold(tensors, "4", "5", IDENTITY)]
    first, last = tensors["mlp.1.weight"], tensors["mlp.4.weight"]
    dim = first.shape[1]
    same, none = np.eye(dim, dtype=np.float32), np.zeros(dim, np.float32)
    spread = np.concatenate([first * np.float32(dim**0.5), same, -same])
    bias = np.concatenate([tensors["mlp.1.bias"], none, none])
    joined = np.concatenate([last, same, -same], axis=1)
    return [None, Layer(spread, bias, GELU), Layer(joined, tensors["mlp.4.bias"]), None]


def _fold(tensors: Mapping[str, np.ndarray], linear: str, norm: str, activation: str) -> Layer:
    """Return a linear layer and the BatchNorm behind it as one layer."""
    weight, bias = tensors[f"{linear}.weight"], tensors[f"{linear}.bias"]
    factor = tensors[f"{norm}.weight"] / np.sqrt(
        tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON
    )
    shifted = (bias - tensors[f"{norm}.running_mean"]) * factor + tensors[f"{norm}.bias"]
    return Layer(weight * factor[:, None], shifted, activation)
