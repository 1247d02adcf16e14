"""Where a training stands after an epoch, in one safetensors file that is replaced whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from twinrank.errors import RankerError
from twinrank.files import write_file

State = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """All that the next epoch depends on; every epoch seeds itself, so no generator state.

    Attributes:
        learned: parameters that are trained, and buffers.
        best: those of the epoch with the lowest validation loss.
        optimizer: AdamW's moments, as `<parameter number>.<name>`.
        index: the stale index's vectors, or empty.
        history: one record an epoch, from before training (epoch 0) on.
    """

    learned: State
    best: State
    optimizer: State
    index: State
    history: list[dict[str, Any]]

    def save(self, file: Path, identity: dict[str, Any]) -> None:
        """Write beside, then rename: a kill leaves the old checkpoint or the new one.

        `identity` says what is trained, so that no other training goes on from here.
        """
        groups = {"learned": self.learned, "best": self.best}
        groups |= {"optimizer": self.optimizer, "index": self.index}
        tensors = {f"{g}/{k}": t.clone() for g, state in groups.items() for k, t in state.items()}
        notes = {"history": json.dumps(self.history), "identity": json.dumps(identity)}
        write_file(file, lambda beside: save_file(tensors, beside, metadata=notes))

    @classmethod
    def load(cls, file: Path) -> tuple[Checkpoint, dict[str, Any]] | None:
        """The checkpoint in a file and its identity; none if the file does not exist.

        Raises:
            RankerError: if the file cannot be read, as after a power loss in the middle.
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
            identity: dict[str, Any] = json.loads(notes["identity"])
        except (SafetensorError, KeyError, TypeError, ValueError):
            raise RankerError(f"{file}: damaged; start over with --fresh") from None
        return cls(**groups, history=history), identity


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """An optimiser's per-parameter tensors under flat names."""
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return {f"{number}.{key}": t for number, moments in state.items() for key, t in moments.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: State) -> None:
    """Put `optimizer_state` back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in flat.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
