"""The transformer in torch: token ids in, cls and mean features out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from twinrank.extras import check_installed

check_installed(
    "encoders that are neither converted nor packaged", "train", "torch", "transformers"
)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from jaxtyping import Float, Int  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

from twinrank.encoding.batches import map_in_threads, pad  # noqa: E402
from twinrank.encoding.model_files import EncoderFiles  # noqa: E402
from twinrank.errors import EncoderError, first_line  # noqa: E402

# On GPUs, without cuDNN's attention: it plans anew for each shape of a batch, which takes longer
# than the rest of the encoding.
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Converted = TypeVar("Converted")


class TorchBackend:
    """A loaded model on its device.

    Args:
        files: the encoder's.
        precision: fp32 or bf16. All of the model computes in it: on CPUs with bf16 instructions
            its matrix products take half the time, and keeping the rest in fp32 costs more in
            conversions than it gains (the cosine to fp32 is .9999).
        device: cpu, cuda or mps.
        trained: whether its weights are: then they stay fp32, and products alone are in bf16.

    Raises:
        EncoderError: if the weights cannot be loaded, or lack some that the model needs.
    """

    name = "torch"

    def __init__(
        self, files: EncoderFiles, *, precision: str, device: str, trained: bool = False
    ) -> None:
        from transformers import AutoModel  # half a second; the training of towers does without

        self._pad = files.pad
        self._device = torch.device(device)
        self._mixed = trained and precision == "bf16"
        try:
            # Weights that a file lacks (mostly a pooler's) are drawn from a random state apart.
            with quiet_transformers(), torch.random.fork_rng(devices=[]):
                model, loading = AutoModel.from_pretrained(
                    files.folder,
                    local_files_only=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                    dtype=torch.float32 if trained else DTYPES[precision],
                    output_loading_info=True,
                )
        except Exception as error:  # whatever transformers or safetensors find wrong with it
            reason = first_line(error)
            raise EncoderError(f"{files.folder}: cannot be loaded: {reason}") from error
        # transformers fills missing weights with random numbers; only the pooler's are not used.
        missing_keys = [key for key in loading["missing_keys"] if not key.startswith("pooler.")]
        if missing_keys:
            raise EncoderError(
                f"{files.weights[0]}: lacks {len(missing_keys)} weights, {min(missing_keys)} first;"
                " restore the file, or the config.json that belongs to it"
            )
        self.model = model.to(self._device).eval()

    @property
    def parallel_batches(self) -> int:
        """How many batches are best computed at the same time."""
        return torch.get_num_threads() if self._device.type == "cpu" else 1

    def map(self, batches: Sequence[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield the features of each batch, in order; on a CPU several threads take batches."""
        threads = self.parallel_batches
        if not 1 < threads <= len(batches):
            yield from map(self.features, batches)
            return
        try:
            yield from map_in_threads(self.features, batches, threads, _use_one_thread)
        finally:
            torch.set_num_threads(threads)  # else threads begun later would have one as well

    @torch.inference_mode()
    def features(self, sequences: Sequence[np.ndarray]) -> np.ndarray:
        """Return cls and mean features, (n, 2, d) float32, of n token sequences."""
        features: np.ndarray = self.pooled(sequences).cpu().numpy()
        return features

    def pooled(self, sequences: Sequence[np.ndarray]) -> Float[Tensor, "n 2 d"]:
        """Return cls and mean features, float32, of n token sequences, with gradients."""
        ids, mask = (torch.from_numpy(array) for array in pad(sequences, self._pad))
        attention = sdpa_kernel(ATTENTION) if self._device.type == "cuda" else nullcontext()
        with attention, torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            return pool(self.model, ids.to(self._device), mask.to(self._device))

    def convert(
        self,
        convert_model: Callable[..., Converted],
        sequences: Sequence[np.ndarray],
        head: nn.Module | None = None,
    ) -> Converted:
        """Convert the model, with its pooling, by a function such as `openvino.convert_model`.

        Args:
            convert_model: takes a module, and `example_input` to trace it with.
            sequences: that example.
            head: is put on the features (n, 2, d); without one they are the output.
        """
        example = tuple(torch.from_numpy(array) for array in pad(sequences, self._pad))
        with torch.inference_mode(), warnings.catch_warnings(), quiet_transformers():
            warnings.simplefilter("ignore")  # tracing warns of shapes: the caller checks others
            return convert_model(_PooledModel(self.model, head), example_input=example)


class _PooledModel(nn.Module):
    """The model with its pooling, so that hidden states need not leave a converted network."""

    def __init__(self, model: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.model, self.head = model, head or nn.Identity()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(pool(self.model, ids, mask))  # type: ignore[no-any-return]


def pool(
    model: nn.Module, ids: Int[Tensor, "n t"], mask: Int[Tensor, "n t"]
) -> Float[Tensor, "n 2 d"]:
    """Return cls and mean features, float32, of n sequences; the mask is 1, and 0 at padding.

    cls is the last hidden state of the first token, mean that of all tokens but padding.
    """
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return torch.stack([hidden[:, 0], mean], dim=1)


def _use_one_thread() -> None:
    torch.get_num_threads()  # the first call in a thread sets the default, and would undo the next
    torch.set_num_threads(1)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers from reporting what is no news here, as it loads and saves."""
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
