"""Checks by nearest neighbours: near twins, and labels that look wrong.

No model is trained for the labels: features alone vote, as in Zhu, Dong and Liu 2022 (arXiv
2110.06283). The two sides of a thread share their label, so a query is blind to its own thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import sparse

from twinrank.data.texts import shorten
from twinrank.exploration.findings import Check, Finding, Level, head_of_table
from twinrank.exploration.sample import MAX_ROWS, Sample, Subject

ROWS_PER_BLOCK = 512
# At this cosine of mean-pooled features two texts are taken for one. On mozilla-support, pairs
# of queries from .9 on differ by a word or less, and nearer ones agree no better in their labels
# (46 to 54 %); pairs of articles are old and new versions of one, or one for each device.
TWIN_COSINE = 0.9
MAX_TWINS = 10  # of each text
# From these shares on, something is to be mended rather than known.
MUCH_OVERLAP = 0.05  # of the queries of a split
MUCH_DISAGREEMENT = 0.2  # of the labelled queries with a labelled twin
# Chosen for mean-pooled features of help-centre and mozilla-support, by how well they find labels
# swapped on purpose.
VOTERS = 50  # nearest labelled queries of other threads, and as many articles
SOFTNESS = 0.1  # a vote weighs exp(cosine / SOFTNESS)
ARTICLE_WEIGHT = 3.0  # of an article's own vote
MIN_SHARE = 0.002  # of the votes, that any answer is given
MIN_ODDS = 50  # votes for another answer against those for the label, from which it is doubted

Points = Float[np.ndarray, "n d"]
Codes = Int[np.ndarray, " n"]


def nearest(
    points: Float[np.ndarray, "n d"],
    others: Float[np.ndarray, "v d"],
    k: int,
    *,
    apart: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " v"]] | None = None,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Find the k nearest others of each point, the nearest first, and their cosines.

    Where there are fewer than k, so many columns. Those that do not count have cosine -inf.

    Args:
        points: of length one.
        others: of length one.
        k: how many.
        apart: a code for each point and each other; those of equal codes do not count.
    """
    k = min(k, len(others))
    columns = np.zeros((len(points), k), np.int64)
    cosines = np.zeros((len(points), k), np.float32)
    if not k:
        return columns, cosines
    for start in range(0, len(points), ROWS_PER_BLOCK):
        rows = slice(start, start + ROWS_PER_BLOCK)
        products = points[rows] @ others.T
        if apart is not None:
            products[apart[0][rows, None] == apart[1][None]] = -np.inf
        top = np.argpartition(-products, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(products, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        columns[rows] = np.take_along_axis(top, order, axis=1)
        cosines[rows] = np.take_along_axis(values, order, axis=1)
    return columns, cosines


def find_twins(points: Float[np.ndarray, "n d"], groups: Int[np.ndarray, " n"]) -> pl.DataFrame:
    """Find near twins of different groups; of more than ten of a text the nearest count.

    Returns:
        row, twin, cosine; each pair in both directions, the nearest first.
    """
    columns, cosines = nearest(points, points, MAX_TWINS, apart=(groups, groups))
    row, rank = np.nonzero(cosines >= TWIN_COSINE)
    cosine = np.minimum(cosines[row, rank], 1).astype(np.float64)
    pairs = pl.DataFrame({"row": row, "twin": columns[row, rank], "cosine": cosine})
    both = pl.concat([pairs, pairs.select(row="twin", twin="row", cosine="cosine")])
    both = both.unique(["row", "twin"], keep="first", maintain_order=True)
    return both.sort("cosine", descending=True, maintain_order=True)


def find_query_twins(sample: Sample) -> pl.DataFrame:
    """Find queries of different threads that are nearly the same, see `find_twins`.

    Returns:
        With them: labelled (both are), agree (they share a right answer).
    """
    pairs = find_twins(sample.points, sample.codes("thread"))
    left, right = (sample.labels[pairs[side].to_numpy()] for side in ("row", "twin"))
    shared = np.asarray(left.multiply(right).sum(axis=1)).ravel() > 0
    both = np.logical_and(*(np.diff(side.indptr) > 0 for side in (left, right)))
    return pairs.with_columns(labelled=pl.Series(both), agree=pl.Series(shared))


def check_query_twins(subject: Subject) -> Check:
    """Are queries alike labelled alike, and was a split seen in train?"""
    sample = subject.sample
    twins = find_query_twins(sample)
    labelled = twins.filter("labelled")
    findings = [*_find_disagreement(labelled), *_find_overlap(sample, twins)]
    odd = labelled.filter(~pl.col("agree"), pl.col("row") < pl.col("twin"))
    for side in ("row", "twin"):
        odd = odd.unique(side, keep="first", maintain_order=True)
    rows = [
        [f"{cosine:.2f}", "\n\n".join(map(sample.describe_labelled, pair))]
        for *pair, cosine in odd.select("row", "twin", "cosine").head(MAX_ROWS).rows()
    ]
    title, head = "Alike, but labelled with different answers", ["cosine", "two queries"]
    tables = [head_of_table(title, [head, *rows], odd.height)] if rows else []
    counts = {"pairs": twins.height, "labelled": labelled.height, "agree": labelled["agree"].sum()}
    facts = {"cosine": TWIN_COSINE} | {name: count // 2 for name, count in counts.items()}
    heading = "Near twins among the queries"
    return Check("query_twins", heading, findings, folded=tables, facts=facts)


def _find_disagreement(labelled: pl.DataFrame) -> Iterator[Finding]:
    if labelled.is_empty():
        return
    queries = labelled["row"].n_unique()
    odd = labelled.filter(~pl.col("agree"))["row"].n_unique()
    text = (
        f"{odd:,} of {queries:,} labelled queries with a near twin ({odd / queries:.0%}) have "
        "a twin that is labelled with another answer."
    )
    level: Level = "mend" if odd / queries >= MUCH_DISAGREEMENT else "know"
    advice = (
        "Agree on one answer for each, or give both answers to both: no first answer can be "
        "right for two labels."
    )
    if not odd:
        level, advice = "fine", "Nothing: what is asked alike is answered alike."
    figures = {"queries_with_twins": queries, "disagreeing": odd}
    yield Finding("twins", level, text, advice, figures)


def _find_overlap(sample: Sample, twins: pl.DataFrame) -> Iterator[Finding]:
    """Say how many queries of a split have a near twin in train."""
    split = sample.frame["split"].fill_null("")
    of_split = twins.with_columns(
        split=split.gather(twins["row"]), seen=split.gather(twins["twin"]) == "train"
    ).filter("seen")
    for name in ("validation", "test"):
        queries = int((split == name).sum())
        if not queries:
            continue
        inside = of_split.filter(split=name)
        seen = inside["row"].n_unique()
        agree = inside.filter("agree")["row"].n_unique()
        text = (
            f"{seen:,} of {queries:,} {name} queries ({seen / queries:.0%}) have a near "
            f"twin in train, and {agree:,} of them with the same answer."
        )
        level: Level = "mend" if seen / queries >= MUCH_OVERLAP else "fine"
        advice = (
            "Give twins that are one case the same `thread` and divide anew with `twinrank "
            "split`; else expect less on what was never asked before."
            if level == "mend"
            else f"Nothing: hardly anything in {name} was seen in train."
        )
        counts = {"queries": queries, "twins": seen, "agree": agree}
        figures = {f"{name}_{key}": count for key, count in counts.items()}
        yield Finding("overlap", level, text, advice, figures)


def check_answer_twins(subject: Subject) -> Check:
    """Are there answers that the encoder cannot tell apart?"""
    answers, points = subject.sample.answers, subject.sample.answer_points
    twins = find_twins(points, np.arange(len(points)))
    pairs = twins.filter(pl.col("row") < pl.col("twin"))
    is_used = answers["id"].is_in(subject.dataset.labels["answer"].implode())
    both = int((is_used.gather(pairs["row"]) & is_used.gather(pairs["twin"])).sum())
    text = (
        f"{pairs.height:,} pairs of answers are nearly the same to the encoder (cosine "
        f"{TWIN_COSINE} or more); in {both:,} of them both are right for some query."
    )
    advice = (
        "Merge those that say the same, or label queries with both; where they differ behind the "
        "limit, put the difference into the title."
    )
    level: Level = "mend" if pairs.height else "fine"
    figures = {"pairs": pairs.height, "both_right": both}
    finding = Finding("answer_twins", level, text, advice if pairs.height else "Nothing.", figures)
    texts = [f"{title}\n{shorten(text)}" for title, text in answers.select("title", "text").rows()]
    rows = [
        [f"{cosine:.2f}", f"{texts[row]}\n\n{texts[twin]}"]
        for row, twin, cosine in pairs.head(MAX_ROWS).rows()
    ]
    head = ["cosine", "two answers"]
    table = head_of_table("Answers that are nearly the same", [head, *rows], pairs.height)
    heading = "Near twins among the answers"
    return Check("answer_twins", heading, [finding], folded=[table] if rows else [])


def check_labels(subject: Subject) -> Check:
    """Look for labels that the nearest queries and articles vote against."""
    sample = subject.sample
    doubts = find_doubtful_labels(sample)
    heading = "Labels that look wrong"
    if doubts.is_empty():
        return Check("labels", heading)
    total, doubted = doubts.height, int(doubts["doubted"].sum())
    text = (
        f"For {doubted:,} of {total:,} labels ({doubted / total:.1%}) the nearest queries and "
        f"articles vote {MIN_ODDS} to 1 or more for another answer"
    )
    figures: dict[str, int | float] = {"doubted": doubted, "labels": total}
    advice = (
        "Read the list from the top and mend what is wrong; what is right though it looks odd is "
        "worth keeping."
        if doubted
        else "Nothing."
    )
    finding = Finding("labels", "mend" if doubted else "fine", f"{text}.", advice, figures)
    titles = sample.answers["title"]
    rows = [
        [
            f"{row['odds']:,.0f} : 1",
            f"{sample.describe_query(row['query'])}\n"
            f"→ labelled: {titles[row['answer']]} ({row['share']:.0%} of the votes)\n"
            f"→ voted for: {titles[row['rival']]} ({row['rival_share']:.0%})",
        ]
        for row in doubts.head(MAX_ROWS).iter_rows(named=True)
    ]
    head = ["odds", "a query, its label and the rival"]
    tables = [head_of_table("The most doubtful labels", [head, *rows], total)]
    facts = {"voters": VOTERS, "weight": ARTICLE_WEIGHT, "odds": MIN_ODDS}
    return Check("labels", heading, [finding], folded=tables, facts=facts)


def find_doubtful_labels(sample: Sample) -> pl.DataFrame:
    """Judge every label of a sample, the most doubtful first.

    Returns:
        query and answer (row and column), share (of the votes, for the answer), rival (the column
        of the one with most votes among the query's other answers), rival_share, odds (the
        rival's share to the answer's, each plus `MIN_SHARE`) and doubted: odds of 50 or more.
    """
    judged = _judge(sample.labels, *_weigh_voters(sample))
    return judged.sort("odds", descending=True, maintain_order=True)


def _weigh_voters(sample: Sample) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Weigh the votes on each query: of its nearest queries (n x n), of articles (n x m)."""
    rows, thread = np.flatnonzero(sample.labelled), sample.codes("thread")
    apart = (thread, thread[rows])
    queries, cosines = nearest(sample.points, sample.points[rows], VOTERS, apart=apart)
    articles, article_cosines = nearest(sample.points, sample.answer_points, VOTERS)
    weights = ARTICLE_WEIGHT * np.exp(article_cosines / SOFTNESS)
    return (
        _as_table(rows[queries], np.exp(cosines / SOFTNESS), len(sample)),
        _as_table(articles, weights, len(sample.answer_points)),
    )


def _as_table(
    columns: Int[np.ndarray, "n k"], values: Float[np.ndarray, "n k"], width: int
) -> sparse.csr_array:
    """Put values into their columns, a row each."""
    n, k = columns.shape
    rows = np.repeat(np.arange(n), k)
    return sparse.csr_array((values.ravel(), (rows, columns.ravel())), shape=(n, width))


def _judge(
    labels: sparse.csr_array, voters: sparse.csr_array, articles: sparse.csr_array
) -> pl.DataFrame:
    """Hold votes against labels (n x m), a row a label; a voter of several divides its vote."""
    counts = np.asarray(labels.sum(axis=1)).ravel()
    votes = voters @ (sparse.diags_array(1 / np.maximum(counts, 1)) @ labels) + articles
    totals = np.asarray(votes.sum(axis=1)).ravel()
    votes = sparse.csr_array(sparse.diags_array(1 / np.where(totals > 0, totals, 1)) @ votes)
    row, column = (side.astype(np.int64) for side in labels.nonzero())
    share, rival, rival_share = np.zeros(len(row)), np.zeros(len(row), np.int64), np.zeros(len(row))
    if len(row):
        others = sparse.csr_array(votes - votes.multiply(labels))
        share = np.asarray(votes[row, column]).ravel()
        rival = np.asarray(others.argmax(axis=1)).ravel().astype(np.int64)[row]
        rival_share = others.max(axis=1).toarray().ravel()[row]
    odds = (rival_share + MIN_SHARE) / (share + MIN_SHARE)
    return pl.DataFrame(
        {
            "query": row,
            "answer": column,
            "share": share,
            "rival": rival,
            "rival_share": rival_share,
            "odds": odds,
            "doubted": odds >= MIN_ODDS,
        }
    )
