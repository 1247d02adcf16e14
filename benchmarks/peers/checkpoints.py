"""Going on with a training of transformers' `Trainer` that was killed.

The checkpoints are the library's own, pickled optimiser and all; it reads them with
`weights_only`. They are removed once the result is there.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from peers.files import write_whole

MARK = "seconds.json"


class Marks(TrainerCallback):
    """Marks each checkpoint as whole, with the seconds that training has taken until then.

    Args:
        earlier_s: the seconds of the calls before this one.
    """

    def __init__(self, earlier_s: float) -> None:
        self._earlier_s = earlier_s
        self._began = time.perf_counter()

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 (the trainer's signature)
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> None:
        """Called when all files of a checkpoint are written."""
        seconds = self._earlier_s + time.perf_counter() - self._began
        file = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / MARK
        write_whole(file, json.dumps(seconds))


def last_whole(folder: Path) -> tuple[Path | None, float]:
    """The last checkpoint with its mark, and what that says; those without one are removed."""
    whole: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        step = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
        if step and (checkpoint / MARK).exists():
            whole[int(step[1])] = checkpoint
        else:
            shutil.rmtree(checkpoint)
    if not whole:
        return None, 0.0
    last = whole[max(whole)]
    return last, float(json.loads((last / MARK).read_text(encoding="utf-8")))
