"""The words that mark a type: which it uses more than the others, beyond chance."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from twinrank.exploration.findings import Chart, Check, Finding, Table
from twinrank.exploration.sample import Subject

PRIOR_WORDS = 500.0  # of no type, that every type is thought to hold, spread as all words are
MAX_WORDS = 12  # of a type
MIN_Z = 1.96  # of a word that marks
WORD = re.compile(r"\b[^\W\d_][\w'\u2019]+\b")
MAX_PANELS = 4  # types in the figure


def check_words(subject: Subject) -> Check:
    """Show the words that mark each type: is it layout that tells the types apart?"""
    frame = subject.sample.frame
    words = find_marking_words(frame["text"].to_list(), frame["type"].to_list())
    heading = "Words that mark a type"
    if words.is_empty():
        return Check("words", heading)
    first = words.group_by("type", maintain_order=True).agg(pl.col("word").head(3).str.join(", "))
    marks = "; ".join(f"{kind}: {listed}" for kind, listed in first.iter_rows())
    finding = Finding(
        "words",
        "know",
        f"The words that mark a type most are, for {marks}.",
        "If words of layout are among them (speaker names, signatures, greetings), strip them "
        "before import: they say what type a text is, and nothing about its answer.",
        {"words": words.height},
    )
    shown = words.filter(pl.col("type").is_in(first["type"].head(MAX_PANELS).implode()))
    bars = [
        {
            "panel": row["type"],
            "name": row["type"],
            "x": round(row["z"], 2),
            "y": row["word"],
            "hover": f"{row['word']}, z {row['z']:.1f}\n{row['here']:.1f} in 10,000 words here, "
            f"{row['elsewhere']:.1f} elsewhere",
        }
        for row in shown.iter_rows(named=True)
    ]
    chart = Chart("bars", "marking_words", bars, "z of the log-odds ratio")
    cells = [[kind, word, *(f"{n:.1f}" for n in numbers)] for kind, word, *numbers in words.rows()]
    head = ["type", "word", "z", "here", "elsewhere"]
    table = Table("All of them; how often in 10,000 words", [head, *cells], words.height)
    return Check("words", heading, [finding], [chart], [table])


def find_marking_words(texts: Sequence[str], types: Sequence[str]) -> pl.DataFrame:
    """Find the words that mark each type the most; none where there is only one type.

    Returns:
        type, word, z (see `log_odds`, of this type's words against all others'), here and
        elsewhere (how often, in 10,000 words); at most twelve a type, the highest z first, all
        above 1.96.
    """
    counters: dict[str, Counter[str]] = {kind: Counter() for kind in sorted(set(types))}
    for text, kind in zip(texts, types, strict=True):
        counters[kind].update(WORD.findall(text.lower()))
    words = sorted(set().union(*counters.values()))
    figures = dict.fromkeys(("z", "here", "elsewhere"), pl.Float64)
    schema = {"type": pl.String, "word": pl.String, **figures}
    rows: list[tuple[str, str, float, float, float]] = []
    if len(counters) > 1 and words:
        table = np.array([[counter[word] for word in words] for counter in counters.values()])
        for kind, counts in zip(counters, table, strict=True):
            rest = table.sum(axis=0) - counts
            z = log_odds(counts, rest)
            rates = [10_000 * side / max(side.sum(), 1) for side in (counts, rest)]
            top = [i for i in np.argsort(-z, kind="stable")[:MAX_WORDS] if z[i] > MIN_Z]
            rows += [(kind, words[i], z[i], rates[0][i], rates[1][i]) for i in top]
    return pl.DataFrame(rows, schema=schema, orient="row")


def log_odds(
    counts: Int[np.ndarray, " words"], rest: Int[np.ndarray, " words"]
) -> Float[np.ndarray, " words"]:
    """Compute the log-odds ratio with an informative Dirichlet prior, over its standard deviation.

    Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16(4). With y and n a
    side's counts and their sum, and alpha the prior (500 times a word's share in both sides),
    delta = log((y1 + alpha) / (n1 + 500 - y1 - alpha)) less the same of the other side, and
    z = delta / sqrt(1 / (y1 + alpha) + 1 / (y2 + alpha)).
    """
    both = counts + rest
    alpha = PRIOR_WORDS * both / max(both.sum(), 1)

    def odds(side: Int[np.ndarray, " words"]) -> Float[np.ndarray, " words"]:
        smoothed = side + alpha
        return np.asarray(np.log(smoothed / (side.sum() + PRIOR_WORDS - smoothed)))

    with np.errstate(divide="ignore", invalid="ignore"):  # a vocabulary of a single word
        z = (odds(counts) - odds(rest)) / np.sqrt(1 / (counts + alpha) + 1 / (rest + alpha))
    return np.asarray(np.nan_to_num(z, posinf=0.0, neginf=0.0))
