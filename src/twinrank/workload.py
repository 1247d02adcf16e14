"""The size that is planned for, the machines that a plan counts, and the constants it rests on."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from twinrank.data import Dataset, answer_texts, section_texts
from twinrank.encoding import Encoder
from twinrank.encoding.model_files import resolve
from twinrank.errors import PlanError
from twinrank.files import read_text
from twinrank.ranking import encoder_of
from twinrank.recipe import Recipe

GB = 1e9
FLOAT_BYTES = 4
MAX_SAMPLED_TEXTS = 2_000  # whose tokens are counted


@dataclass
class Constants:
    """The constants by name; `read` notes the names that were read, in order."""

    values: Mapping[str, float]
    lines: Mapping[str, str]  # under a plan: measured or assumed, the meaning, the value
    source: str  # when, where and how they were measured
    read: dict[str, None] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        self.read[name] = None
        return self.values[name]


def load_constants(file: Path | None = None) -> Constants:
    """Read the package's constants, with the values of a TOML file in place of some.

    The file has a table [measured] or [assumed] with `name = value`, and may have [source].

    Raises:
        PlanError: if the file cannot be read, or has an unknown name or a value below 0.
    """
    tables = _read_packaged()
    kinds = {name: kind for kind in ("measured", "assumed") for name in tables[kind]}
    values = {name: float(tables[kind][name][0]) for name, kind in kinds.items()}
    source = tables["source"]
    if file is not None:
        try:
            changes = tomllib.loads(read_text(file, "file of constants", PlanError))
        except tomllib.TOMLDecodeError as error:
            raise PlanError(f"{file}: no TOML: {error}; see docs/guides/plan.md") from None
        source |= changes.pop("source", {"on": str(file)})
        for table, entries in changes.items():
            for name, value in (entries if isinstance(entries, dict) else {table: entries}).items():
                if name not in values or not isinstance(value, int | float):
                    raise PlanError(
                        f"{file}: {name} = {value!r} is no constant; see docs/guides/plan.md"
                    )
                values[name] = check_number(f"{file}: {name}", value)
    lines = {
        name: f"{kind}: {tables[kind][name][1]}: {values[name]:,.4g}"
        for name, kind in kinds.items()
    }
    line = f"measured by `{source['command']}`, {source['date']}, {source['on']}"
    return Constants(values, lines, line)


def _read_packaged() -> dict[str, Any]:
    packaged = resources.files("twinrank") / "planning_constants.toml"
    return tomllib.loads(packaged.read_text(encoding="utf-8"))


def check_number(name: str, value: float, least: float = 0) -> float:
    """Refuse a number that is too small, or not finite.

    Raises:
        PlanError: if it is.
    """
    if not least <= value < math.inf:
        raise PlanError(f"{name} is {value:g}; give a number of {least:g} or more")
    return float(value)


@dataclass(frozen=True)
class Gpu:
    """One card, as its maker publishes it."""

    name: str
    memory_gb: float
    bandwidth_gb_s: float
    bf16_tflop_s: float
    fp32_tflop_s: float


@dataclass(frozen=True)
class Machine:
    """One of the machines that a plan counts; without a GPU it computes on its cores."""

    cores: int
    memory: float  # bytes
    gpu: Gpu | None = None
    assumed: tuple[str, ...] = ()  # names of the constants that its cores and memory are

    @property
    def name(self) -> str:
        """Describe it in words."""
        host = f"{self.cores} cores, {self.memory / GB:,.0f} GB"
        return f"{self.gpu.name}, beside it {host}" if self.gpu else host


def find_machine(
    *, gpu: str | None = None, cpu: int = 1, memory_gb: float | None = None
) -> Machine:
    """Find a GPU by its name, or take a number of cores; None assumes a memory.

    Raises:
        PlanError: if no such GPU is known, or there is no memory.
    """
    constants, gpus = load_constants(), _read_packaged()["gpus"]
    if gpu and gpu.lower() not in gpus:
        raise PlanError(f"no GPU is called {gpu!r} here; choose one of {', '.join(gpus)}")
    assumed = ["host_cores"] if gpu else []
    if memory_gb is None:
        assumed.append("host_memory_gb" if gpu else "memory_a_core_gb")
        memory_gb = constants[assumed[-1]] * (1 if gpu else cpu)
    memory = GB * check_number("memory", memory_gb, 0.001)
    cores = int(constants["host_cores"]) if gpu else cpu
    return Machine(cores, memory, Gpu(**gpus[gpu.lower()]) if gpu else None, tuple(assumed))


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
    config = resolve(encoder).config
    bert = ("num_hidden_layers", "hidden_size", "intermediate_size")
    distilbert = ("n_layers", "dim", "hidden_dim")
    sizes: list[Any] = [config.get(a, config.get(b)) for a, b in zip(bert, distilbert, strict=True)]
    if not all(isinstance(size, int) for size in sizes):
        raise PlanError(f"{encoder}: its config.json lacks a number in {', '.join(bert)}")
    return Shape(*sizes)


@dataclass(frozen=True)
class Workload:
    """The size that is planned for."""

    recipe: Recipe
    encoder: Shape  # of no effect if the recipe takes none
    answers: float
    queries: float  # labelled ones, to train on; they are the past queries that vote, too
    qps: float  # questions a second; 0 serves none
    sections: float  # passages an answer
    passage_tokens: float  # as the encoder reads them, on average
    query_tokens: float
    validation: float  # labelled queries, to validate on
    epochs: float
    source: str  # of the lengths of texts and the number of validation queries

    def __post_init__(self) -> None:
        for name, least in {"answers": 1, "queries": 1, "qps": 0}.items():
            check_number(name, getattr(self, name), least)

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

    @property
    def ranked_tokens(self) -> float:
        """Tokens of the texts that a ranker holds: of answers, and of past queries."""
        return self.passages * self.passage_tokens + self.past * self.query_tokens

    @property
    def word_tokens(self) -> float:
        """Tokens of the texts whose words are indexed."""
        return self.ranked_tokens if self.recipe.words else 0.0

    @property
    def vector_bytes(self) -> float:
        """Bytes of the passages' vectors alone."""
        return self.passages * self.encoder.width * FLOAT_BYTES


def build_workload(
    recipe: Recipe,
    *,
    answers: float | None = None,
    queries: float | None = None,
    qps: float = 0.0,
    data: Dataset | None = None,
) -> Workload:
    """Build a workload whose texts are as long as those of a data set, or as assumed.

    Without a number of answers, or of queries to train on, it is the data set's.

    Raises:
        PlanError: if a number is missing or makes no sense, or the recipe's training is not
            planned.
        DataError: if the data set has no labels to train on.
    """
    if recipe.tuning or recipe.pretraining:
        stage = "tuning of the encoder" if recipe.tuning else "pre-training"
        raise PlanError(f"{recipe.name}: {stage} is not planned; give a recipe without it")
    constants, encoder = load_constants(), encoder_of(recipe)
    in_sections = recipe.encoder is not None and recipe.encoder.answers == "sections"
    source = "assumed, as in mozilla-support"
    sizes = {
        "sections": constants["sections"] if in_sections else 1.0,
        "passage_tokens": constants["passage_tokens"],
        "query_tokens": constants["query_tokens"],
        "validation": constants["validation_queries"],
    }
    if data is not None:
        source, trained = f"counted in {data.name}", data.split("train").texts
        passages = section_texts(data.answers)[0] if in_sections else answer_texts(data.answers)
        validation = data.labels.filter(pl.col("split") == "validation")["query"].n_unique()
        sizes = {
            "sections": len(passages) / data.answers.height,
            "passage_tokens": _average_tokens(passages, encoder),
            "query_tokens": _average_tokens(trained, encoder),
            "validation": float(validation),
        }
        answers = data.answers.height if answers is None else answers
        queries = len(trained) if queries is None else queries
    if answers is None or queries is None:
        raise PlanError("give --answers and --queries, or a data set (--data) that has both")
    epochs = min(constants["epochs"], recipe.training.epochs) if recipe.training else 0.0
    shape = read_shape(encoder.name)
    return Workload(recipe, shape, answers, queries, qps, **sizes, epochs=epochs, source=source)


def _average_tokens(texts: Sequence[str], encoder: Encoder) -> float:
    """Average the tokens that the encoder reads of a text, by a sample of the texts."""
    count = min(MAX_SAMPLED_TEXTS, len(texts))
    rows = np.unique(np.linspace(0, len(texts) - 1, count).astype(int))
    counts = encoder.count_tokens([texts[row] for row in rows])
    return float(np.minimum(counts, encoder.max_tokens).mean())
