"""The training of towers in a run: pre-training, then ranking, each stage resumable."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from filelock import FileLock

from twinrank.evaluation import by_type, means, measure
from twinrank.ranking import (
    INITIAL_WEIGHTS,
    DenseSignal,
    Origin,
    PastQueries,
    PastSignal,
    QueryBatch,
    Reader,
    Scoring,
    Signal,
)
from twinrank.recipe import Recipe, TowerSettings
from twinrank.training.calibration import fit_scale
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.loop import OnEpoch, Record, Validate
from twinrank.training.material import Material
from twinrank.training.pretraining import Sightings, pretrain
from twinrank.training.resume import PRETRAINING, RANKING, OnRecord, choices
from twinrank.training.stage import Bar, carry_out
from twinrank.training.team import Team
from twinrank.training.tower_modules import Towers, freeze, towers_of
from twinrank.training.tower_training import fit_towers

log = logging.getLogger(__name__)


@runtime_checkable
class Fitting(Protocol):
    """`fit_towers`, with all that it is given but who measures, who takes part, and where from."""

    def __call__(  # noqa: D102
        self,
        validate: Validate,
        *,
        team: Team = ...,
        saved: Checkpoint | None,
        on_epoch: OnEpoch,
    ) -> list[Record]: ...


@runtime_checkable
class Together(Protocol):
    """Who carries a fitting out, in this process and maybe others; this one's towers are fitted."""

    def __call__(  # noqa: D102
        self,
        fitting: Fitting,
        validate: Validate,
        *,
        saved: Checkpoint | None,
        on_epoch: OnEpoch,
    ) -> list[Record]: ...


def alone(
    fitting: Fitting, validate: Validate, *, saved: Checkpoint | None, on_epoch: OnEpoch
) -> list[Record]:
    """This process, by itself."""
    return fitting(validate, saved=saved, on_epoch=on_epoch)


@dataclass(frozen=True)
class Work:
    """One training: what is to be done, with what, and where its state is kept.

    Attributes:
        recipe: it has towers.
        origin: data and seed.
        reader: of the recipe's encoder.
        material: features to train on, and to validate on.
        out: folder for checkpoints and metrics; none keeps nothing.
        shared: folder where runs leave their pre-training for others that begin with the very
            same one; none shares nothing.
        device: where towers are trained.
        together: who fits them to rank.
    """

    recipe: Recipe
    origin: Origin
    reader: Reader
    material: Material
    out: Path | None
    shared: Path | None
    device: torch.device
    together: Together = alone

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the outcome, as JSON values."""
        return {**choices(self.recipe, self.origin), "encoder": self.reader.encoder.fingerprint}

    def validate(self, towers: Towers) -> dict[str, Any]:
        """What towers reach on the validation split; nothing if there is none."""
        validation, unseen = self.material.validation, self.material.unseen
        if validation is None:
            return {}
        scoring = self.scoring(towers)
        queries = QueryBatch([], freeze(towers).project_queries(unseen))
        rows = measure(lambda part: scoring.scores(queries[part]), validation)
        return {**means(rows), "types": {kind: means(part) for kind, part in by_type(rows).items()}}

    def scoring(self, towers: Towers) -> Scoring:
        """Return the signals of towers as they are now; past queries have no texts yet."""
        frozen, train = freeze(towers), self.material.train
        offsets = None if towers.offsets is None else towers.offsets.detach().cpu().numpy().copy()
        dense = DenseSignal.from_features(self.reader, frozen, self.material.answers, offsets)
        signals: dict[str, Signal] = {"dense": dense}
        if train and towers.memory:
            past = PastQueries(
                texts=[],
                ids=[],
                vectors=frozen.project_queries(train.features),
                labels=train.labels.astype(np.float32),
                newcomers=np.zeros(self.material.answers.answers, bool),
            )
            signals["past"] = PastSignal(past, frozen, newcomer=0.0)
        return Scoring(signals, INITIAL_WEIGHTS)


def train_towers(work: Work, on_record: OnRecord) -> Towers:
    """Carry out the stages of a recipe; give towers on the CPU, in eval mode.

    Args:
        work: what is to be done.
        on_record: takes a record an epoch.
    """
    if work.material.sightings:
        log.info("pre-training: %s", work.material.sightings)
    pretraining = work.recipe.pretraining
    use = pretraining.use if pretraining else None
    with torch.random.fork_rng():
        torch.manual_seed(work.origin.seed)
        towers = _fresh(work)  # before any training, so that going on finds the same weights
        if use in (None, "joint"):
            towers = _ranked(work, towers, on_record)
        else:
            pretrained = _pretrained(work, on_record)
            if use == "zero-shot":
                towers = with_fitted_scale(pretrained, work)
            elif use == "freeze":
                above = replace(work, material=work.material.through(pretrained))
                towers = _ranked(above, towers, on_record)
                towers.stand_on(pretrained)
            elif pretraining:
                towers.start_from(pretrained, answers=pretraining.sides == "both")
                towers = _ranked(work, towers, on_record)
    return towers.cpu()


def with_fitted_scale(towers: Towers, work: Work) -> Towers:
    """Untrained or pre-trained towers with the scale that makes their scores probabilities."""
    material = work.material
    if material.validation:
        queries = QueryBatch([], freeze(towers).project_queries(material.unseen))
        products = work.scoring(towers).scores(queries) / towers.scale.item()
        with torch.no_grad():
            towers.log_scale.fill_(fit_scale(products, material.validation.labels)).log_()
    return towers


def _fresh(work: Work) -> Towers:
    """New towers for the ranking loss, without what pre-training puts under them."""
    alone = work.recipe.model_copy(update={"pretraining": None})
    return towers_of(alone, work.reader.encoder.dim).to(work.device)


def _pretrained(work: Work, on_record: OnRecord) -> Towers:
    """Single towers pre-trained on pairs; the projector is thrown away."""
    recipe, sightings = work.recipe, work.material.sightings
    assert recipe.towers and sightings  # noqa: S101 (the recipe's own validation)
    settings = sightings.settings
    torch.manual_seed(work.origin.seed)
    towers = Towers(recipe.towers.kind, work.reader.encoder.dim, dropout=recipe.towers.dropout)
    towers.take_projector(settings.projector)
    towers.to(work.device)

    def validate(towers: Towers) -> dict[str, Any]:
        measured = work.validate(towers)
        measured.pop("loss", None)  # without a fitted scale it says nothing
        return measured

    def stage(*, saved: Checkpoint | None, on_epoch: Callable[[Checkpoint], None]) -> list[Record]:
        seed = work.origin.seed
        return pretrain(towers, sightings, validate, seed=seed, saved=saved, on_epoch=on_epoch)

    with _place(work, recipe.towers, sightings) as (file, identity):
        bar = Bar(f"Pre-training {recipe.name}", settings.epochs)
        carry_out(stage, "pretraining", file, identity, bar, on_record)
    towers.take_projector(None)
    return towers


@contextmanager
def _place(
    work: Work, kind: TowerSettings, sightings: Sightings
) -> Iterator[tuple[Path | None, dict[str, Any]]]:
    """Where a pre-training is kept: in its run, or locked among those shared, by its content."""
    if work.shared is None:
        yield work.out and work.out / PRETRAINING, work.identity
        return
    material = work.material
    same = sightings.settings.model_dump(exclude={"use", "sides"})
    told = [same, kind.model_dump(exclude={"dual"}), work.origin.seed]
    digest = hashlib.sha256(json.dumps(told).encode())
    groups = sightings.groups
    seen = (sightings.features, groups.query, groups.count, material.unseen, material.answers.rows)
    for array in seen:
        digest.update(array.tobytes())
    name = digest.hexdigest()[:16]
    work.shared.mkdir(parents=True, exist_ok=True)
    with FileLock(work.shared / f"{name}.lock"):
        yield work.shared / f"{name}.safetensors", {"pretraining": name}


def _ranked(work: Work, towers: Towers, on_record: OnRecord) -> Towers:
    """Towers trained on the labelled queries, with the pairs beside if training is joint."""
    recipe, material = work.recipe, work.material
    training, train = recipe.training, material.train
    assert training and train  # noqa: S101 (the recipe's own validation)
    pretraining = recipe.pretraining
    joint = material.sightings if pretraining and pretraining.use == "joint" else None
    towers.take_projector(pretraining.projector if joint and pretraining else None)
    if recipe.towers and recipe.towers.offsets:
        towers.take_offsets(material.answers.answers)
    towers.to(work.device)

    fitting = partial(
        fit_towers,
        towers,
        train,
        material.answers,
        training,
        joint=joint,
        seed=work.origin.seed,
    )

    def stage(*, saved: Checkpoint | None, on_epoch: OnEpoch) -> list[Record]:
        return work.together(fitting, work.validate, saved=saved, on_epoch=on_epoch)

    file = work.out and work.out / RANKING
    bar = Bar(f"Training {recipe.name}", training.epochs)
    carry_out(stage, "ranking", file, work.identity, bar, on_record)
    towers.take_projector(None)
    return towers
