"""What each sentence says and costs: TF-IDF by word, and tokens, as sparse products."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import sparse

from twinrank.text.idf import Idf, words

CountTokens = Callable[[Sequence[str]], np.ndarray]


class Scored:
    """Sentences of several texts, each with its score and its tokens.

    Args:
        sentences: n of them, titles included.
        owner: the number of the text each is of, rising.
        idf: of words.
        count_tokens: how many tokens the encoder makes of each text, special ones included.

    Attributes:
        score: the TF-IDF of the words of each sentence, summed and divided by their number;
            TF counts a word in the whole text. Zero without a word.
        tokens: of each without special ones, as the sum over what stands between white space.
            That is exact where the tokenizer splits there first, as BERT's does.
    """

    def __init__(
        self,
        sentences: Sequence[str],
        owner: Int[np.ndarray, " n"],
        idf: Idf,
        count_tokens: CountTokens,
    ) -> None:
        # Most of the work is done once for each distinct piece between white space.
        of_sentences, pieces = _parts(sentences, pl.col("text").str.extract_all(r"\S+"))
        of_pieces, known = _parts(pieces, words(pl.col("text")))
        special = count_tokens([""])[0]
        tokens: Int[np.ndarray, " n"] = of_sentences @ (count_tokens(pieces) - special)
        self.tokens = tokens
        self.score = _tf_idf(of_sentences @ of_pieces, owner, idf.weights(known))


def _tf_idf(
    counts: sparse.csr_array, owner: Int[np.ndarray, " n"], idf: Float[np.ndarray, " w"]
) -> Float[np.ndarray, " n"]:
    """Scores of n sentences, given how often each of w words stands in each."""
    n = counts.shape[0]
    membership = sparse.csr_array((np.ones(n, np.int64), (owner, np.arange(n))))
    of_texts = (membership @ counts).tocsr()
    of_texts.sort_indices()
    entries = sparse.coo_array(counts)
    row, word, count = entries.row, entries.col, entries.data
    tf = np.asarray(of_texts[owner[row], word]).ravel()
    sums = np.bincount(row, count * tf * idf[word], minlength=n)
    return sums / np.maximum(np.bincount(row, count, minlength=n), 1)


def _parts(texts: Sequence[str], parts: pl.Expr) -> tuple[sparse.csr_array, list[str]]:
    """How often each distinct part stands in each of n texts (n x parts), and the parts."""
    frame = pl.DataFrame({"text": texts}, schema={"text": pl.String}).with_row_index("row")
    listed = frame.select("row", part=parts).explode("part").drop_nulls()
    groups = listed.group_by("part", maintain_order=True).agg("row")
    rows = groups["row"].explode(empty_as_null=False).to_numpy()
    columns = np.repeat(np.arange(groups.height), groups["row"].list.len().to_numpy())
    ones = np.ones(len(rows), np.int64)
    counts = sparse.csr_array((ones, (rows, columns)), shape=(len(texts), groups.height))
    counts.sum_duplicates()
    return counts, groups["part"].to_list()
