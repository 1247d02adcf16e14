"""A ranker's encoder and towers as one network, in a file of ONNX or OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from twinrank.encoding import POOLINGS
from twinrank.encoding.openvino_backend import load_openvino
from twinrank.encoding.torch_backend import TorchBackend
from twinrank.ranking import DenseSignal
from twinrank.sharing.layers import Layer, list_layers
from twinrank.training.tower_modules import Unit

OPSET = 18  # of ONNX
SAMPLE_TEXTS = ("one", "a second text, of another length")  # that the network is traced with
INPUTS = ["input_ids", "attention_mask"]


class Heads(nn.Module):
    """The towers on features of all poolings: (n, 2, d) in, the vectors of each tower out."""

    def __init__(self, towers: Sequence[nn.Module], pooling: int) -> None:
        super().__init__()
        self.towers, self.pooling = nn.ModuleList(towers), pooling

    def forward(self, features: Float[Tensor, "n 2 d"]) -> tuple[Tensor, ...]:
        """Return the vectors of one pooling's features."""
        return tuple(tower(features[:, self.pooling]) for tower in self.towers)


def write_onnx(dense: DenseSignal, folder: Path) -> None:
    """Write model.onnx: `input_ids` and `attention_mask` in, vectors out."""
    outputs = name_outputs(dense)
    options: dict[str, Any] = {
        "input_names": INPUTS,
        "output_names": outputs,
        "dynamic_axes": {name: {0: "texts", 1: "tokens"} for name in INPUTS}
        | {name: {0: "texts"} for name in outputs},
        "opset_version": OPSET,
        "dynamo": False,
    }

    def write(module: nn.Module, *, example_input: tuple[Tensor, ...]) -> None:
        torch.onnx.export(module, example_input, str(folder / "model.onnx"), **options)

    _convert(dense, write)


def write_openvino(dense: DenseSignal, folder: Path) -> None:
    """Write model.xml and model.bin, with inputs and outputs as those of `write_onnx`."""
    library = load_openvino()
    model = _convert(dense, library.convert_model)
    ports = zip((*model.inputs, *model.outputs), (*INPUTS, *name_outputs(dense)), strict=True)
    for port, name in ports:
        port.get_tensor().set_names({name})
    library.save_model(model, folder / "model.xml", compress_to_fp16=False)


def name_outputs(dense: DenseSignal) -> list[str]:
    """Return the names of a network's outputs: two where queries and answers differ."""
    return ["query_vector", "answer_vector"] if dense.towers.dual else ["vector"]


def _convert(dense: DenseSignal, convert_model: Any) -> Any:  # noqa: ANN401 (the library's own)
    """Convert the network by a function as `TorchBackend.convert` takes it."""
    reader, encoder = dense.reader, dense.reader.encoder
    sides = (False, True) if dense.towers.dual else (False,)
    towers = [nn.Sequential(*map(_build_layer, list_layers(dense, answers=side))) for side in sides]
    heads = Heads(towers, POOLINGS.index(reader.pooling)).eval()
    backend = TorchBackend(encoder.files, precision="fp32", device="cpu")
    return backend.convert(convert_model, encoder.tokens(SAMPLE_TEXTS), heads)


def _build_layer(layer: Layer | None) -> nn.Module:
    """Return a layer as a torch module."""
    if layer is None:
        return Unit()
    width, dim = layer.weight.shape
    linear = nn.Linear(dim, width)
    linear.load_state_dict({"weight": torch.tensor(layer.weight), "bias": torch.tensor(layer.bias)})
    return nn.Sequential(linear, getattr(nn, layer.activation.rpartition(".")[2])())
