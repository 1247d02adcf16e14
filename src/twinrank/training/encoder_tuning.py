"""The tuning of the encoder in a run: before its features are read, with checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twinrank.data import Dataset
from twinrank.encoding import Encoder
from twinrank.encoding.trainable import Trainable
from twinrank.evaluation import by_type, means, measure
from twinrank.files import new_folder
from twinrank.ranking import Origin, encoder_of
from twinrank.ranking.manifest import ENCODER, encoder_name
from twinrank.recipe import Recipe
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import Record
from twinrank.training.material import reader_for
from twinrank.training.resume import TUNING, OnRecord, choices
from twinrank.training.stage import Bar, carry_out
from twinrank.training.team import Team, is_main
from twinrank.training.tuning_loop import Course, Tokens, Tuned, WholeIndex, tune


def tune_encoder(
    dataset: Dataset,
    recipe: Recipe,
    origin: Origin,
    *,
    out: Path,
    team: Team,
    device: str,
    on_record: OnRecord = lambda record: None,
) -> Path | None:
    """Tune a recipe's encoder, and leave it in `out` as a ranker's folder has it.

    Args:
        dataset: with a `train` and a `validation` split.
        recipe: names the encoder it starts from, and says how it is tuned.
        origin: the seed decides everything random.
        out: folder of the run; every process of the team sees it.
        team: who shares the work; the main process writes.
        device: where; each of several processes has its own.
        on_record: takes a record a round.

    Returns:
        Its folder, or none where another process writes it.
    """
    settings = recipe.tuning
    assert settings is not None  # noqa: S101 (fit makes a team for these alone)
    encoder = encoder_of(recipe, team.device or device)
    reader = reader_for(dataset, recipe, None, device)
    passages = reader.passages(dataset.answers)
    train, validation = dataset.split("train"), dataset.split("validation")
    texts = [passages.rows, *(reader.queries(some.texts) for some in (train, validation))]
    of_passages, of_train, unseen = (encoder.tokens(list(part)) for part in texts)
    tokens = Tokens.of(passages.of(of_passages), of_train, train)

    def validate(index: WholeIndex) -> dict[str, Any]:
        vectors = tuned.constants(unseen, team)

        def scores(part: slice) -> np.ndarray:
            found: np.ndarray = index.scores(vectors[part]).cpu().numpy()
            return found

        rows = measure(scores, validation)
        return {**means(rows), "types": {kind: means(part) for kind, part in by_type(rows).items()}}

    def stage(*, saved: Checkpoint | None, on_epoch: Callable[[Checkpoint], None]) -> list[Record]:
        return tune(
            tuned,
            tokens,
            settings,
            validate,
            team=team,
            seed=origin.seed,
            saved=saved,
            on_epoch=on_epoch,
            on_step=bar.advance,
        )

    with torch.random.fork_rng():
        torch.manual_seed(origin.seed)
        rank = settings.rank if settings.method == "lora" else None
        pooling = recipe.encoder.pooling if recipe.encoder else "mean"
        trainable = encoder.trainable(pooling, rank=rank, held_tokens=settings.held_tokens)
        tuned = Tuned(trainable, memory=recipe.memory is not None)
        course = Course(len(tokens.queries), settings)
        label = f"Tuning {encoder.name}" if is_main() else None
        bar = Bar(label, course.rounds, course.steps)
        identity = {**choices(recipe, origin), "encoder": encoder.fingerprint}
        carry_out(
            stage,
            "tuning",
            out / TUNING,
            identity,
            bar,
            on_record,
            ready=lambda: team.told(None),
            writes=is_main(),
        )
    return _left(trainable, out, encoder.max_tokens) if is_main() else None


def _left(trainable: Trainable, out: Path, max_tokens: int) -> Path:
    """Write a tuned encoder under the name that its identity gives it."""
    with new_folder(out / ENCODER) as beside:
        trainable.save(beside)
        folder = out / encoder_name(Encoder(str(beside), max_tokens=max_tokens).identity)
        if folder.exists():
            shutil.rmtree(beside)
        else:
            beside.rename(folder)
    return folder
