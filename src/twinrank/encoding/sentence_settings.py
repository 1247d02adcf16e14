"""The encoder's own settings, from its sentence-transformers files: pooling, prompts, layers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from twinrank.errors import EncoderError

MODULES, PROMPTS, TRANSFORMER = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)
SETTINGS_FILES = (MODULES, PROMPTS, TRANSFORMER, "[0-9]_*/config.json", "[0-9]_*/model.safetensors")
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # the first that is there
POOLING_FLAGS = {  # the form of older files, and the names of newer ones
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
erf = np.vectorize(math.erf, otypes=[np.float64])
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "torch.nn.modules.linear.Identity": lambda x: x,
    "torch.nn.modules.activation.Tanh": np.tanh,
    "torch.nn.modules.activation.ReLU": lambda x: np.maximum(x, 0),
    "torch.nn.modules.activation.Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "torch.nn.modules.activation.GELU": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
}


@dataclass(frozen=True)
class Dense:
    """A layer on top of the pooled features, computed in NumPy: activation(W x + b)."""

    folder: Path
    width: int
    activation: Callable[[np.ndarray], np.ndarray]

    @property
    def file(self) -> Path:
        """Where its weights are."""
        return self.folder / "model.safetensors"

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """Its tensors, by torch's names."""
        from safetensors.numpy import load_file

        try:
            return {name: array.astype(np.float32) for name, array in load_file(self.file).items()}
        except Exception as error:  # whatever safetensors finds wrong with it
            raise EncoderError(f"{self.file}: cannot be read: {error}; restore the file") from None

    def __call__(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n e"]:
        """Compute the layer."""
        products = features @ self.weights["linear.weight"].T
        mapped = self.activation(products + self.weights.get("linear.bias", np.float32(0)))
        return np.asarray(mapped, np.float32)


def normalise(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Scale features to length one; zero stays zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: np.ndarray = features / np.maximum(lengths, 1e-12)
    return unit


Layer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SentenceSettings:
    """How an encoder was trained to be read.

    Attributes:
        file: where it is said; None where nothing is, and the rest is the default.
        pooling: of tokens: `mean`, `cls`, or a name of another.
        includes_prompt: whether the tokens of a prompt are pooled too.
        query_prompt, document_prompt: what is read before a query and before an answer.
        max_tokens: of a text, if it says so.
        lower_case: whether a text is read in lower case, whatever the tokenizer does.
        layers: on top of pooling. One of length one at the end is left out: vectors are compared
            by cosine.
    """

    file: Path | None = None
    pooling: str = "mean"
    includes_prompt: bool = True
    query_prompt: str = ""
    document_prompt: str = ""
    max_tokens: int | None = None
    lower_case: bool = False
    layers: tuple[Layer, ...] = ()

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The layers that have weights."""
        return tuple(layer for layer in self.layers if isinstance(layer, Dense))


def read_sentence_settings(folder: Path) -> SentenceSettings:
    """Read the settings of an encoder's folder; the defaults where it has no `modules.json`.

    Raises:
        EncoderError: if a file is damaged, or names a module that is not computed here.
    """
    file = folder / MODULES
    if not file.is_file():
        return SentenceSettings()
    modules = read_json(file, list)
    pooling: dict[str, Any] = {}
    transformer = folder
    layers: list[Layer] = []
    for module in modules:
        kind, path = _check_module(file, module)
        if kind == "Transformer":
            transformer = folder / path
        elif kind == "Pooling":
            pooling = read_json(folder / path / "config.json")
        elif kind == "Dense":
            layers.append(_read_dense(folder / path))
        elif kind == "Normalize":
            layers.append(normalise)
    while layers and layers[-1] is normalise:
        layers.pop()
    optional = (folder / PROMPTS, transformer / TRANSFORMER)
    about, reading = (read_json(file) if file.is_file() else {} for file in optional)
    prompts = about.get("prompts") or {}
    return SentenceSettings(
        file=file,
        pooling=_name_pooling(pooling),
        includes_prompt=pooling.get("include_prompt", True) is not False,
        query_prompt=str(prompts.get("query") or ""),
        document_prompt=next((str(prompts[n]) for n in DOCUMENT_PROMPTS if prompts.get(n)), ""),
        max_tokens=reading.get("max_seq_length"),
        lower_case=bool(reading.get("do_lower_case")),
        layers=tuple(layers),
    )


def read_json(file: Path, kind: type = dict) -> Any:  # noqa: ANN401 (of the kind asked for)
    """Read a JSON object, or a list."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{file}: cannot be read: {error}; restore the file, or give the folder of a Hugging "
            "Face model"
        ) from None
    if not isinstance(content, kind):
        name = "object" if kind is dict else "list"
        raise EncoderError(f"{file}: not a JSON {name}; restore the file")
    return content


def _check_module(file: Path, module: Any) -> tuple[str, str]:  # noqa: ANN401 (any JSON)
    """Return kind and folder of a module; refuse what is code of its own, or lies elsewhere."""
    module = module if isinstance(module, dict) else {}
    path, (package, _, kind) = str(module.get("path", "")), str(module.get("type")).rpartition(".")
    known = ("Transformer", "Pooling", "Dense", "Normalize", "Dropout")
    if package.split(".")[0] != "sentence_transformers" or kind not in known:
        raise EncoderError(
            f"{file}: has a module {module.get('type')!r}, which is not computed here (only "
            f"{', '.join(known)} are); take another encoder, or a copy without {file.name}"
        )
    if Path(path).name != path or path == "..":
        raise EncoderError(f"{file}: the folder {path!r} is not inside; restore the file")
    return kind, path


def _name_pooling(config: dict[str, Any]) -> str:
    """Name the pooling of a configuration in its older or newer form."""
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for flag, name in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    return modes if isinstance(modes, str) else " + ".join(map(str, modes))


def _read_dense(folder: Path) -> Dense:
    config = read_json(folder / "config.json")
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    plain = config.get("module_input_name", "sentence_embedding") == "sentence_embedding"
    if name not in ACTIVATIONS or not plain or config.get("use_residual"):
        known = ", ".join(name.rpartition(".")[2] for name in ACTIVATIONS)
        raise EncoderError(
            f"{folder / 'config.json'}: a layer of a form that is not computed here ({known} of "
            "the pooled features are); take another encoder"
        )
    if not isinstance(config.get("out_features"), int):
        raise EncoderError(f"{folder / 'config.json'}: names no out_features; restore the file")
    layer = Dense(folder, config["out_features"], ACTIVATIONS[name])
    if not layer.file.is_file():
        raise EncoderError(
            f"{layer.file}: missing; save the model again by sentence-transformers "
            "(no pytorch_model.bin is read: it can run code)"
        )
    return layer
