"""What a recipe says of a ranker, made: its encoder, what reads its texts, its towers."""

from __future__ import annotations

from pathlib import Path

from twinrank.data.text_selection import Idf, Selection
from twinrank.encoding import Encoder, Store
from twinrank.ranking.dense import Reader
from twinrank.ranking.towers import Towers
from twinrank.recipe import EncoderSettings, Recipe


def reader_of(
    recipe: Recipe,
    store: Store | None,
    device: str,
    *,
    idf: Idf | None = None,
    tuned: Path | None = None,
) -> Reader:
    """What reads texts for a recipe of the `dense` channel.

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
    """The encoder of a recipe of the `dense` channel.

    Args:
        recipe: names it.
        device: where it runs.
        tuned: its folder, if it was tuned; none gives the one that tuning starts from.
    """
    settings = recipe.encoder or EncoderSettings()
    return Encoder(
        str(tuned) if tuned else settings.name,
        max_tokens=settings.max_tokens,
        precision=settings.precision,
        device=device,
    )


def located(recipe: Recipe, folder: Path | None = None) -> Recipe:
    """The recipe with the absolute path of its encoder, if that is a folder.

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


def towers_of(recipe: Recipe, dim: int) -> Towers:
    """Fresh towers as a recipe's ranker has them, for features `dim` wide."""
    if recipe.towers is None:
        return Towers("none", dim)
    base = recipe.pretraining is not None and recipe.pretraining.use == "freeze"
    settings = recipe.towers
    return Towers(
        settings.kind,
        dim,
        dual=settings.dual,
        dropout=settings.dropout,
        base=base,
        memory=recipe.memory is not None,
    )
