"""The transformer itself: token ids in, cls and mean features out."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModel

from twinrank.encode.resolve import EncoderFiles
from twinrank.errors import EncoderError


class Network:
    """A loaded model on its device."""

    def __init__(self, files: EncoderFiles, *, precision: str, device: str) -> None:
        self.pad = int(files.config.get("pad_token_id") or 0)
        self.device = torch.device(device)
        try:
            model = AutoModel.from_pretrained(
                files.folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise EncoderError(f"{files.folder}: cannot be loaded: {reason}") from error
        self.model = model.to(self.device).eval()

    @torch.inference_mode()
    def features(self, ids: list[list[int]]) -> np.ndarray:
        """Cls and mean features (n, 2, d), float32, of n token sequences."""
        length = max(map(len, ids))
        padded = np.full((len(ids), length), self.pad, np.int64)
        mask = np.zeros((len(ids), length), np.int64)
        for row, sequence in enumerate(ids):
            padded[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        attended = torch.from_numpy(mask).to(self.device)
        hidden = self.model(
            input_ids=torch.from_numpy(padded).to(self.device), attention_mask=attended
        ).last_hidden_state.float()
        weights = attended.unsqueeze(-1)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        return torch.stack([hidden[:, 0], mean], dim=1).cpu().numpy()
