"""The transformer itself, in torch: token ids in, cls and mean features out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from twinrank.encoding.batches import padded
from twinrank.encoding.model_files import EncoderFiles
from twinrank.encoding.threads import Batch, spread
from twinrank.errors import EncoderError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Network:
    """A loaded model on its device.

    Args:
        files: the encoder's.
        precision: fp32 or bf16. All of the model computes in it: on CPUs with bf16 instructions
            its matrix products take half the time, and keeping the rest in fp32 costs more in
            conversions than it gains (see benchmarks/encode.py for what is lost: cosine .9999).
        device: cpu, cuda or mps.
        trained: whether its weights are: then they stay fp32, and products alone are in bf16.

    Raises:
        EncoderError: if the weights cannot be loaded, or lack some that the model needs.
    """

    backend = "torch"

    def __init__(
        self, files: EncoderFiles, *, precision: str, device: str, trained: bool = False
    ) -> None:
        from transformers import AutoModel  # half a second; a converted model does without

        self._pad = files.pad
        self._device = torch.device(device)
        try:
            # What a file lacks (a pooler, mostly) takes random numbers: not the caller's.
            with quiet(), torch.random.fork_rng(devices=[]):
                model, loading = AutoModel.from_pretrained(
                    files.folder,
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype=torch.float32 if trained else DTYPES[precision],
                    output_loading_info=True,
                )
        except Exception as error:  # whatever transformers or safetensors find wrong with it
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise EncoderError(f"{files.folder}: cannot be loaded: {reason}") from error
        # transformers fills what is missing with random numbers; only the pooler is not used here.
        lacking = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
        if lacking:
            raise EncoderError(
                f"{files.weights[0]}: lacks {len(lacking)} weights, {lacking[0]} first; "
                "restore the file, or the config.json that belongs to it"
            )
        self.model = model.to(self._device).eval()
        self._mixed = trained and precision == "bf16"

    @property
    def at_once(self) -> int:
        """How many batches are best computed at the same time."""
        return torch.get_num_threads() if self._device.type == "cpu" else 1

    def map(self, batches: Sequence[Batch]) -> Iterator[np.ndarray]:
        """The features of each batch, in order; on a CPU several threads take batches."""
        threads = self.at_once
        if not 1 < threads <= len(batches):
            yield from map(self.features, batches)
            return
        try:
            yield from spread(self.features, batches, threads, _one_thread)
        finally:
            torch.set_num_threads(threads)  # else threads begun later would have one as well

    @torch.inference_mode()
    def features(self, ids: Batch) -> np.ndarray:
        """`pooled`, as an array without gradients."""
        features: np.ndarray = self.pooled(ids).cpu().numpy()
        return features

    def pooled(self, ids: Batch) -> Float[Tensor, "n 2 d"]:
        """Cls and mean features, float32, of n token sequences."""
        filled, mask = padded(ids, self._pad)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            return pooled(
                self.model,
                torch.from_numpy(filled).to(self._device),
                torch.from_numpy(mask).to(self._device).long(),
            )


def pooled(
    model: nn.Module, ids: Int[Tensor, "n t"], mask: Int[Tensor, "n t"]
) -> Float[Tensor, "n 2 d"]:
    """Cls and mean features, float32, of n sequences; the mask is 1, and 0 at padding.

    cls is the last hidden state of the first token, mean that of all tokens but padding.
    """
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return torch.stack([hidden[:, 0], mean], dim=1)


def _one_thread() -> None:
    torch.get_num_threads()  # the first call in a thread sets the default, and would undo the next
    torch.set_num_threads(1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from reporting, as it loads and saves, on what is no news here."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()
