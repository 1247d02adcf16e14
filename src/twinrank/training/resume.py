"""What a run keeps in its folder to go on from, and its refusal to go on with another training."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinrank.errors import RankerError
from twinrank.files import failures_of, write_file
from twinrank.ranking import Origin
from twinrank.recipe import Recipe
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import Record

TUNING, PRETRAINING, RANKING = UNFINISHED = (
    "tuning.safetensors",
    "pretraining.safetensors",
    "checkpoint.safetensors",
)
METRICS_FILE = "metrics.jsonl"
SAVED_EVERY_S = 5.0

OnRecord = Callable[[Record], None]

log = logging.getLogger(__name__)


class Keeper:
    """Writes a stage's checkpoints: the first, the last, and between them one in `SAVED_EVERY_S`.

    A checkpoint holds the weights four times over; written after every epoch of a second or
    less, those of a comparison come to tens of gigabytes.
    """

    def __init__(self, file: Path | None, identity: dict[str, Any]) -> None:
        self._file, self._identity = file, identity
        self._unsaved: Checkpoint | None = None
        self._saved_at = -math.inf

    def offer(self, checkpoint: Checkpoint) -> None:
        """Take where training stands, and write it if it is time."""
        self._unsaved = checkpoint
        if time.monotonic() - self._saved_at >= SAVED_EVERY_S:
            self.finish()

    def finish(self) -> None:
        """Write what was taken last, if it is not written yet."""
        if self._file and self._unsaved:
            self._unsaved.save(self._file, self._identity)
            self._unsaved = None
            self._saved_at = time.monotonic()


def saved_in(file: Path, identity: dict[str, Any]) -> Checkpoint | None:
    """Where this very training stood when it was stopped."""
    loaded = Checkpoint.load(file)
    if loaded is None:
        return None
    checkpoint, theirs = loaded
    check_same(file.parent, identity, theirs)
    log.info("%s: going on after epoch %d", file.parent, len(checkpoint.history) - 1)
    return checkpoint


def choices(recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """Everything that decides a training, as JSON values."""
    return {"seed": origin.seed, "data": origin.data_fingerprint, "recipe": recipe.values()}


def check_same(out: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse to go on in a folder that holds another training.

    Raises:
        RankerError: that says what differs.
    """
    different = [key for key in ours if ours[key] != theirs.get(key)]
    if different:
        raise RankerError(
            f"{out}: holds a training with another {' and another '.join(different)}; "
            "choose another folder, or start over with --fresh"
        )


@contextmanager
def recording(out: Path | None, on_record: OnRecord) -> Iterator[OnRecord]:
    """What takes each record: to `metrics.jsonl`, anew, for a resumed run tells its past again."""
    if out is None:
        yield on_record
        return
    file = write_file(out / METRICS_FILE, "")

    def record(told: Record) -> None:
        with failures_of(file), file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(told) + "\n")
        on_record(told)

    yield record


def records_in(out: Path) -> list[Record]:
    """What was recorded of the run in a folder; nothing if it trained nothing."""
    file = out / METRICS_FILE
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]
