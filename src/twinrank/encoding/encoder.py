"""The frozen encoder: texts in, cls and mean features out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer, normalizers

from twinrank.arguments import count_of, path_of, texts_of
from twinrank.encoding.batches import plan_batches, tokens_a_batch
from twinrank.encoding.model_files import EncoderFiles, network_folder, resolve
from twinrank.errors import ArgumentError, EncoderError, TwinrankError
from twinrank.extras import check_installed
from twinrank.progress import progress_bar

if TYPE_CHECKING:
    from twinrank.encoding.openvino_backend import OpenVinoBackend
    from twinrank.encoding.torch_backend import TorchBackend

POOLINGS = ("cls", "mean")
PRECISIONS = ("auto", "fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda", "mps")
BACKENDS = ("auto", "torch", "openvino")
BACKEND_VARIABLE = "TWINRANK_BACKEND"
# Texts that are sorted by length together; only these are in memory as tokens.
TEXTS_A_CHUNK = 16_384
TEXTS_PER_TOKENISING = 1_024  # the tokenizer holds more of a text than its ids
# A Linux machine with none of these has no accelerator, so torch need not be asked.
ACCELERATOR_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}

log = logging.getLogger(__name__)


class Encoder:
    """A pre-trained backbone that turns texts into features; its weights never change.

    Making one reads config and tokenizer; the model loads at the first `encode`.

    Args:
        name: a folder, a model of the Hugging Face hub, or `all-MiniLM-L6-v2`.
        max_tokens: longer texts are cut there; special tokens count.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the hardware computes it faster, else
            fp32.
        device: `cpu`, `cuda`, `mps`, or `auto`: an accelerator if there is one.
        backend: the library that computes on a CPU: `torch`, `openvino`, or `auto`: what
            $TWINRANK_BACKEND says, else OpenVINO where it is installed. It is not part of the
            identity: features differ by rounding alone.

    Raises:
        EncoderError: if there is no such encoder, or it is unsafe, incomplete or too short, or its
            tokenizer has ids that the model has no embedding for.
    """

    def __init__(
        self,
        name: str = "all-MiniLM-L6-v2",
        *,
        max_tokens: int = 128,
        precision: str = "auto",
        device: str = "auto",
        backend: str = "auto",
    ) -> None:
        path_of(name, "name")
        self.name = str(name)
        self.max_tokens = count_of(max_tokens, "max_tokens")
        self.files = resolve(self.name)
        self._choices = (precision, device, backend)
        self.width = self.files.dim
        if self.max_tokens < 3:
            raise EncoderError(
                f"max_tokens {max_tokens} is too few: two are special; give 3 or more"
            )
        if self.longest is not None and self.max_tokens > self.longest:
            raise EncoderError(
                f"{name}: reads at most {self.longest} tokens, not {max_tokens}; lower max_tokens"
            )
        for option, value, choices in (
            ("precision", precision, PRECISIONS),
            ("device", device.partition(":")[0], DEVICES),
            ("backend", backend, BACKENDS),
        ):
            if value not in choices:
                raise EncoderError(f"{option} {value!r} is unknown; choose {' or '.join(choices)}")
        self.tokenizer = load_tokenizer(self.files)
        self.tokenizer.enable_truncation(self.max_tokens)

    @property
    def longest(self) -> int | None:
        """How many tokens it could read, if it says so."""
        return self.files.position_limit

    @property
    def dim(self) -> int:
        """Width of what `head` gives; that of `encode` is `width`."""
        dense = self.files.settings.dense
        return dense[-1].width if dense else self.width

    @property
    def pooling(self) -> str:
        """The pooling that it was trained with: `mean` where its files do not say.

        Raises:
            EncoderError: if it is one that is not computed here.
        """
        pooling = self.files.settings.pooling
        if pooling not in POOLINGS:
            raise EncoderError(
                f"{self.name}: pools by {pooling}, which is not computed here; give "
                f"pooling = '{POOLINGS[1]}' or '{POOLINGS[0]}', or take another encoder"
            )
        return pooling

    @property
    def query_prompt(self) -> str:
        """What it was trained to read before a query."""
        return self.files.settings.query_prompt

    @property
    def document_prompt(self) -> str:
        """What it was trained to read before an answer."""
        return self.files.settings.document_prompt

    def check_prompts(self) -> None:
        """Refuse prompts where their tokens are to be left out of the pooling."""
        if not self.files.settings.includes_prompt:
            raise EncoderError(
                f"{self.name}: leaves prompts out of its pooling (include_prompt = false), which "
                "is not computed here; give query_prompt = '' and document_prompt = ''"
            )

    def list_differences(self, choices: Mapping[str, Any]) -> list[str]:
        """Say where choices differ from the encoder's own settings, a line each."""
        settings = self.files.settings
        if settings.file is None:
            if choices["pooling"] == "auto":
                return ["the encoder has no modules.json: pooling is mean, without prompts"]
            return []
        lines = [
            f"{name} is {choice!r}, which the encoder's own settings have as {stated!r}"
            for name in ("pooling", "query_prompt", "document_prompt")
            if (choice := choices[name]) not in (None, "auto", stated := getattr(settings, name))
        ]
        if settings.max_tokens and self.max_tokens > settings.max_tokens:
            lines.append(f"reads {self.max_tokens} tokens; its own limit is {settings.max_tokens}")
        return lines

    def head(self, features: np.ndarray) -> np.ndarray:
        """Apply the layers on top of pooled features (n, width): gives (n, dim)."""
        for layer in self.files.settings.layers:
            features = layer(features)
        return features

    @cached_property
    def device(self) -> str:
        """Where the model runs: cpu, cuda or mps."""
        wanted = self._choices[1]
        return "cpu" if wanted == "auto" and self.files.packaged else resolve_device(wanted)

    @cached_property
    def precision(self) -> str:
        """In what it computes: fp32 or bf16."""
        return resolve_precision(self._choices[0], self.device)

    @cached_property
    def identity(self) -> str:
        """sha256 (hex) of what the encoder is: weights, config, tokenizer and max_tokens."""
        return self.files.digest(self.max_tokens)

    @property
    def fingerprint(self) -> str:
        """Identity and precision: the key of stored features."""
        return f"{self.identity}-{self.precision}"

    @property
    def backend(self) -> str:
        """The library that computes: torch or openvino; loads the model."""
        return self._backend.name

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> np.ndarray:
        """Return cls and mean features, (N, 2, d) float32, of N texts, in the order of POOLINGS.

        Args:
            texts: N texts.
            progress: label of the progress bar; None shows none.
        """
        texts = _as_list(texts)
        features = np.empty((len(texts), len(POOLINGS), self.width), np.float32)
        with progress_bar(progress, len(texts)) as advance:
            for rows, batch in self.batches(texts):
                features[rows] = batch
                advance(len(rows))
        return features

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield features as they are ready: row numbers (n) in `texts`, and their (n, 2, d)."""
        texts = _as_list(texts)
        for start in range(0, len(texts), TEXTS_A_CHUNK):
            sequences = list(tokenise(self.tokenizer, texts[start : start + TEXTS_A_CHUNK]))
            lengths = [len(sequence) for sequence in sequences]
            share = -(-sum(lengths) // self._backend.parallel_batches)  # few texts use all threads
            batches = plan_batches(lengths, min(tokens_a_batch(self.device), share))
            inputs = [[sequences[row] for row in rows] for rows in batches]
            for rows, features in zip(batches, self._backend.map(inputs), strict=True):
                if not np.isfinite(features).all():
                    raise EncoderError(
                        f"{self.name}: features are not finite in {self.precision}; "
                        "try precision='fp32', or check the weights"
                    )
                yield rows + start, features

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the token ids of each text as the model reads it: cut, special ones included."""
        return list(tokenise(self.tokenizer, _as_list(texts)))

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Count the tokens of N texts before cutting, special ones included; loads no model."""
        sequences = tokenise(self._uncut_tokenizer, _as_list(texts))
        return np.array([len(sequence) for sequence in sequences], np.int64)

    @cached_property
    def _uncut_tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.files)

    @cached_property
    def _backend(self) -> TorchBackend | OpenVinoBackend:
        backend = self._choices[2]
        if backend == "auto":
            backend = os.environ.get(BACKEND_VARIABLE) or "auto"
            if backend not in BACKENDS:
                choices = " or ".join(BACKENDS)
                raise EncoderError(f"{BACKEND_VARIABLE} is {backend!r}; set it to {choices}")
        is_installed = find_spec("openvino") is not None
        if self.files.packaged:
            if backend == "torch":
                raise EncoderError(
                    f"{self.name}: is packaged for OpenVINO, not for torch; unset "
                    f"{BACKEND_VARIABLE}, or use the ranker that was packaged"
                )
            backend = "openvino"
        if backend == "openvino" and self.device != "cpu":
            raise EncoderError(f"the backend openvino is for the CPU, not {self.device}")
        if backend == "openvino" and not is_installed:
            raise EncoderError("openvino is not installed: pip install 'twinrank[openvino]'")
        if self.device == "cpu" and backend != "torch" and is_installed:
            from twinrank.encoding.openvino_backend import (
                ConversionError,
                OpenVinoBackend,
                open_network,
            )

            try:
                network = open_network(self.files, network_folder(self.identity))
                return OpenVinoBackend(network, pad_id=self.files.pad, precision=self.precision)
            except (ConversionError, ImportError, OSError, RuntimeError) as error:
                message = f"{self.name}: openvino cannot compute it"
                if backend == "openvino":
                    raise EncoderError(f"{message}: {error}") from error
                log.warning("%s, so torch does: %s", message, error)
        from twinrank.encoding.torch_backend import TorchBackend

        return TorchBackend(self.files, precision=self.precision, device=self.device)


def resolve_device(device: str) -> str:
    """Return `device`, or for `auto` the best one of this machine.

    Raises:
        EncoderError: if this machine does not have it.
    """
    if device == "cpu":
        return device
    if device == "auto" and sys.platform == "linux":
        if not any(Path(file).exists() for file in ACCELERATOR_FILES):
            return "cpu"
    if device == "auto" and find_spec("torch") is None:
        return "cpu"
    check_installed("devices other than cpu", "train", "torch")
    import torch  # seconds to import

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in has.items() if available)
    if not has[device.split(":")[0]]:
        raise EncoderError(f"device {device!r} is not on this machine; choose auto or cpu")
    return device


def resolve_precision(precision: str, device: str) -> str:
    """Return `precision`, or for `auto` bf16 where the device multiplies it faster than fp32."""
    if precision != "auto":
        return precision
    if device == "cpu":
        return "bf16" if BF16_FLAGS & cpu_flags() else "fp32"
    if device == "mps":
        return "fp32"
    import torch  # seconds to import

    return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"


def cpu_flags() -> set[str]:
    """Return the processor's instruction sets, on Linux; elsewhere none are known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def load_tokenizer(files: EncoderFiles) -> Tokenizer:
    """Load an encoder's tokenizer, without padding and cutting.

    Raises:
        EncoderError: if the file is not a tokenizer's, or has ids without an embedding: torch
            fails on them, and OpenVINO reads other memory.
    """
    first = files.tokenizer[0]
    try:
        if first.name == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(first))
        else:
            check_installed("tokenizers without tokenizer.json", "train", "transformers")
            from transformers import AutoTokenizer  # slow to import, and rarely needed

            tokenizer = AutoTokenizer.from_pretrained(
                files.folder, use_fast=True, trust_remote_code=False, local_files_only=True
            ).backend_tokenizer
    except TwinrankError:
        raise
    except Exception as error:  # tokenizers raises bare Exception on a file it cannot read
        raise EncoderError(f"{first}: not a tokenizer: {error}; restore the file") from None
    if files.settings.lower_case:
        parts = [normalizers.Lowercase(), *filter(None, [tokenizer.normalizer])]
        tokenizer.normalizer = normalizers.Sequence(parts)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = tokenizer.encode("").ids  # a template may name ids that no token has
    last = max((*tokenizer.get_vocab().values(), *special, files.pad), default=0)
    if files.embeddings is not None and (files.pad < 0 or last >= files.embeddings):
        raise EncoderError(
            f"{first}: the tokenizer has ids up to {last:,}, the model embeddings for "
            f"{files.embeddings:,} alone (the padding is {files.pad}): take both from one model, "
            "or save it again after resize_token_embeddings"
        )
    return tokenizer


def tokenise(tokenizer: Tokenizer, texts: list[str]) -> Iterator[np.ndarray]:
    """Yield the ids of each text's tokens, special ones included.

    Raises:
        EncoderError: if a text is not valid Unicode.
    """
    for start in range(0, len(texts), TEXTS_PER_TOKENISING):
        part = texts[start : start + TEXTS_PER_TOKENISING]
        try:
            encodings = tokenizer.encode_batch_fast(part)
        except TypeError:  # does not say which text, nor why
            broken = next(text for text in part if text.encode(errors="ignore").decode() != text)
            raise EncoderError(
                f"a text is not valid Unicode: {broken[:40]!r}; replace its lone surrogates"
            ) from None
        yield from (np.array(encoding.ids, np.int32) for encoding in encodings)


def _as_list(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise ArgumentError("texts is one string; give a list of strings")
    return texts_of(texts)
