"""The frozen backbone: texts in, cls and mean features out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from twinrank.arguments import count_of, path_of, texts_of
from twinrank.encoding.batches import plan, tokens_a_batch
from twinrank.encoding.hardware import resolve_device, resolve_precision
from twinrank.encoding.model_files import resolve
from twinrank.encoding.tokens import load_tokenizer, token_ids
from twinrank.errors import ArgumentError, EncoderError
from twinrank.progress import progress_bar

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from twinrank.encoding.network import Network
    from twinrank.encoding.openvino_network import OpenVinoNetwork
    from twinrank.encoding.trainable import Trainable

POOLINGS = ("cls", "mean")
PRECISIONS = ("auto", "fp32", "bf16")
BACKENDS = ("auto", "torch", "openvino")
# Texts are sorted by length among as many; only these are held as tokens.
CHUNK = 16_384


class Encoder:
    """A pre-trained backbone that turns texts into features; its weights never change.

    Making one reads config and tokenizer; torch and the model load at the first `encode`.

    Args:
        name: a folder, a model of the Hugging Face hub, or `all-MiniLM-L6-v2`.
        max_tokens: longer texts are cut there; special tokens count.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the hardware computes it faster, else
            fp32.
        device: `cpu`, `cuda`, `mps`, or `auto`: an accelerator if there is one.
        backend: what computes on a CPU: `torch`, `openvino`, or `auto`: what $TWINRANK_BACKEND
            says, else OpenVINO where it is installed. It is no part of the identity: features
            differ by rounding alone.

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
        max_tokens = self.max_tokens = count_of(max_tokens, "max_tokens")
        self._files = resolve(self.name)
        self._asked = (precision, device, backend)
        self.dim = self._files.dim
        if max_tokens < 3:
            raise EncoderError(
                f"max_tokens {max_tokens} is too few: two are special; give 3 or more"
            )
        limit = self._files.position_limit
        if limit is not None and max_tokens > limit:
            raise EncoderError(
                f"{name}: reads at most {limit} tokens, not {max_tokens}; lower max_tokens"
            )
        if precision not in PRECISIONS:
            raise EncoderError(f"precision {precision!r} is unknown; choose auto, fp32 or bf16")
        if device.split(":")[0] not in ("auto", "cpu", "cuda", "mps"):
            raise EncoderError(f"device {device!r} is unknown; choose auto, cpu, cuda or mps")
        if backend not in BACKENDS:
            raise EncoderError(f"backend {backend!r} is unknown; choose auto, torch or openvino")
        self._cutting  # noqa: B018 (the tokenizer is checked now)

    @property
    def longest(self) -> int | None:
        """How many tokens it could read, if it says so."""
        return self._files.position_limit

    @cached_property
    def device(self) -> str:
        """Where the model runs: cpu, cuda or mps."""
        return resolve_device(self._asked[1])

    @cached_property
    def precision(self) -> str:
        """In what it computes: fp32 or bf16."""
        return resolve_precision(self._asked[0], self.device)

    @cached_property
    def identity(self) -> str:
        """sha256 (hex) of what the encoder is: weights, config, tokenizer and max_tokens."""
        return self._files.digest(self.max_tokens)

    @property
    def fingerprint(self) -> str:
        """Identity and precision: the key of stored features."""
        return f"{self.identity}-{self.precision}"

    def encode(self, texts: Sequence[str], *, progress: str | None = None) -> np.ndarray:
        """Features of one pass, (N, 2, d) float32: cls and mean, in the order of POOLINGS.

        Args:
            texts: N texts.
            progress: label of the progress bar; None shows none.
        """
        texts = _listed(texts)
        features = np.empty((len(texts), len(POOLINGS), self.dim), np.float32)
        with progress_bar(progress, len(texts)) as advance:
            for rows, batch in self.batches(texts):
                features[rows] = batch
                advance(len(rows))
        return features

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features as they are ready: row numbers (n) in `texts`, and their (n, 2, d)."""
        texts = _listed(texts)
        for start, ids in self._tokenised(texts):
            lengths = [len(text) for text in ids]
            share = -(-sum(lengths) // self._network.at_once)  # few texts keep all threads busy
            batches = plan(lengths, min(tokens_a_batch(self.device), share))
            inputs = [[ids[row] for row in rows] for rows in batches]
            for rows, features in zip(batches, self._network.map(inputs), strict=True):
                if not np.isfinite(features).all():
                    raise EncoderError(
                        f"{self.name}: features are not finite in {self.precision}; "
                        "try precision='fp32', or check the weights"
                    )
                yield rows + start, features

    def _tokenised(self, texts: Sequence[str]) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Chunks of texts as token ids; the next is made while the last is being encoded."""

        def tokenise(start: int) -> list[np.ndarray]:
            return token_ids(self._cutting, texts[start : start + CHUNK])

        if len(texts) <= CHUNK:  # nothing to do ahead, and a thread costs a query a millisecond
            yield 0, tokenise(0)
            return
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(tokenise, 0)
            for start in range(0, len(texts), CHUNK):
                ids = coming.result()
                if start + CHUNK < len(texts):
                    coming = ahead.submit(tokenise, start + CHUNK)
                yield start, ids

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text as the model reads it: cut, special ones included."""
        return token_ids(self._cutting, _listed(texts))

    def trainable(self, pooling: str, *, rank: int | None, held_tokens: int) -> Trainable:
        """A copy of the model whose weights, or thin matrices of a rank beside them, are trained.

        Args:
            pooling: of its features.
            rank: of LoRA's matrices; none trains every weight.
            held_tokens: tokens of a call held for the way back; those beyond are encoded twice.

        Raises:
            EncoderError: if the weights cannot be loaded, or LoRA's library is not installed.
        """
        from twinrank.encoding.trainable import Trainable  # imports torch and transformers

        place = POOLINGS.index(pooling)
        kind = (self.precision, self.device)
        return Trainable(self._files, *kind, pooling=place, rank=rank, held_tokens=held_tokens)

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Number of tokens (N) before cutting, special ones included; loads no model."""
        texts = _listed(texts)
        counts = [
            len(ids)
            for start in range(0, len(texts), CHUNK)
            for ids in token_ids(self._counting, texts[start : start + CHUNK])
        ]
        return np.array(counts, np.int64)

    @cached_property
    def _cutting(self) -> Tokenizer:
        return load_tokenizer(self._files, self.max_tokens)

    @cached_property
    def _counting(self) -> Tokenizer:
        return load_tokenizer(self._files)

    @property
    def backend(self) -> str:
        """What computes: torch or openvino; loads the model."""
        return self._network.backend

    @cached_property
    def _network(self) -> Network | OpenVinoNetwork:
        from twinrank.encoding.backend import open_network  # imports torch

        return open_network(self, self._files, self._asked[2])


def _listed(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise ArgumentError("texts is one string; give a list of strings")
    return texts if isinstance(texts, list) else texts_of(texts)  # `token_ids` checks each
