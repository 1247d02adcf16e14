"""Texts to features, as a recipe says: its encoder, and what that reads of long texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from twinrank.data import (
    Readable,
    answer_texts,
    readable_answers,
    readable_sections,
    section_texts,
)
from twinrank.data.text_selection import Idf, Selection
from twinrank.encoding import POOLINGS, Encoder, Store
from twinrank.ranking.passages import Passages
from twinrank.recipe import EncoderSettings, Recipe


class Reader:
    """Turns texts into features of one pooling, from a store where it has them.

    Args:
        encoder: the frozen backbone.
        pooling: which of its poolings to read.
        store: keeps the features of every text seen; without one, each is encoded anew.
        selection: chooses sentences of what is longer than the encoder reads; without one, the
            encoder reads the beginning.
        sections: whether answers are read section by section.
    """

    def __init__(
        self,
        encoder: Encoder,
        pooling: str,
        store: Store | None = None,
        *,
        selection: Selection | None = None,
        sections: bool = False,
    ) -> None:
        self.encoder = encoder
        self.pooling = pooling
        self.store = store
        self.selection = selection
        self.sections = sections

    def __call__(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Return features of queries; `progress` names the bar shown if it takes a while."""
        return self.features(self.queries(texts), progress=progress)

    def features(
        self, texts: Sequence[str], *, progress: str | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Return features of texts that `queries` and `passages` prepared."""
        if self.store is None:
            pooled = self.encoder.encode(texts, progress=progress)
            return np.ascontiguousarray(pooled[:, POOLINGS.index(self.pooling)])
        return np.asarray(self.store.features(self.encoder, texts, self.pooling, progress=progress))

    def queries(self, texts: Sequence[str], *, progress: str | None = None) -> Sequence[str]:
        """Return what the encoder reads of queries."""
        if self.selection is None:
            return texts
        return self.selection([Readable.plain(text) for text in texts], progress=progress)

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
        return Passages(texts, owner, answers.height)


def reader_of(
    recipe: Recipe,
    store: Store | None,
    device: str,
    *,
    idf: Idf | None = None,
    tuned: Path | None = None,
) -> Reader:
    """Make the reader of a recipe with an encoder.

    Args:
        recipe: names the encoder.
        store: see `Reader`.
        device: where the encoder runs.
        idf: of words, if the recipe chooses sentences.
        tuned: see `encoder_of`.
    """
    settings = recipe.encoder or EncoderSettings()
    encoder = encoder_of(recipe, device, tuned=tuned)
    selection = None
    if idf:
        how = (recipe.language, encoder.count_tokens, encoder.max_tokens)
        selection = Selection(idf, *how, by_section=settings.text == "sections")
    sections = settings.answers == "sections"
    return Reader(encoder, settings.pooling, store, selection=selection, sections=sections)


def encoder_of(recipe: Recipe, device: str = "auto", *, tuned: Path | None = None) -> Encoder:
    """Open the encoder of a recipe.

    Args:
        recipe: names it.
        device: where it runs.
        tuned: its folder, if it was tuned; None gives the one that tuning starts from.
    """
    settings = recipe.encoder or EncoderSettings()
    return Encoder(
        str(tuned) if tuned else settings.name,
        max_tokens=settings.max_tokens,
        precision=settings.precision,
        device=device,
    )


def located(recipe: Recipe, folder: Path | None = None) -> Recipe:
    """Return the recipe with the absolute path of its encoder, if that is a folder.

    Args:
        recipe: names the encoder.
        folder: where it is, if not where the recipe says.
    """
    if recipe.encoder is None:
        return recipe
    folder = folder or Path(recipe.encoder.name).expanduser()
    if not folder.is_dir():
        return recipe
    encoder = recipe.encoder.model_copy(update={"name": str(folder.resolve())})
    return recipe.model_copy(update={"encoder": encoder})
