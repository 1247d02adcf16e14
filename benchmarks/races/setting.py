"""What the races of one pass share: data, models, a trained ranker, each made when first asked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from sentence_transformers import SentenceTransformer

from index import draw
from twinrank.data import Dataset
from twinrank.encoding import Encoder, FeatureStore
from twinrank.encoding.model_files import resolve
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import train

ENCODER, MAX_TOKENS = "all-MiniLM-L6-v2", 128
VECTORS = 20_000


@dataclass(eq=False)
class Setting:
    """One pass.

    Attributes:
        data: the folder of the data set.
        number: of the pass, and the seed of all that is trained in it.
        folder: temporary.
        open: what ends with the race that is being held.
    """

    data: Path
    number: int
    folder: Path
    open: ExitStack

    @cached_property
    def dataset(self) -> Dataset:
        """The data set."""
        return Dataset.load(self.data)

    @cached_property
    def encoder(self) -> Encoder:
        """Ours, in the precision and by the backend that it chooses here."""
        return Encoder(ENCODER, max_tokens=MAX_TOKENS)

    @cached_property
    def sentence_transformer(self) -> SentenceTransformer:
        """The same weights and token limit, all else at the library's defaults."""
        model = SentenceTransformer(str(resolve(ENCODER).folder), device=self.encoder.device)
        model.max_seq_length = MAX_TOKENS
        return model

    @cached_property
    def ranker_folder(self) -> Path:
        """A ranker by `even`, trained with the pass's seed."""
        folder = self.folder / "ranker"
        train(self.dataset, Recipe.load("even"), seed=self.number, out=folder, store=FeatureStore())
        return folder

    @cached_property
    def ranker(self) -> Ranker:
        """That ranker; it has no store, so that it encodes what it is asked."""
        return Ranker.load(self.ranker_folder)

    @cached_property
    def drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """Vectors shaped like the features of answers (see index.py), and queries to them."""
        draw(self.folder, VECTORS)
        return np.load(self.folder / "points.npy"), np.load(self.folder / "queries.npy")

    def texts(self, kind: str, number: int) -> list[str]:
        """So many queries of a type, or all there are; the same ones in every pass."""
        own = self.dataset.queries.filter(pl.col("type") == kind).select("text").collect()["text"]
        return own.sample(min(number, len(own)), seed=0).to_list()
