"""A recipe: every choice of one training, as frozen, validated data."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import Stemmer
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from twinrank.arguments import path_of
from twinrank.errors import RecipeError
from twinrank.files import read_text

Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Keep = Literal["loss", "worst-type"]
# Fields that recipes once had, and why they are gone.
GONE = {
    "training.label_smoothing": "it gained nothing that could be measured",
    "training.even": "group-robust weights gained nothing that could be measured",
    "tuning.label_smoothing": "it gained nothing that could be measured",
}


class _Settings(BaseModel):
    """Frozen, and an unknown key is an error rather than a silent no-op."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EncoderSettings(_Settings):
    """Which frozen backbone is read, and how.

    Args:
        name: a model's name, or its folder.
        pooling: what a text's tokens become one vector by.
        max_tokens: what is longer is cut.
        precision: that of the arithmetic; `auto` is bf16 where the hardware is faster in it, else
            fp32.
        text: what is read of a text, answer or query, with more than `max_tokens`: its beginning
            (`head`), or the sentences that score best by TF-IDF, with the title; of the whole
            text (`tfidf`), or as many from each section of an answer (`sections`).
        answers: how many vectors an answer is: one (`whole`), or one for each of its sections
            (`sections`), of which `text` says what is read.
    """

    name: str = "all-MiniLM-L6-v2"
    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: Annotated[int, Field(ge=8)] = 128
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    text: Literal["head", "tfidf", "sections"] = "head"
    answers: Literal["whole", "sections"] = "whole"

    @field_validator("precision", mode="before")
    @classmethod
    def _refuse_int8(cls, precision: object) -> object:
        if precision == "int8":
            raise ValueError("there is no int8 any more: it gained 16 % at most; use auto")
        return precision

    @model_validator(mode="after")
    def _settings_fit_together(self) -> EncoderSettings:
        if self.text == "sections" and self.answers == "sections":
            raise ValueError(
                "text = 'sections' chooses among the sections that answers = 'sections' keeps "
                "apart; with vectors for each, give text = 'tfidf'"
            )
        return self


class WordSettings(_Settings):
    """That words are read, by the `bm25` channel or beside the dense one; nothing to set."""


class TowerSettings(_Settings):
    """The trained heads that map features into the space where scores are dot products.

    Args:
        kind: see `twinrank.training.tower_modules.Towers`.
        dual: whether answers have a tower of their own.
        dropout: while training.
        offsets: whether each answer of training also learns a vector of its own, which is added
            to those that its text gives it; an answer that comes later has none.
    """

    kind: Literal["projection", "residual"] = "residual"
    dual: bool = False
    dropout: Rate = 0.1
    offsets: bool = False


class MemorySettings(_Settings):
    """What labelled queries of the past say, beside the towers; see `twinrank.ranking.PastSignal`.

    Args:
        newcomer: what an answer that came after training is given instead of a past, in nats,
            before its weight: without it, answers with a past would nearly always be preferred.
    """

    newcomer: Annotated[float, Field(ge=0)] = 2.0


class TrainingSettings(_Settings):
    """How the towers are fitted.

    Args:
        batch_size: queries a step.
        learning_rate: and `weight_decay`: AdamW's.
        epochs: at most as many.
        patience: stop after as many epochs that were no better than the best.
        clip: norm of the gradient.
        keep: which epoch: of the lowest validation `loss`, or where the `worst-type` has the
            highest MAP@10.
        index: `exact` projects every answer at every step; `stale` re-projects `answer_batch`
            vectors a step and scores against older ones of the rest; `sampled` projects the
            right answers of the batch and `answer_sample` others, half of them hard; `auto` is
            `exact`, or `sampled` where that costs less (docs/training-speed.md).
        answer_batch: see `index`.
        answer_sample: see `index`.
        precision: of a step's matrix products on a CPU: `fp32`, `bf16` (oneDNN may round what
            it multiplies; all else stays fp32), or `auto`: `bf16` where that is faster and
            rounds nothing. Accelerators compute in fp32, and validation does everywhere.
    """

    batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    epochs: Positive = 50
    patience: Positive = 10
    clip: Annotated[float, Field(gt=0)] = 1.0
    keep: Keep = "loss"
    index: Literal["auto", "exact", "stale", "sampled"] = "auto"
    answer_batch: Positive = 50
    answer_sample: Annotated[int, Field(ge=2)] = 2048
    precision: Literal["auto", "fp32", "bf16"] = "auto"


class TuningSettings(_Settings):
    """How the encoder itself is trained, before its features are stored and towers fitted.

    Args:
        method: `full` trains every weight; `lora` (Hu et al. 2022) adds a product of two thin
            matrices to each linear layer, trains those, and merges them in the end.
        rank: of those matrices.
        batch_size: queries a step, over all processes.
        fresh: passages of answers re-encoded a step: those the loss pulls at most.
        refresh_every: queries between two refreshes of the whole index, each followed by a
            validation and a checkpoint; an epoch begins with one in any case.
        held_tokens: a step's tokens up to these are held for the way back; what comes beyond
            is encoded a second time there (gradient caching), which bounds the memory.
        learning_rate: AdamW's, the highest: it warms up over a tenth of the steps, then falls
            to zero in a line; and `weight_decay`, `clip`, as in `TrainingSettings`.
        epochs: passes over the labelled queries.
        keep: as in `TrainingSettings`.
    """

    method: Literal["full", "lora"] = "full"
    rank: Positive = 16
    batch_size: Positive = 32
    fresh: Positive = 16
    refresh_every: Positive = 8192
    held_tokens: Positive = 16_384
    learning_rate: Annotated[float, Field(gt=0)] = 3e-5
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    epochs: Positive = 2
    clip: Annotated[float, Field(gt=0)] = 1.0
    keep: Keep = "worst-type"

    @model_validator(mode="after")
    def _settings_fit_together(self) -> TuningSettings:
        if self.method == "full" and self.rank != type(self).model_fields["rank"].default:
            raise ValueError("rank has no effect with method = 'full'; leave it out")
        return self


class PretrainingSettings(_Settings):
    """Barlow Twins on pairs of queries, and what is done with the tower it leaves.

    Args:
        use: `zero-shot` ranks with it; `inherit` starts the ranking towers from it; `freeze`
            puts new towers on top of it; `joint` adds `weight` times its loss to the ranking
            loss of one training, whose optimiser it shares.
        sides: which towers inherit.
        pairing: who is paired with whom; see `twinrank.training.pairing`.
        projector: width of the layers put on top and thrown away; absent has none.
        off_diagonal: lambda of the loss.
        weight: of the loss beside the ranking loss.
        batch_size: pairs a step; of no effect `within-answer`, where a batch is an answer.
        learning_rate: and `weight_decay`, `epochs`, `clip`: as in `TrainingSettings`.
        min_pairs: answers with fewer pairs are left out `within-answer`.
        shuffled: a control: partners across the epoch change places.
        statistics: `all`, a control: a batch `within-answer` is standardised, in the loss and
            in BatchNorm, together with `batch_size` pairs of all answers.
    """

    use: Literal["zero-shot", "inherit", "freeze", "joint"]
    sides: Literal["both", "query"] = "both"
    pairing: Literal["across-answers", "within-answer", "thread"] = "across-answers"
    projector: Positive | None = None
    off_diagonal: Annotated[float, Field(ge=0)] = 5e-3
    weight: Annotated[float, Field(gt=0)] = 1.0
    batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    epochs: Positive = 20
    clip: Annotated[float, Field(gt=0)] = 1.0
    min_pairs: Annotated[int, Field(ge=2)] = 2
    shuffled: bool = False
    statistics: Literal["batch", "all"] = "batch"

    @model_validator(mode="after")
    def _settings_fit_together(self) -> PretrainingSettings:
        """A setting that would have no effect is an error, as an unknown one is."""
        within = self.pairing == "within-answer"
        of_its_own_training = ("learning_rate", "weight_decay", "epochs", "clip")
        idle = {
            "sides": self.use != "inherit",
            "weight": self.use != "joint",
            "min_pairs": not within,
            "statistics": not within,
            "shuffled": within,
            **dict.fromkeys(of_its_own_training, self.use == "joint"),
        }
        fields = type(self).model_fields
        for name, has_no_effect in idle.items():
            if has_no_effect and getattr(self, name) != fields[name].default:
                raise ValueError(
                    f"{name} has no effect with use = {self.use!r}, pairing = {self.pairing!r}; "
                    "leave it out"
                )
        return self


class Recipe(_Settings):
    """Every choice of one training.

    Args:
        name: what tables call it.
        language: of words and of sentences that are chosen, as Snowball calls it.
        channel: `dense` scores by dot products of towers (or of bare features), `bm25` by words.
        words: of the `bm25` channel; beside trained towers, words are fused with them.
        encoder: of the `dense` channel alone.
        tuning: of that encoder; absent leaves it as it is.
        towers: absent for the untrained encoder, the zero-shot ranker.
        memory: of labelled queries, trained with the towers and fused with them.
        pretraining: of the towers, or of a tower under them, before they are trained or with it.
        training: of the towers; absent if pre-training is all there is (`use = "zero-shot"`).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    language: str = "english"
    channel: Literal["dense", "bm25"] = "dense"
    words: WordSettings | None = None
    encoder: EncoderSettings | None = None
    tuning: TuningSettings | None = None
    towers: TowerSettings | None = None
    memory: MemorySettings | None = None
    pretraining: PretrainingSettings | None = None
    training: TrainingSettings | None = None

    @field_validator("language")
    @classmethod
    def _has_a_stemmer(cls, language: str) -> str:
        known = Stemmer.algorithms()
        if language not in known:
            raise ValueError(f"no Snowball stemmer for {language!r}; there are {', '.join(known)}")
        return language

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Recipe:
        dense = (self.encoder, self.tuning, self.towers, self.memory, self.training)
        if self.channel == "bm25" and (any(dense) or not self.words):
            raise ValueError('channel "bm25" takes a [words] table, and no other')
        if self.channel == "dense" and not self.encoder:
            raise ValueError('channel "dense" takes an [encoder] table')
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
        if not (self.words or self.selects) and self.language != "english":
            raise ValueError(
                "language has no effect without [words] or a choice of sentences; leave it out"
            )
        return self

    @property
    def selects(self) -> bool:
        """Whether sentences are chosen of texts that are longer than the encoder reads."""
        return self.encoder is not None and self.encoder.text != "head"

    @property
    def fused(self) -> bool:
        """Whether several channels are weighed against each other."""
        return self.channel == "dense" and bool(self.words or self.memory)

    @classmethod
    def load(cls, name_or_file: str | Path | Recipe) -> Recipe:
        """A named recipe, or the one in a TOML file; a recipe is returned as it is.

        Raises:
            RecipeError: if there is no such recipe, or it does not validate.
        """
        if isinstance(name_or_file, Recipe):
            return name_or_file
        text = str(path_of(name_or_file, "a recipe's name or file"))
        if text.endswith(".toml"):
            file = Path(text)
            toml = read_text(file, "recipe file", RecipeError)
            return cls._parse(toml, source=text, name=file.stem)
        packaged = resources.files("twinrank") / "recipes" / f"{text}.toml"
        if text not in recipe_names():
            raise RecipeError(
                f"no recipe is called {text!r}; choose one of {', '.join(recipe_names())}, "
                "or give a file that ends in .toml"
            )
        return cls._parse(packaged.read_text(encoding="utf-8"), source=text, name=text)

    @classmethod
    def _parse(cls, toml: str, *, source: str, name: str) -> Recipe:
        try:
            values: dict[str, Any] = tomllib.loads(toml)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{source}: not valid TOML: {error}") from None
        return cls.validated({"name": name, **values}, source=source)

    @classmethod
    def validated(cls, values: dict[str, Any], *, source: str) -> Recipe:
        """A recipe from plain values; `source` is named in the error."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            faults = []
            for fault in error.errors():
                field = ".".join(map(str, fault["loc"])) or "recipe"
                why = GONE.get(field)
                message = f"there is no such field any more: {why}; leave it out" if why else ""
                faults.append(f"{field}: {message or fault['msg']}")
            raise RecipeError(f"{source}: {'; '.join(faults)}") from None

    def values(self) -> dict[str, Any]:
        """Plain JSON values, without what is absent."""
        return self.model_dump(mode="json", exclude_none=True)


def recipe_names() -> tuple[str, ...]:
    """The recipes that come with twinrank, sorted."""
    folder = resources.files("twinrank") / "recipes"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir()))
