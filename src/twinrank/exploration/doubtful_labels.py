"""Labels that look wrong: the nearest queries and articles vote for other answers.

No model is trained: features alone vote, as in Zhu, Dong and Liu 2022 (arXiv 2110.06283). The two
sides of a thread share their label, so that a query is blind to its own thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy import sparse

from twinrank.exploration.findings import Check, Finding, Table
from twinrank.exploration.neighbours import nearest
from twinrank.exploration.sample import MAX_ROWS, Sample, Subject

# Chosen on help-centre and on mozilla-support, by how well they find labels swapped on purpose.
VOTERS = 50  # nearest labelled queries of other threads, and as many articles
SOFTNESS = 0.1  # a vote weighs exp(cosine / SOFTNESS)
ARTICLE_WEIGHT = 3.0  # of an article's own vote
MIN_SHARE = 0.002  # of the votes, that any answer is given
MIN_ODDS = 50  # votes for another answer against those for the label, from which it is doubted
SWAPPED_SHARE = 0.05  # of the threads, whose labels are swapped to see whether that is found
MIN_SWAPPED = 20  # labels; fewer say nothing


@dataclass(frozen=True)
class SwapTest:
    """How well swapped labels are found.

    Attributes:
        swapped: how many labels were swapped.
        detected: the share of them that is doubted then.
        others_doubted: the same of the labels that were left alone, some of them wrong too.
    """

    swapped: int
    detected: float
    others_doubted: float


def check_labels(subject: Subject) -> Check:
    """Look for labels that the nearest queries and articles vote against."""
    sample = subject.sample
    heading = "Labels that look wrong"
    doubts = find_doubtful_labels(sample)
    if doubts.is_empty():
        return Check("labels", heading)
    test = measure_by_swapping(sample, seed=subject.seed)
    total, doubted = doubts.height, int(doubts["doubted"].sum())
    text = (
        f"For {doubted:,} of {total:,} labels ({doubted / total:.1%}) the nearest queries and "
        f"articles vote {MIN_ODDS} to 1 or more for another answer"
    )
    figures: dict[str, int | float] = {"doubted": doubted, "labels": total}
    if test:
        text += f"; of labels swapped on purpose {test.detected:.0%} are found like that"
        figures |= {"swapped_found": test.detected, "others_doubted": test.others_doubted}
    advice = (
        "Read the list from the top and mend what is wrong; what is right though it looks odd is "
        "worth keeping."
    )
    finding = Finding(
        "labels",
        "mend" if doubted else "fine",
        f"{text}.",
        advice if doubted else "Nothing.",
        figures,
    )
    titles = sample.answers["title"]
    rows = [
        [
            f"{row['odds']:,.0f} : 1",
            f"{sample.describe_query(row['query'], labels=False)}\n"
            f"→ labelled: {titles[row['answer']]} ({row['share']:.0%} of the votes)\n"
            f"→ voted for: {titles[row['rival']]} ({row['rival_share']:.0%})",
        ]
        for row in doubts.head(MAX_ROWS).iter_rows(named=True)
    ]
    head = ["odds", "a query, its label and the rival"]
    table = Table("The most doubtful labels", [head, *rows], total)
    facts = {"voters": VOTERS, "weight": ARTICLE_WEIGHT, "odds": MIN_ODDS, "test": test}
    return Check("labels", heading, [finding], tables=[table], facts=facts)


def find_doubtful_labels(sample: Sample) -> pl.DataFrame:
    """Judge every label of a sample, the most doubtful first.

    Returns:
        query and answer (row and column), share (of the votes, for the answer), rival (the column
        of the one with most votes among the query's other answers), rival_share, odds (the
        rival's share to the answer's, each plus `MIN_SHARE`) and doubted: odds of 50 or more.
    """
    judged = _judge(sample.labels, *_weigh_voters(sample))
    return judged.sort("odds", descending=True, maintain_order=True)


def measure_by_swapping(sample: Sample, *, seed: int = 0) -> SwapTest | None:
    """Swap the labels of one thread in twenty for another's, and see which are doubted.

    None if that is fewer than 20 labels.
    """
    source = _swap_threads(sample, np.random.default_rng(seed))
    judged = _judge(sparse.csr_array(sample.labels[source]), *_weigh_voters(sample))
    swapped = (source != np.arange(len(sample)))[judged["query"].to_numpy()]
    if swapped.sum() < MIN_SWAPPED:
        return None
    doubted = judged["doubted"].to_numpy()
    shares = doubted[swapped].mean(), doubted[~swapped].mean()
    return SwapTest(int(swapped.sum()), *map(float, shares))


def _swap_threads(sample: Sample, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Choose whose labels each query gets: mostly its own, or another's with none of them."""
    rows, asked = np.arange(len(sample)), np.flatnonzero(sample.labelled)
    thread = sample.codes("thread")
    threads = rng.permutation(np.unique(thread[asked]))
    giver = np.full(thread.max(initial=0) + 1, -1)
    chosen = threads[: int(SWAPPED_SHARE * len(threads))]
    giver[chosen] = rng.choice(asked, len(chosen)) if len(chosen) else []
    source = np.where((giver[thread] >= 0) & sample.labelled, giver[thread], rows)
    shared = np.asarray(sample.labels[source].multiply(sample.labels).sum(axis=1)).ravel()
    return np.where(shared > 0, rows, source)


def _weigh_voters(sample: Sample) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Weigh the votes on each query: of its nearest queries (n x n), of articles (n x m)."""
    rows, thread = np.flatnonzero(sample.labelled), sample.codes("thread")
    queries, cosines = nearest(
        sample.points, sample.points[rows], VOTERS, apart=(thread, thread[rows])
    )
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
    pointer = np.arange(0, n * k + 1, k) if k else np.zeros(n + 1, np.int64)
    return sparse.csr_array((values.ravel(), columns.ravel(), pointer), shape=(n, width))


def _judge(
    labels: sparse.csr_array, voters: sparse.csr_array, articles: sparse.csr_array
) -> pl.DataFrame:
    """Hold votes against labels (n x m), a row a label; a voter of several divides its vote."""
    counts = np.asarray(labels.sum(axis=1)).ravel()
    votes = voters @ (sparse.diags_array(1 / np.maximum(counts, 1)) @ labels) + articles
    totals = np.asarray(votes.sum(axis=1)).ravel()
    votes = sparse.csr_array(sparse.diags_array(1 / np.where(totals > 0, totals, 1)) @ votes)
    row, column = labels.nonzero()
    share = np.asarray(votes[row, column]).ravel() if len(row) else np.zeros(0)
    rival, rival_share = np.zeros(len(row), np.int64), np.zeros(len(row))
    if labels.shape[1]:
        others = sparse.csr_array(votes - votes.multiply(labels))
        rival = np.asarray(others.argmax(axis=1)).ravel()[row]
        rival_share = others.max(axis=1).toarray().ravel()[row]
    odds = (rival_share + MIN_SHARE) / (share + MIN_SHARE)
    return pl.DataFrame(
        {
            "query": row.astype(np.int64),
            "answer": column.astype(np.int64),
            "share": share,
            "rival": rival.astype(np.int64),
            "rival_share": rival_share,
            "odds": odds,
            "doubted": odds >= MIN_ODDS,
        }
    )
