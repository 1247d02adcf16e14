"""An encoder in training: features with gradients, in bounded memory; the encoder it becomes."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from twinrank.encoding.batches import plan_batches, tokens_a_batch
from twinrank.encoding.encoder import POOLINGS, Encoder
from twinrank.encoding.torch_backend import TorchBackend, quiet_transformers
from twinrank.errors import EncoderError


class Trainable(nn.Module):
    """A copy of an encoder whose weights are trained; always without dropout.

    Its weights are fp32; products are computed in the encoder's precision.

    Args:
        encoder: that it starts from.
        pooling: that is read.
        rank: of LoRA's matrices, which alone are trained then; none trains every weight.
        held_tokens: padded tokens of a call whose activations are held for the way back.

    Raises:
        EncoderError: if it cannot be tuned or loaded, or peft is not installed.
    """

    def __init__(
        self, encoder: Encoder, pooling: str, *, rank: int | None, held_tokens: int
    ) -> None:
        super().__init__()
        self._files, device = encoder.files, encoder.device
        if self._files.settings.layers or self._files.settings.lower_case:
            raise EncoderError(
                f"{encoder.name}: has layers on top of its pooling, or lower-cases texts beside "
                "its tokenizer, and cannot be tuned; leave out [tuning], or take another encoder"
            )
        precision = encoder.precision
        self._network = TorchBackend(self._files, precision=precision, device=device, trained=True)
        if rank:
            self._network.model = _with_lora(self._network.model, rank)
        self.model = self._network.model
        self.dim = encoder.width
        self._pooling = POOLINGS.index(pooling)
        self._budget = tokens_a_batch(device)
        self._held_tokens = held_tokens

    def train(self, mode: bool = True) -> Trainable:
        """Dropout stays off: which queries are near which must not depend on it."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, ids: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
        """Features of n token sequences, with gradients.

        Activations beyond `held_tokens` are thrown away and computed again on the way back:
        activation checkpointing (Chen et al. 2016), exact because there is no dropout.
        """
        device = next(self.model.parameters()).device
        rows, features, tokens = [np.empty(0, np.int64)], [], 0
        for batch in plan_batches([len(sequence) for sequence in ids], self._budget) if ids else []:
            sequences = [ids[row] for row in batch]
            tokens += len(batch) * max(map(len, sequences))
            rows.append(batch)
            if tokens <= self._held_tokens:
                features.append(self._features(sequences))
            else:
                again = checkpoint(
                    self._features, sequences, use_reentrant=False, preserve_rng_state=False
                )
                features.append(again)
        if not features:
            return torch.empty(0, self.dim, device=device)
        back = torch.as_tensor(np.argsort(np.concatenate(rows)), device=device)
        return torch.cat(features)[back]

    def features(self, ids: Sequence[np.ndarray]) -> Float[np.ndarray, "n d"]:
        """The same without gradients, as fast as the frozen encoder."""
        pooled_rows = np.empty((len(ids), self.dim), np.float32)
        batches = plan_batches([len(sequence) for sequence in ids], self._budget) if ids else []
        inputs = [[ids[row] for row in batch] for batch in batches]
        for batch, pooled in zip(batches, self._network.map(inputs), strict=True):
            pooled_rows[batch] = pooled[:, self._pooling]
        return pooled_rows

    def save(self, folder: Path) -> None:
        """Write the encoder as it is now, with its tokenizer, into a folder."""
        model = self.model
        if hasattr(model, "merge_and_unload"):
            model = copy.deepcopy(model).merge_and_unload()
        with quiet_transformers():
            model.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):  # by itself it is its owner's alone
            shutil.copymode(folder / "config.json", file)
        for file in self._files.tokenizer:
            shutil.copyfile(file, folder / file.name)

    def _features(self, sequences: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
        return self._network.pooled(sequences)[:, self._pooling]


def _with_lora(model: nn.Module, rank: int) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries that peft looks for
            from peft import LoraConfig, get_peft_model
    except ImportError:
        raise EncoderError(
            "method = 'lora' takes peft: pip install 'twinrank[tune]', or choose method = 'full'"
        ) from None
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", lora_dropout=0.0)
    adapted: nn.Module = get_peft_model(model, config)
    return adapted
