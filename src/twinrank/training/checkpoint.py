"""Checkpoints: the state of a training after an epoch, in one file that is replaced whole."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from twinrank.errors import RankerError
from twinrank.files import write_file

CHECKPOINT_EVERY_S = 5.0

State = dict[str, Tensor]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """All that the next epoch depends on; every epoch seeds itself, so no generator state."""

    learned: State  # parameters that are trained, and buffers
    best: State  # those of the best epoch by validation
    optimizer: State  # AdamW's moments, as `<parameter number>.<name>`
    index: State  # vectors of a stale index, or empty
    history: list[dict[str, Any]]  # a record for each epoch, from before training (epoch 0) on

    def save(self, file: Path, identity: Mapping[str, Any]) -> None:
        """Write the file whole, with the identity of the training, so that no other goes on."""
        groups = {"learned": self.learned, "best": self.best}
        groups |= {"optimizer": self.optimizer, "index": self.index}
        tensors = {f"{g}/{k}": t.clone() for g, state in groups.items() for k, t in state.items()}
        notes = {"history": json.dumps(self.history), "identity": json.dumps(identity)}
        write_file(file, lambda path: save_file(tensors, path, metadata=notes))

    @classmethod
    def load(cls, file: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
        """Read the checkpoint that a training with this identity left, if there is one.

        Raises:
            RankerError: if it is another training's, or damaged.
        """
        if not file.is_file():
            return None
        groups: dict[str, State] = {"learned": {}, "best": {}, "optimizer": {}, "index": {}}
        try:
            with safe_open(file, framework="pt") as tensors:
                notes = tensors.metadata()
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    group, key = name.split("/", 1)
                    groups[group][key] = tensors.get_tensor(name)
            history = json.loads(notes["history"])
            saved_identity = json.loads(notes["identity"])
        except (SafetensorError, KeyError, TypeError, ValueError):
            raise RankerError(f"{file}: damaged; start over with --fresh") from None
        check_same_training(file.parent, identity, saved_identity)
        log.info("%s: going on after epoch %d", file.parent, len(history) - 1)
        return cls(**groups, history=history)


class CheckpointWriter:
    """Writes the first checkpoint, the last, and between them one in `CHECKPOINT_EVERY_S`.

    Those of every epoch of a comparison would come to tens of gigabytes.
    """

    def __init__(self, file: Path | None, identity: Mapping[str, Any]) -> None:
        self._file, self._identity = file, identity
        self._unsaved: Checkpoint | None = None
        self._saved_at = -math.inf

    def offer(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint, and write it if it is time."""
        self._unsaved = checkpoint
        if time.monotonic() - self._saved_at >= CHECKPOINT_EVERY_S:
            self.finish()

    def finish(self) -> None:
        """Write the last checkpoint, if it is not written yet."""
        if self._file and self._unsaved:
            self._unsaved.save(self._file, self._identity)
            self._unsaved, self._saved_at = None, time.monotonic()


def check_same_training(
    out: Path, identity: Mapping[str, Any], saved_identity: Mapping[str, Any]
) -> None:
    """Refuse, by a RankerError, to go on in a folder that holds another training."""
    different = [key for key in identity if identity[key] != saved_identity.get(key)]
    if different:
        raise RankerError(
            f"{out}: holds a training with another {' and another '.join(different)}; "
            "choose another folder, or start over with --fresh"
        )


def flatten_optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """Return an optimiser's tensors of each parameter under flat names."""
    state: dict[int, State] = optimizer.state_dict()["state"]
    return {f"{number}.{key}": t for number, moments in state.items() for key, t in moments.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: State) -> None:
    """Put the state of `flatten_optimizer_state` back."""
    state: dict[int, State] = {}
    for name, tensor in flat.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
