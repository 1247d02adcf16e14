"""What one training reads of a data set, as features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from twinrank.data import Dataset, Queries
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError, Fault
from twinrank.ranking import Passages, Reader, reader_of
from twinrank.recipe import PretrainingSettings, Recipe
from twinrank.text import Idf
from twinrank.training.pairing import Groups
from twinrank.training.pretraining import Sightings, groups_of
from twinrank.training.tower_modules import Towers
from twinrank.training.tower_training import Examples


@dataclass(frozen=True)
class Material:
    """The features one training reads.

    Attributes:
        answers: of every answer's passages (v x d).
        train: labelled queries; none where nothing is trained to rank.
        validation: the validation queries, if there are any, or the recipe needs them.
        unseen: their features (v x d).
        sightings: what pre-training sees, if the recipe has any.
    """

    answers: Passages[np.ndarray]
    train: Examples | None
    validation: Queries | None
    unseen: Float[np.ndarray, "v d"]
    sightings: Sightings | None

    @classmethod
    def read(cls, dataset: Dataset, recipe: Recipe, reader: Reader) -> Material:
        """Read what a recipe needs, each text once, new ones with a progress bar.

        Raises:
            DataError: if a split the recipe needs has no labels, or no queries make a pair.
        """
        train = dataset.split("train") if recipe.training else None
        if train is not None and len(train) < 2:
            what = f"{len(train)} labelled query is too few to train on"
            mend = "label more queries, or give `twinrank split` smaller other shares"
            raise DataError([Fault(Path(dataset.name) / "qrels" / "train.tsv", None, what, mend)])
        validation = _validation(dataset, needed=recipe.training is not None)
        groups, paired = _paired(dataset, recipe.pretraining) if recipe.pretraining else (None, [])

        asked = [queries.texts if queries else [] for queries in (train, validation)]
        every = [text for part in (*asked, paired) for text in part]
        queries = reader.queries(every, progress="Choosing sentences of queries")
        passages = reader.passages(dataset.answers, progress="Choosing sentences of answers")
        features = reader.features([*queries, *passages.rows], progress="Encoding")
        texts = [*asked, paired, passages.rows]
        ends = np.cumsum([len(part) for part in texts])[:-1]
        seen, unseen, views, answers = np.split(features, ends)
        settings = recipe.pretraining
        return cls(
            answers=passages.of(answers),
            train=Examples.of(seen, train) if train else None,
            validation=validation,
            unseen=unseen,
            sightings=Sightings(views, groups, settings) if groups and settings else None,
        )

    def through(self, towers: Towers) -> Material:
        """The same, every feature mapped by a frozen query tower."""
        device = towers.log_scale.device

        def mapped(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
            with torch.inference_mode():
                return towers.query(torch.as_tensor(features, device=device)).cpu().numpy()

        train = self.train and replace(self.train, features=mapped(self.train.features))
        answers = replace(self.answers, rows=mapped(self.answers.rows))
        return replace(self, answers=answers, train=train, unseen=mapped(self.unseen))


def reader_for(
    dataset: Dataset,
    recipe: Recipe,
    store: FeatureStore | None,
    device: str,
    *,
    tuned: Path | None = None,
) -> Reader:
    """What reads texts for a recipe of the `dense` channel, trained on a data set.

    If it chooses sentences, words are weighed by the answers and all queries that training may
    see, labelled or not: none of a thread that validation or test ask about.

    Args:
        dataset: to train on.
        recipe: names the encoder.
        store: see `Reader`.
        device: where the encoder runs.
        tuned: see `encoder_of`.
    """
    idf = None
    if recipe.selects:
        idf = Idf.of([*dataset.answer_texts(), *dataset.for_pretraining().texts])
    return reader_of(recipe, store, device, idf=idf, tuned=tuned)


def _validation(dataset: Dataset, *, needed: bool) -> Queries | None:
    """The validation queries; an untrained ranker can do without."""
    there = "validation" in dataset.labels["split"]
    return dataset.split("validation") if needed or there else None


def _paired(dataset: Dataset, settings: PretrainingSettings) -> tuple[Groups, list[str]]:
    """The groups that pre-training pairs in, and the texts of the queries they count."""
    queries = dataset.for_pretraining()
    groups, rows = groups_of(queries, settings).compact()
    check_pairs(dataset, settings, groups)
    return groups, queries.frame["text"].gather(rows).to_list()


def check_pairs(
    dataset: Dataset, settings: PretrainingSettings, groups: Groups | None = None
) -> None:
    """Refuse pre-training that finds nothing to pair.

    Raises:
        DataError: if fewer than two pairs of queries can be made.
    """
    groups = groups or groups_of(dataset.for_pretraining(), settings)
    least = settings.min_pairs if settings.pairing == "within-answer" else 1
    if groups.pairs_within[groups.pairs_within >= least].sum() < 2:
        group = "thread" if settings.pairing == "thread" else "answer"
        enough = f" in groups of {least} or more" if least > 2 else ""
        what = f"too few queries of one {group} and of different types to pair{enough}"
        mend = "give queries a `type`, and a `thread` or labels that join them, or pair otherwise"
        raise DataError([Fault(Path(dataset.name) / "queries.jsonl", None, what, mend)])
