"""The size that is planned for: answers, queries, questions a second, and lengths of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from twinrank.data import Dataset, answer_texts, section_texts
from twinrank.encoding import Encoder
from twinrank.encoding.model_files import resolve
from twinrank.errors import PlanError
from twinrank.planning.constants import load_constants
from twinrank.ranking import encoder_of
from twinrank.recipe import Recipe

MAX_SAMPLED_TEXTS = 2_000  # whose tokens are counted
CONFIG_NAMES = {
    "layers": ("num_hidden_layers", "n_layers"),
    "width": ("hidden_size", "dim"),
    "inner": ("intermediate_size", "hidden_dim"),
}


@dataclass(frozen=True)
class Shape:
    """Layers of an encoder, and their width outside and inside."""

    layers: int
    width: int
    inner: int

    def flop(self, tokens: float) -> float:
        """Count the FLOPs of the products for a text of so many tokens, without padding."""
        matrices = 4 * self.width**2 + 2 * self.width * self.inner
        return self.layers * (2 * tokens * matrices + 4 * tokens**2 * self.width)


def read_shape(encoder: str) -> Shape:
    """Read the shape of an encoder from its configuration.

    Raises:
        EncoderError: if there is no such encoder.
        PlanError: if its configuration does not say.
    """
    config, sizes = resolve(encoder).config, {}
    for size, names in CONFIG_NAMES.items():
        numbers = [config[name] for name in names if isinstance(config.get(name), int)]
        if not numbers:
            raise PlanError(
                f"{encoder}: its config.json names no {names[0]}; plan a BERT-like encoder"
            )
        sizes[size] = numbers[0]
    return Shape(**sizes)


@dataclass(frozen=True)
class Workload:
    """The size that is planned for.

    Attributes:
        recipe: how the ranker is made.
        encoder: its shape; of no effect if the recipe takes none.
        answers: how many.
        queries: labelled ones, to train on; they are the past queries that vote, too.
        qps: questions a second; 0 serves none.
        sections: passages an answer.
        passage_tokens: as the encoder reads them, on average.
        query_tokens: the same of a query.
        validation: labelled queries, to validate on.
        epochs: of training.
        source: where the lengths of texts and the validation queries come from.
    """

    recipe: Recipe
    encoder: Shape
    answers: float
    queries: float
    qps: float
    sections: float
    passage_tokens: float
    query_tokens: float
    validation: float
    epochs: float
    source: str

    def __post_init__(self) -> None:
        for name, least in {"answers": 1, "queries": 1, "qps": 0}.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= least):
                raise PlanError(f"{name} is {value:g}; give a number of {least} or more")

    @property
    def passages(self) -> float:
        """Vectors that stand for answers."""
        return self.answers * self.sections

    @property
    def past(self) -> float:
        """Past queries that vote."""
        return self.queries if self.recipe.memory else 0.0

    @property
    def texts(self) -> float:
        """Texts to encode."""
        return self.passages + self.queries + self.validation

    @property
    def tokens(self) -> float:
        """Tokens to encode."""
        queries = (self.queries + self.validation) * self.query_tokens
        return self.passages * self.passage_tokens + queries


def build_workload(
    recipe: Recipe,
    *,
    answers: float | None = None,
    queries: float | None = None,
    qps: float = 0.0,
    data: Dataset | None = None,
) -> Workload:
    """Build a workload whose texts are as long as those of a data set, or as assumed.

    Args:
        recipe: how the ranker is made.
        answers: how many; None takes those of the data set.
        queries: to train on; None takes those that the data set has labelled for it.
        qps: questions a second.
        data: gives the lengths of texts.

    Raises:
        PlanError: if a number is missing or makes no sense, or the recipe's training is not
            planned.
        DataError: if the data set has no labels to train on.
    """
    if recipe.tuning or recipe.pretraining:
        stage = "tuning of the encoder" if recipe.tuning else "pre-training"
        raise PlanError(f"{recipe.name}: {stage} is not planned; give a recipe without it")
    constants = load_constants()
    encoder = encoder_of(recipe)
    in_sections = recipe.encoder is not None and recipe.encoder.answers == "sections"
    source = "assumed, as in mozilla-support"
    sizes = {
        "sections": constants["sections"] if in_sections else 1.0,
        "passage_tokens": constants["passage_tokens"],
        "query_tokens": constants["query_tokens"],
        "validation": constants["validation_queries"],
    }
    if data is not None:
        source = f"counted in {data.name}"
        sizes |= _count_sizes(data, encoder, in_sections=in_sections)
        answers = data.answers.height if answers is None else answers
        queries = len(data.split("train")) if queries is None else queries
    if answers is None or queries is None:
        raise PlanError("give --answers and --queries, or a data set (--data) that has both")
    epochs = min(constants["epochs"], recipe.training.epochs) if recipe.training else 0.0
    shape = read_shape(encoder.name)
    return Workload(recipe, shape, answers, queries, qps, **sizes, epochs=epochs, source=source)


def _count_sizes(data: Dataset, encoder: Encoder, *, in_sections: bool) -> dict[str, float]:
    """Count the lengths of a data set's texts, by a sample of them."""

    def mean_tokens(texts: Sequence[str]) -> float:
        count = min(MAX_SAMPLED_TEXTS, len(texts))
        rows = np.unique(np.linspace(0, len(texts) - 1, count).astype(int))
        counts = encoder.count_tokens([texts[row] for row in rows])
        return float(np.minimum(counts, encoder.max_tokens).mean())

    passages = section_texts(data.answers)[0] if in_sections else answer_texts(data.answers)
    validation = data.labels.filter(pl.col("split") == "validation")["query"].n_unique()
    return {
        "sections": len(passages) / data.answers.height,
        "passage_tokens": mean_tokens(passages),
        "query_tokens": mean_tokens(data.split("train").texts),
        "validation": float(validation),
    }
