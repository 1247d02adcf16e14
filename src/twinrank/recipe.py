"""A recipe: every choice of one training, as frozen, validated data."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from twinrank.arguments import path_of
from twinrank.errors import TwinrankError, describe_faults
from twinrank.files import parse_toml, read_text
from twinrank.languages import LANGUAGE_CODES

Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
TwoOrMore = Annotated[int, Field(ge=2)]
AboveZero = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Keep = Literal["loss", "worst-type"]


class _Settings(BaseModel):
    """Frozen; an unknown key, or one that would have no effect, is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def _refuse_idle(self, idle: Mapping[str, bool], context: str) -> None:
        """Refuse a field that is set although it has no effect in this context."""
        for name, has_no_effect in idle.items():
            if has_no_effect and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect with {context}; leave it out")


class EncoderSettings(_Settings):
    """The frozen backbone, and how it reads texts."""

    name: str = "all-MiniLM-L6-v2"  # of a model, or its folder
    # More of them, which read the same texts; their features stand beside those of the first.
    others: tuple[str, ...] = ()
    # Of a text's tokens into one vector; `auto` is as the encoder's own folder says, else `mean`.
    pooling: Literal["auto", "mean", "cls"] = "auto"
    # What the encoder reads before each query and each answer; absent is as its own folder says.
    query_prompt: str | None = None
    document_prompt: str | None = None
    max_tokens: Annotated[int, Field(ge=8)] = 128  # a longer text is cut
    # Of the arithmetic; `auto` is bf16 where the hardware is faster in it, else fp32.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # What is read of a text, answer or query, with more than `max_tokens`: its beginning (`head`),
    # or the sentences that score best by TF-IDF, with the title; of the whole text (`tfidf`), or
    # as many from each section of an answer (`sections`).
    text: Literal["head", "tfidf", "sections"] = "head"
    # How many vectors an answer is: one (`whole`), or one for each of its sections (`sections`),
    # of which `text` says what is read.
    answers: Literal["whole", "sections"] = "whole"

    @model_validator(mode="after")
    def _settings_fit_together(self) -> EncoderSettings:
        if self.text == "sections" and self.answers == "sections":
            raise ValueError(
                "text = 'sections' chooses among the sections that answers = 'sections' keeps "
                "apart; with vectors for each, give text = 'tfidf'"
            )
        return self


class WordSettings(_Settings):
    """Ranking by words, by the `bm25` channel or with the dense one; nothing to set."""


class TowerSettings(_Settings):
    """The trained heads that map features into the space where scores are dot products."""

    kind: Literal["projection", "residual"] = "residual"  # see `training.tower_modules`
    dual: bool = False  # whether answers have a tower of their own
    dropout: Rate = 0.1  # while training
    # Whether each answer of training also learns a vector, which is added to those that its text
    # gives it; an answer that comes later has none.
    offsets: bool = False


class MemorySettings(_Settings):
    """Votes of past queries, next to the towers; see `twinrank.ranking.PastSignal`."""

    # Nats that an answer gets instead of a past if it came after training, before its weight:
    # without them, answers with a past would nearly always be preferred.
    newcomer: NotNegative = 2.0


class TrainingSettings(_Settings):
    """How the towers are fitted."""

    batch_size: Positive = 64  # queries a step
    learning_rate: AboveZero = 1e-3  # AdamW's, as is `weight_decay`
    weight_decay: NotNegative = 1e-2
    epochs: Positive = 50  # at most
    patience: Positive = 10  # stop after as many epochs that were no better than the best
    clip: AboveZero = 1.0  # norm of the gradient
    # Which epoch: of the lowest validation `loss`, or where the `worst-type` has the highest
    # MAP@10.
    keep: Keep = "loss"
    # `exact` projects every answer at every step; `stale` re-projects `answer_batch` vectors a
    # step and scores against older ones of the rest; `sampled` projects the right answers of the
    # batch and `answer_sample` more, half of them hard; `auto` is `exact`, or `sampled` where
    # that costs less (docs/measurements/speed.md).
    index: Literal["auto", "exact", "stale", "sampled"] = "auto"
    answer_batch: Positive = 50
    answer_sample: TwoOrMore = 2048
    # Of a step's matrix products on a CPU: `fp32`, `bf16` (oneDNN may round what it multiplies;
    # all else stays fp32), or `auto`: `bf16` where that is faster and rounds nothing.
    # Accelerators compute in fp32, and validation does everywhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class TuningSettings(_Settings):
    """How the encoder itself is trained, before its features are stored and towers fitted."""

    # `full` trains every weight; `lora` (Hu et al. 2022) adds a product of two thin matrices to
    # each linear layer, trains those, and merges them in the end.
    method: Literal["full", "lora"] = "full"
    rank: Positive = 16  # of those matrices
    batch_size: Positive = 32  # queries a step, over all processes
    fresh: Positive = 16  # passages of answers re-encoded a step: those the loss pulls at most
    # Queries between two refreshes of the whole index, each followed by a validation and a
    # checkpoint; an epoch begins with one in any case.
    refresh_every: Positive = 8192
    # A step's tokens up to these stay in memory for the way back; what comes beyond is encoded a
    # second time there (activation checkpointing), which bounds the memory.
    held_tokens: Positive = 16_384
    # AdamW's, the highest: it warms up over a tenth of the steps, then falls to zero in a line.
    learning_rate: AboveZero = 3e-5
    weight_decay: NotNegative = 1e-2
    epochs: Positive = 2  # passes over the labelled queries
    clip: AboveZero = 1.0
    keep: Keep = "worst-type"  # as in `TrainingSettings`

    @model_validator(mode="after")
    def _settings_fit_together(self) -> TuningSettings:
        self._refuse_idle({"rank": self.method == "full"}, "method = 'full'")
        return self


class PretrainingSettings(_Settings):
    """Barlow Twins on pairs of queries, and what is done with the tower it leaves."""

    # `zero-shot` ranks with it; `inherit` starts the ranking towers from it; `freeze` puts new
    # towers on top of it; `joint` adds `weight` times its loss to the ranking loss of one
    # training, whose optimiser it shares.
    use: Literal["zero-shot", "inherit", "freeze", "joint"]
    # Which queries are paired; see `training.pretraining`.
    pairing: Literal["across-answers", "within-answer", "thread"] = "across-answers"
    # Width of the layers put on top and thrown away; absent has none.
    projector: Positive | None = None
    off_diagonal: NotNegative = 5e-3  # lambda of the loss
    weight: AboveZero = 1.0  # of the loss next to the ranking loss
    batch_size: TwoOrMore = 256  # pairs; of no effect `within-answer`, where a batch is an answer
    learning_rate: AboveZero = 1e-3  # this and the next three as in `TrainingSettings`
    weight_decay: NotNegative = 1e-2
    epochs: Positive = 20
    clip: AboveZero = 1.0
    min_pairs: TwoOrMore = 2  # answers with fewer are left out `within-answer`
    shuffled: bool = False  # a control: partners across the epoch are exchanged
    # Controls: `noise` walks along random numbers instead of the loss's gradient, `none` takes no
    # step, so that only BatchNorm sees the queries.
    gradient: Literal["loss", "noise", "none"] = "loss"
    # `all`, a control: a batch `within-answer` is standardised, in the loss and in BatchNorm,
    # together with `batch_size` pairs of all answers.
    statistics: Literal["batch", "all"] = "batch"

    @model_validator(mode="after")
    def _settings_fit_together(self) -> PretrainingSettings:
        within = self.pairing == "within-answer"
        of_a_stage = ("learning_rate", "weight_decay", "epochs", "clip", "gradient")
        idle = {
            "weight": self.use != "joint",
            "min_pairs": not within,
            "statistics": not within,
            "shuffled": within,
            **dict.fromkeys(of_a_stage, self.use == "joint"),
        }
        self._refuse_idle(idle, f"use = {self.use!r}, pairing = {self.pairing!r}")
        return self


class Recipe(_Settings):
    """Every choice of one training."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # in tables
    # Of words and of sentences, a name of `languages.LANGUAGE_CODES`; `auto` is detected in the
    # answers when it trains.
    language: str = "auto"
    # `dense` scores by dot products of towers (or of bare features), `bm25` by words.
    channel: Literal["dense", "bm25"] = "dense"
    words: WordSettings | None = None  # of `bm25`; with trained towers, words are fused with them
    encoder: EncoderSettings | None = None  # of `dense` alone
    tuning: TuningSettings | None = None  # of that encoder; absent leaves it as it is
    towers: TowerSettings | None = None  # absent for the untrained encoder, the zero-shot ranker
    memory: MemorySettings | None = None  # of labelled queries, trained and fused with the towers
    # Of the towers, or of a tower under them, before they are trained or with it.
    pretraining: PretrainingSettings | None = None
    # Of the towers; absent if pre-training is all there is (`use = "zero-shot"`).
    training: TrainingSettings | None = None

    @field_validator("language")
    @classmethod
    def _is_known(cls, language: str) -> str:
        known = ("auto", *LANGUAGE_CODES)
        if language not in known:
            raise ValueError(f"{language!r} is not known; choose {', '.join(known)}")
        return language

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Recipe:
        dense = (self.encoder, self.tuning, self.towers, self.memory, self.training)
        if self.channel == "bm25" and (any(dense) or not self.words):
            raise ValueError('channel "bm25" takes a [words] table, and no other')
        if self.channel == "dense" and not self.encoder:
            raise ValueError('channel "dense" takes an [encoder] table')
        if self.tuning and self.encoder and self.encoder.others:
            raise ValueError("[tuning] takes one encoder: leave out others")
        if self.channel == "dense" and (self.words or self.memory) and not self.training:
            raise ValueError("[words] and [memory] stand beside towers with a [training] table")
        if self.memory and self.towers and self.towers.kind != "residual":
            raise ValueError('[memory] takes towers of kind "residual": it compares unit vectors')
        if self.pretraining and self.pretraining.use == "zero-shot":
            if not self.towers or self.towers.dual or self.training:
                raise ValueError(
                    'use = "zero-shot" takes single [towers], and no [training]: '
                    "the pre-trained tower ranks as it is"
                )
        elif bool(self.towers) != bool(self.training):
            raise ValueError("[towers] and [training] go together: give both or neither")
        elif self.pretraining and not self.towers:
            raise ValueError("[pretraining] takes [towers] to pre-train")
        return self

    @property
    def selects(self) -> bool:
        """Whether sentences are chosen of texts that are longer than the encoder reads."""
        return self.encoder is not None and self.encoder.text != "head"

    @property
    def fused(self) -> bool:
        """Whether several signals are weighed against each other."""
        return self.channel == "dense" and bool(self.words or self.memory)

    @classmethod
    def load(cls, name_or_file: str | Path | Recipe) -> Recipe:
        """Load a named recipe, or the one in a TOML file; a recipe is returned as it is.

        Raises:
            TwinrankError: if there is no such recipe, or it does not validate.
        """
        if isinstance(name_or_file, Recipe):
            return name_or_file
        source = str(path_of(name_or_file, "a recipe's name or file"))
        if source.endswith(".toml"):
            name, toml = Path(source).stem, read_text(Path(source), "recipe file")
        elif source in recipe_names():
            packaged = resources.files("twinrank") / "recipes" / f"{source}.toml"
            name, toml = source, packaged.read_text(encoding="utf-8")
        else:
            raise TwinrankError(
                f"no recipe is called {source!r}; choose one of {', '.join(recipe_names())}, "
                "or give a file that ends in .toml"
            )
        return cls.validated({"name": name, **parse_toml(toml, source)}, source=source)

    @classmethod
    def validated(cls, values: dict[str, Any], *, source: str) -> Recipe:
        """Make a recipe of plain values; `source` is named in the error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise TwinrankError(f"{source}: {describe_faults(error, 'recipe')}") from None

    def values(self) -> dict[str, Any]:
        """Plain JSON values, without what is absent."""
        return self.model_dump(mode="json", exclude_none=True)


def recipe_names() -> tuple[str, ...]:
    """Name the recipes that come with twinrank, sorted."""
    folder = resources.files("twinrank") / "recipes"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))


def recipe_summary(name: str) -> str:
    """Return the comment that begins a packaged recipe; empty for a recipe of somebody's own."""
    if name not in recipe_names():
        return ""
    toml = (resources.files("twinrank") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    comment = takewhile(lambda line: line.startswith("#"), toml.splitlines())
    return " ".join(line.strip("# ") for line in comment).replace("`", "")
