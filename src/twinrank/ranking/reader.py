"""Texts to features, as a recipe says; answers whole or by section, whose scores are pooled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from twinrank.data.dataset import Dataset
from twinrank.data.text_selection import Idf, Selection
from twinrank.data.texts import (
    Readable,
    answer_texts,
    readable_answers,
    readable_sections,
    section_texts,
)
from twinrank.encoding import POOLINGS, Encoder, Store
from twinrank.errors import EncoderError
from twinrank.files import is_folder
from twinrank.languages import detect_language
from twinrank.ranking.towers import scale_to_unit
from twinrank.recipe import EncoderSettings, Recipe

Rows = TypeVar("Rows")
Others = TypeVar("Others")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passages(Generic[Rows]):
    """What represents m answers: texts, features or vectors, one or several an answer.

    Attributes:
        rows: one a passage (v of them): a list, an array or a tensor.
        owner: the answer of each passage (v), rising; None where each answer is one row.
        answers: m.
    """

    rows: Rows
    owner: Int[np.ndarray, " v"] | None
    answers: int

    def of(self, rows: Others) -> Passages[Others]:
        """Return the same passages with other rows."""
        return Passages(rows, self.owner, self.answers)

    @property
    def owners(self) -> Int[np.ndarray, " v"]:
        """The answer of each passage, also where each answer is one row."""
        return np.arange(self.answers) if self.owner is None else self.owner


def among(passages: Passages[Rows], answers: Int[np.ndarray, " k"]) -> Passages[Rows]:
    """Return the passages of k answers alone, in the order of `answers`."""
    rows: Any = passages.rows  # an array, or a tensor
    if passages.owner is None:
        return Passages(rows[answers], None, len(answers))
    first = np.searchsorted(passages.owner, answers)
    counts = np.searchsorted(passages.owner, answers, side="right") - first
    steps = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    chosen = rows[np.repeat(first, counts) + steps]
    return Passages(chosen, np.repeat(np.arange(len(answers)), counts), len(answers))


def pool_passages(
    scores: Float[np.ndarray, "n v"], owner: Int[np.ndarray, " v"] | None, answers: int
) -> Float[np.ndarray, "n {answers}"]:
    """Return the log-sum-exp of the scores of each answer's passages; each answer has one or more.

    It equals the best passage's score where that stands out, and exceeds it by the logarithm of
    the number of passages where they are alike.
    """
    if owner is None:
        return scores
    starts = np.searchsorted(owner, np.arange(answers))
    highest = np.maximum.reduceat(scores, starts, axis=1)
    differences = highest[:, owner]  # computed in place: the largest tables of a ranking
    np.subtract(scores, differences, out=differences)
    np.exp(differences, out=differences)
    pooled: np.ndarray = highest + np.log(np.add.reduceat(differences, starts, axis=1))
    return pooled


@dataclass
class Reader:
    """Turns texts into features of one pooling, from a store where it has them.

    Attributes:
        store: keeps the features of every text seen; without one, each is encoded anew.
        selection: chooses sentences of what is longer than the encoder reads; without one, the
            encoder reads the beginning.
        sections: whether answers are read section by section.
        query_prompt: what the encoder reads before each query.
        document_prompt: what it reads before each passage of an answer.
        others: read the same texts by encoders of their own, without prompts or a choice.
    """

    encoder: Encoder
    pooling: str
    store: Store | None = None
    selection: Selection | None = None
    sections: bool = False
    query_prompt: str = ""
    document_prompt: str = ""
    others: tuple[Reader, ...] = ()

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        settings: EncoderSettings,
        store: Store | None,
        selection: Selection | None = None,
        others: Sequence[Encoder] = (),
    ) -> Reader:
        """Make a reader by settings, which leave pooling and prompts to the encoder or not.

        Raises:
            EncoderError: as `choose_settings` does; or if one of several encoders reads prompts.
        """
        chosen = choose_settings(settings, encoder)
        prompts = (chosen.query_prompt or "", chosen.document_prompt or "")
        for second in others:
            if any((*prompts, second.query_prompt, second.document_prompt)):
                raise EncoderError(
                    f"{encoder.name} and {second.name}: several encoders read a text as it is, "
                    "without prompts; give query_prompt = '' and document_prompt = '', or another"
                )
        readers = tuple(cls(second, second.pooling, store) for second in others)
        in_sections = settings.answers == "sections"
        return cls(encoder, chosen.pooling, store, selection, in_sections, *prompts, readers)

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """All encoders, its own first."""
        return (self.encoder, *(reader.encoder for reader in self.others))

    @property
    def dim(self) -> int:
        """Width d of its features."""
        return sum(encoder.dim for encoder in self.encoders)

    @property
    def identity(self) -> str:
        """Digest (64 hex digits) of its encoders."""
        first, *others = (encoder.identity for encoder in self.encoders)
        return sha256("".join((first, *others)).encode()).hexdigest() if others else first

    def __call__(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Return features of queries; `progress` names the bar shown if it takes a while."""
        return self.features(self.queries(texts), progress=progress)

    def features(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Return features of texts that `queries` and `passages` prepared.

        Those of several encoders are scaled to unit length and put side by side: a dot product is
        the sum of their cosines.
        """
        if self.store is None:
            pooled = self.encoder.encode(texts, progress=progress)
            features = np.ascontiguousarray(pooled[:, POOLINGS.index(self.pooling)])
        else:
            features = self.store.features(self.encoder, texts, self.pooling, progress=progress)
        features = self.encoder.head(features)
        if not self.others:
            return features
        parts = [features, *(reader.features(texts, progress=progress) for reader in self.others)]
        return np.concatenate([scale_to_unit(part) for part in parts], axis=1)

    def queries(self, texts: Sequence[str], *, progress: str | None = None) -> Sequence[str]:
        """Return what the encoder reads of queries."""
        if self.selection is not None:
            texts = self.selection([Readable.plain(text) for text in texts], progress=progress)
        return [self.query_prompt + text for text in texts]

    def answers(self, answers: pl.DataFrame) -> Passages[np.ndarray]:
        """Return features of the passages of answers (v x d)."""
        passages = self.passages(answers)
        return passages.of(self.features(passages.rows))

    def passages(
        self, answers: pl.DataFrame, *, progress: str | None = None
    ) -> Passages[list[str]]:
        """Return what the encoder reads of answers: each as a whole, or its sections."""
        owner: np.ndarray | None = None
        if self.selection is None and self.sections:
            texts, owner = section_texts(answers)
        elif self.selection is None:
            texts = answer_texts(answers)
        else:
            if self.sections:
                readable, owner = readable_sections(answers)
            else:
                readable = readable_answers(answers, by_section=self.selection.by_section)
            texts = self.selection(readable, progress=progress)
        return Passages(self.documents(texts), owner, answers.height)

    def documents(self, texts: Sequence[str]) -> list[str]:
        """Return what the encoder reads of texts of answers, whole ones or sentences."""
        return [self.document_prompt + text for text in texts]


def reader_of(
    recipe: Recipe,
    store: Store | None,
    device: str,
    *,
    idf: Idf | None = None,
    folders: Sequence[Path] = (),
) -> Reader:
    """Make the reader of a recipe.

    Args:
        recipe: names its encoders.
        store: keeps features; see `Reader`.
        device: of the encoders.
        idf: of words, where the recipe chooses sentences.
        folders: of the first encoders, if they were tuned or packaged.
    """
    settings = recipe.encoder or EncoderSettings()
    names = [settings.name, *settings.others]
    names[: len(folders)] = map(str, folders)
    encoder, *others = (encoder_of(recipe, device, name=name) for name in names)
    settings = choose_settings(settings, encoder)
    selection = None
    if idf:
        prompts = (settings.query_prompt or "", settings.document_prompt or "")
        special, *counts = encoder.count_tokens(["", *prompts])
        budget = encoder.max_tokens - int(max(counts) - special)
        how = (recipe.language, encoder.count_tokens, budget)
        selection = Selection(idf, *how, by_section=settings.text == "sections")
    return Reader.build(encoder, settings, store, selection, others)


def choose_settings(settings: EncoderSettings, encoder: Encoder) -> EncoderSettings:
    """Fill in what a recipe leaves to its encoder: pooling and prompts.

    Raises:
        EncoderError: if the encoder has no pooling that is computed here, or leaves prompts out of
            it.
    """
    names = ("query_prompt", "document_prompt")
    open_names = [name for name in names if getattr(settings, name) is None]
    update = {name: getattr(encoder, name) or None for name in open_names}
    if settings.pooling == "auto":
        update["pooling"] = encoder.pooling
    chosen = settings.model_copy(update=update)
    if chosen.query_prompt or chosen.document_prompt:
        encoder.check_prompts()
    return chosen


def complete(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Fill in what a recipe leaves to its data and its encoder, and say so: see `auto`."""
    if recipe.language == "auto":
        detected = detect_language(dataset.answer_texts())
        _say_once(f"{dataset.name}: language {detected}")
        recipe = recipe.model_copy(update={"language": detected.name})
    if settings := recipe.encoder:
        encoder = encoder_of(recipe, "cpu")
        for line in encoder.list_differences(settings.model_dump()):
            _say_once(f"{recipe.name}: {line}")
        chosen = choose_settings(settings, encoder)
        paths = {name: Path(name).expanduser() for name in settings.others}
        others = tuple(str(p.resolve()) if is_folder(p) else name for name, p in paths.items())
        recipe = recipe.model_copy(update={"encoder": chosen.model_copy(update={"others": others})})
    return recipe


@cache
def _say_once(line: str) -> None:
    """Log a line, but once for all runs of a comparison or a sweep in this process."""
    log.info("%s", line)


def encoder_of(recipe: Recipe, device: str = "auto", *, name: str | None = None) -> Encoder:
    """Open the encoder of a recipe, or another as it reads them: a name, or a folder."""
    settings = recipe.encoder or EncoderSettings()
    return Encoder(
        name or settings.name,
        max_tokens=settings.max_tokens,
        precision=settings.precision,
        device=device,
    )


def located(recipe: Recipe, folder: Path | None = None) -> Recipe:
    """Return the recipe with the absolute path of its encoder, if that is, or lies in, a folder."""
    if recipe.encoder is None:
        return recipe
    folder = folder or Path(recipe.encoder.name).expanduser()
    if not is_folder(folder):
        return recipe
    encoder = recipe.encoder.model_copy(update={"name": str(folder.resolve())})
    return recipe.model_copy(update={"encoder": encoder})
