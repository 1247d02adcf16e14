"""The features that one training reads of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse

from twinrank.data import Dataset, Queries
from twinrank.data.text_selection import Idf
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError, Fault
from twinrank.evaluation import by_type, means, measure
from twinrank.ranking import (
    INITIAL_WEIGHTS,
    DenseSignal,
    Passages,
    PastQueries,
    PastSignal,
    QueryBatch,
    Reader,
    Scoring,
    Signal,
    complete,
    reader_of,
)
from twinrank.recipe import Recipe
from twinrank.training.pretraining import PairedQueries, check_pairs, group_queries
from twinrank.training.tower_modules import Past, Towers, in_chunks


@dataclass(frozen=True)
class Examples:
    """Labelled queries to train on."""

    features: Float[np.ndarray, "n d"]
    labels: sparse.csr_array  # their right answers, n x m
    threads: Int[np.ndarray, " n"]  # a number for each query's thread: a memory is blind to it

    def past(self, towers: Towers) -> Past:
        """Return the queries as a memory's past, by towers as they are now."""
        device = towers.log_scale.device
        with torch.no_grad():
            vectors = in_chunks(towers.query, torch.as_tensor(self.features, device=device))
        voters, answers = (
            torch.as_tensor(rows.astype(np.int64), device=device) for rows in self.labels.nonzero()
        )
        return Past(vectors, voters, answers)


@dataclass(frozen=True)
class TrainingData:
    """The features that one training reads: of passages, and of queries by their use."""

    answers: Passages[np.ndarray]
    train: Examples | None = None  # None where nothing is trained to rank
    validation: Queries | None = None
    validation_features: Float[np.ndarray, "n d"] = field(
        default_factory=lambda: np.empty((0, 0), np.float32)
    )
    pairs: PairedQueries | None = None

    @classmethod
    def read(cls, dataset: Dataset, recipe: Recipe, reader: Reader) -> TrainingData:
        """Read the features that a recipe needs, each text once, new ones with a progress bar.

        Raises:
            DataError: if a split the recipe needs has no labels, or no queries make a pair.
        """
        train = dataset.split("train") if recipe.training else None
        if train is not None and len(train) < 2:
            what = f"{len(train)} labelled query is too few to train on"
            fix = "label more queries, or give `twinrank split` smaller other shares"
            raise DataError([Fault(Path(dataset.name) / "qrels" / "train.tsv", None, what, fix)])
        validation = find_validation(dataset, needed=recipe.training is not None)
        groups, pair_texts = None, []
        if settings := recipe.pretraining:
            queries = dataset.for_pretraining()
            groups, rows = group_queries(queries, settings).compact()
            check_pairs(dataset, settings, groups)
            pair_texts = queries.frame["text"].gather(rows).to_list()

        texts = [*(queries.texts if queries else [] for queries in (train, validation)), pair_texts]
        flat = [text for part in texts for text in part]
        query_texts = reader.queries(flat, progress="Choosing sentences of queries")
        passages = reader.passages(dataset.answers, progress="Choosing sentences of answers")
        features = reader.features([*query_texts, *passages.rows], progress="Encoding")
        ends = np.cumsum([len(part) for part in texts])
        of_train, of_validation, of_pairs, of_answers = np.split(features, ends)
        examples = None
        if train:
            examples = Examples(of_train, train.labels, number_threads(train))
        return cls(
            answers=passages.of(of_answers),
            train=examples,
            validation=validation,
            validation_features=of_validation,
            pairs=PairedQueries(of_pairs, groups, settings) if groups and settings else None,
        )

    def project_by(self, towers: Towers) -> TrainingData:
        """Map every feature by a frozen query tower."""
        device = towers.log_scale.device

        @torch.inference_mode()
        def project(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
            return towers.query(torch.as_tensor(features, device=device)).cpu().numpy()

        return replace(
            self,
            answers=self.answers.of(project(self.answers.rows)),
            train=self.train and replace(self.train, features=project(self.train.features)),
            validation_features=project(self.validation_features),
        )

    def with_validation(self) -> TrainingData:
        """Add the validation queries to those to train on; none are left to validate on."""
        train, validation = self.train, self.validation
        assert train and validation  # noqa: S101 (a ranking was chosen by them)
        threads = number_threads(validation) + train.threads.max() + 1
        examples = Examples(
            np.concatenate([train.features, self.validation_features]),
            sparse.vstack([train.labels, validation.labels], "csr"),
            np.append(train.threads, threads),
        )
        return replace(self, train=examples, validation=None)

    def build_scoring(self, reader: Reader, towers: Towers) -> Scoring:
        """Build the signals of towers as they are now; past queries have no texts yet."""
        frozen = towers.freeze()
        offsets = None if towers.offsets is None else towers.offsets.detach().cpu().numpy().copy()
        dense = DenseSignal.from_features(reader, frozen, self.answers, offsets)
        signals: dict[str, Signal] = {"dense": dense}
        if self.train and towers.memory:
            past = PastQueries(
                texts=[],
                ids=[],
                vectors=frozen.project_queries(self.train.features),
                labels=self.train.labels.astype(np.float32),
                newcomers=np.zeros(self.answers.answers, bool),
            )
            signals["past"] = PastSignal(past, frozen, newcomer=0.0)
        return Scoring(signals, INITIAL_WEIGHTS)

    def embed_validation(self, towers: Towers) -> QueryBatch:
        """Project the validation queries; their texts are left out."""
        return QueryBatch([], towers.freeze().project_queries(self.validation_features))

    def validate(self, reader: Reader, towers: Towers) -> dict[str, Any]:
        """Measure towers on the validation split; empty if there is none."""
        if self.validation is None:
            return {}
        scoring, queries = self.build_scoring(reader, towers), self.embed_validation(towers)
        return measure_quality(lambda rows: scoring.scores(queries[rows]), self.validation)


def measure_quality(
    score: Callable[[slice], Float[np.ndarray, "n m"]], queries: Queries
) -> dict[str, Any]:
    """Return every metric over queries, and under `types` those of each type."""
    rows = measure(score, queries)
    return {**means(rows), "types": {kind: means(part) for kind, part in by_type(rows).items()}}


def number_threads(queries: Queries) -> Int[np.ndarray, " n"]:
    """Return a number for each query's thread."""
    _, threads = np.unique(queries.frame["thread"].to_numpy(), return_inverse=True)
    return threads


def find_validation(dataset: Dataset, *, needed: bool) -> Queries | None:
    """Return the validation queries; None if there are none and they are not needed."""
    exists = "validation" in dataset.labels["split"]
    return dataset.split("validation") if needed or exists else None


def build_reader(
    dataset: Dataset,
    recipe: Recipe,
    store: FeatureStore | None,
    device: str,
    *,
    tuned: Path | None = None,
) -> Reader:
    """Build the reader of texts for a recipe of the `dense` channel, trained on a data set.

    If it chooses sentences, words are weighed by the answers and all queries that training may
    see, labelled or not: none of a thread that validation or test ask about. `tuned` is the folder
    of the tuned encoder, if the recipe tunes it.
    """
    if recipe.language == "auto":  # `train` has filled it in before
        recipe = complete(recipe, dataset)
    idf = None
    if recipe.selects:
        idf = Idf.of([*dataset.answer_texts(), *dataset.for_pretraining().texts])
    return reader_of(recipe, store, device, idf=idf, folders=(tuned,) if tuned else ())
