"""The words that mark a type: which it uses more than the others, beyond chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from sklearn.feature_extraction.text import CountVectorizer

PRIOR = 500.0  # words of no type that every type is thought to hold, spread as all words are
TOP = 12
LEAST = 1.96  # z of a word that marks
WORD = r"(?u)\b[^\W\d_][\w'\u2019]+\b"


def marking_words(texts: Sequence[str], types: Sequence[str]) -> pl.DataFrame:
    """The words that mark each type the most; none where there is only one type.

    Returns:
        type, word, z (see `log_odds`, of this type's words against all others'), here and
        elsewhere (how often, in 10,000 words); at most twelve a type, the highest z first, all
        above 1.96.
    """
    figures = dict.fromkeys(("z", "here", "elsewhere"), pl.Float64)
    schema = pl.Schema({"type": pl.String, "word": pl.String, **figures})
    names = sorted(set(types))
    vectorizer = CountVectorizer(token_pattern=WORD, dtype=np.int64)
    analyse = vectorizer.build_analyzer()
    if len(names) < 2 or not any(analyse(text) for text in texts):
        return pl.DataFrame(schema=schema)
    table = vectorizer.fit_transform(texts)
    words = vectorizer.get_feature_names_out()
    kinds = np.asarray(types)
    counts = np.stack([np.asarray(table[kinds == name].sum(axis=0)).ravel() for name in names])
    rows = []
    for name, own in zip(names, counts, strict=True):
        rest = counts.sum(axis=0) - own
        z = log_odds(own, rest)
        rates = [10_000 * side / max(side.sum(), 1) for side in (own, rest)]
        top = [i for i in np.argsort(-z, kind="stable")[:TOP] if z[i] > LEAST]
        rows += [(name, words[i], z[i], rates[0][i], rates[1][i]) for i in top]
    return pl.DataFrame(rows, schema=schema, orient="row")


def log_odds(
    own: Int[np.ndarray, " words"], rest: Int[np.ndarray, " words"]
) -> Float[np.ndarray, " words"]:
    """Log-odds ratio with an informative Dirichlet prior, over its standard deviation.

    Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16(4). With y and n a
    side's counts and their sum, and alpha the prior (500 times a word's share in both sides),
    delta = log((y1 + alpha) / (n1 + 500 - y1 - alpha)) less the same of the other side, and
    z = delta / sqrt(1 / (y1 + alpha) + 1 / (y2 + alpha)).
    """
    both = own + rest
    alpha = PRIOR * both / max(both.sum(), 1)

    def odds(counts: Int[np.ndarray, " words"]) -> Float[np.ndarray, " words"]:
        seen = counts + alpha
        return np.asarray(np.log(seen / (counts.sum() + PRIOR - seen)))

    with np.errstate(divide="ignore", invalid="ignore"):  # a vocabulary of a single word
        z = (odds(own) - odds(rest)) / np.sqrt(1 / (own + alpha) + 1 / (rest + alpha))
    return np.asarray(np.nan_to_num(z, posinf=0.0, neginf=0.0))
