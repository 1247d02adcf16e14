"""What is planned for: how many answers, queries and questions a second, and how long they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from twinrank.data import Dataset, answer_texts, section_texts
from twinrank.encoding import Encoder
from twinrank.encoding.model_files import resolve
from twinrank.errors import PlanError
from twinrank.planning.constants import Assumed
from twinrank.ranking import encoder_of
from twinrank.recipe import Recipe

SAMPLED = 2_000  # texts whose tokens are counted
NAMES = {
    "layers": ("num_hidden_layers", "n_layers"),
    "width": ("hidden_size", "dim"),
    "inner": ("intermediate_size", "hidden_dim"),
}


@dataclass(frozen=True)
class Shape:
    """Of an encoder: its layers, and how wide they are outside and inside."""

    layers: int
    width: int
    inner: int

    @classmethod
    def of(cls, name: str) -> Shape:
        """The shape of an encoder's model.

        Raises:
            EncoderError: if there is no such encoder.
            PlanError: if its configuration does not say.
        """
        return cls(**{field: _said(name, resolve(name).config, field) for field in NAMES})

    def flop(self, tokens: float) -> float:
        """FLOPs of the products for a text of so many tokens, padding left out."""
        matrices = 4 * self.width**2 + 2 * self.width * self.inner
        return self.layers * (2 * tokens * matrices + 4 * tokens**2 * self.width)


def _said(name: str, config: Mapping[str, Any], field: str) -> int:
    for key in NAMES[field]:
        if isinstance(config.get(key), int):
            return int(config[key])
    raise PlanError(f"{name}: its config.json names no {NAMES[field][0]}; plan a BERT-like encoder")


@dataclass(frozen=True)
class Workload:
    """What is planned for.

    Attributes:
        recipe: how the ranker is made.
        encoder: its shape; of no effect if the recipe takes none.
        answers: how many.
        queries: labelled, to train on; those of the past that vote, too.
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
    def width(self) -> int:
        """Of features and vectors."""
        return self.encoder.width

    @property
    def texts(self) -> float:
        """That are encoded."""
        return self.passages + self.queries + self.validation

    @property
    def tokens(self) -> float:
        """Of all that is encoded."""
        asked = (self.queries + self.validation) * self.query_tokens
        return self.passages * self.passage_tokens + asked


def workload_of(
    recipe: Recipe,
    *,
    answers: float | None = None,
    queries: float | None = None,
    qps: float = 0.0,
    data: Dataset | None = None,
) -> Workload:
    """A workload whose texts are as long as those of a data set, or as is assumed.

    Args:
        recipe: how the ranker is made.
        answers: how many; none takes those of the data set.
        queries: to train on; none takes those that the data set has labelled for it.
        qps: questions a second.
        data: what texts are like.

    Raises:
        PlanError: if a number is missing or makes no sense, or the recipe's training is more
            than is planned.
        DataError: if the data set has no labels to train on.
    """
    if recipe.tuning or recipe.pretraining:
        what = "tuning of the encoder" if recipe.tuning else "pre-training"
        raise PlanError(f"{recipe.name}: {what} is not planned; give a recipe without it")
    if data is None and (answers is None or queries is None):
        raise PlanError("give --answers and --queries, or a data set (--data) that has both")
    assumed = Assumed.load()
    in_sections = recipe.encoder is not None and recipe.encoder.answers == "sections"
    source = "assumed, as in mozilla-support"
    sizes = {
        "sections": assumed.sections if in_sections else 1.0,
        "passage_tokens": assumed.passage_tokens,
        "query_tokens": assumed.query_tokens,
        "validation": assumed.validation_queries,
    }
    if data is not None:
        source = f"counted in {data.name}"
        sizes |= _sizes(data, encoder_of(recipe), in_sections=in_sections)
        answers = data.answers.height if answers is None else answers
        queries = len(data.split("train")) if queries is None else queries
    assert answers is not None and queries is not None  # noqa: S101 (checked above)
    training = recipe.training
    return Workload(
        recipe=recipe,
        encoder=Shape.of(encoder_of(recipe).name),
        answers=answers,
        queries=queries,
        qps=qps,
        epochs=min(assumed.epochs, training.epochs) if training else 0.0,
        source=source,
        **sizes,
    )


def _sizes(data: Dataset, encoder: Encoder, *, in_sections: bool) -> dict[str, float]:
    """What a data set says of the lengths of its texts, by some of them."""
    passages = section_texts(data.answers)[0] if in_sections else answer_texts(data.answers)
    queries = data.split("train").texts
    validation = data.labels.filter(pl.col("split") == "validation")["query"].n_unique()
    return {
        "sections": len(passages) / data.answers.height,
        "passage_tokens": _tokens(encoder, passages),
        "query_tokens": _tokens(encoder, queries),
        "validation": float(validation),
    }


def _tokens(encoder: Encoder, texts: Sequence[str]) -> float:
    """Tokens that an encoder reads of a text, on average."""
    rows = np.unique(np.linspace(0, len(texts) - 1, min(SAMPLED, len(texts))).astype(int))
    counts = encoder.count_tokens([texts[row] for row in rows])
    return float(np.minimum(counts, encoder.max_tokens).mean())
