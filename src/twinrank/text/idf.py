"""How rare a word is: its inverse document frequency over texts that training may see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl
from jaxtyping import Float

from twinrank.files import write_file

AT_ONCE = 16_384


def words(texts: pl.Expr) -> pl.Expr:
    """The words of each text, a list: two letters, digits or underscores and more, in lower case.

    scikit-learn's default pattern.
    """
    return texts.str.to_lowercase().str.extract_all(r"\w{2,}")


@dataclass(frozen=True)
class Idf:
    """In how many of some texts each word stands.

    Attributes:
        texts: how many there were.
        counts: for each word that stands in two of them or more, in how many.
    """

    texts: int
    counts: dict[str, int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Idf:
        """Count the words of texts."""
        parts = [pl.DataFrame(schema={"word": pl.String, "texts": pl.UInt32})]
        for start in range(0, len(texts), AT_ONCE):
            some = pl.DataFrame({"word": texts[start : start + AT_ONCE]})
            each = some.select(words(pl.col("word")).list.unique()).explode("word").drop_nulls()
            parts.append(each.group_by("word").agg(pl.len().alias("texts")))
        counts = pl.concat(parts).group_by("word").agg(pl.col("texts").sum())
        often = counts.filter(pl.col("texts") > 1).sort("word")
        return cls(len(texts), dict(often.iter_rows()))

    def weights(self, words: Sequence[str]) -> Float[np.ndarray, " n"]:
        """log((1 + texts) / (1 + texts with the word)) + 1 of each word, as scikit-learn has it.

        A word that was never seen counts as one seen once: in the text that it is in.
        """
        seen = np.fromiter((self.counts.get(word, 1) for word in words), np.float64, len(words))
        idf: np.ndarray = np.log((1 + self.texts) / (1 + seen)) + 1
        return idf

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        held = {"texts": self.texts, "counts": self.counts}
        write_file(file, json.dumps(held, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, stream: BinaryIO) -> Idf:
        """Read what `save` wrote."""
        return cls(**json.load(stream))
