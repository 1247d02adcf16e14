"""Checks of types and splits, common and unused answers, lengths, threads, features, and words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from twinrank.data.beir import SPLITS
from twinrank.data.texts import answer_texts, section_texts, space_words
from twinrank.evaluation.geometry import measure_space
from twinrank.exploration.findings import (
    Check,
    Finding,
    Level,
    Table,
    head_of_table,
)
from twinrank.exploration.neighbours import nearest
from twinrank.exploration.sample import MAX_ROWS, Subject

# From these shares on, something is to be mended rather than known.
UNEVEN = 0.5  # of the even share of a type
OFTEN_NEAREST = 0.05  # of the labelled queries
MUCH_UNREAD = 0.1  # of the tokens of a kind of text
TYPES_APART_AUC = 0.9  # from which types are said to lie apart

COMMONEST = 3  # answers that a ranker that knows nothing else names for every query
MAX_COMMON_ROWS = 20
TOKEN_LIMITS = (128, 256, 512)  # of encoders
ANSWERS, SECTIONS = "the answers", "the sections of answers"

MAX_PAIRED = 2_000  # labelled queries whose space is measured

PRIOR_WORDS = 500.0  # of no type, that every type is thought to hold, spread as all words are
MAX_WORDS = 12  # of a type
MIN_Z = 1.96  # of a word that marks
WORD = r"\b[^\W\d_][\w'\x{2019}]+\b"


def check_types(subject: Subject) -> Check:
    """Can every split train or measure, and is a type drowned by the others?"""
    splits = subject.description.splits
    kinds = sorted(splits["train"]["types"])
    counts = {k: sum(split["types"][k]["count"] for split in splits.values()) for k in kinds}
    findings = [*_find_warnings(subject), *_find_balance(counts), *_find_unlabelled(subject)]
    return Check("types", "Types and splits", findings)


def _find_warnings(subject: Subject) -> Iterator[Finding]:
    advice = "Mend it, or expect less there and wide intervals; `twinrank split` divides anew."
    for warning in subject.description.warnings:
        yield Finding("data", "mend", f"{warning[0].upper()}{warning[1:]}.", advice, {})


def _find_balance(counts: dict[str, int]) -> Iterator[Finding]:
    if len(counts) < 2:
        return
    total = sum(counts.values())
    rare = min(counts, key=lambda kind: counts[kind])
    share = counts[rare] / total
    level: Level = "mend" if share < UNEVEN / len(counts) else "fine"
    text = f"The rarest of {len(counts)} types, {rare}, has {share:.0%} of the queries."
    advice = (
        "Train with the recipe `even`, which keeps the epoch whose worst type ranks best, and "
        "judge by the worst type's figures."
        if level == "mend"
        else "Nothing: no type is drowned by another."
    )
    figures = {"types": len(counts), "queries": total, "rarest_share": share}
    yield Finding("types", level, text, advice, figures)


def _find_unlabelled(subject: Subject) -> Iterator[Finding]:
    unlabelled = subject.description.splits["unlabelled"]["queries"]
    total = subject.description.counts["queries"]
    if 0 < unlabelled < total:
        text = f"{unlabelled:,} of {total:,} queries ({unlabelled / total:.0%}) have no label."
        advice = "Label those that people ask most: what else learns from them gains nothing."
        figures = {"unlabelled": unlabelled, "queries": total}
        yield Finding("unlabelled", "know", text, advice, figures)


def check_popularity(subject: Subject) -> Check:
    """How uneven are the labels over the answers?"""
    heading, labels = "How often each answer is right", subject.dataset.labels
    if labels.is_empty():
        return Check("popularity", heading)
    ranked = labels.group_by("answer").len().sort("len", "answer", descending=[True, False])
    shares = (ranked["len"].cum_sum() / labels.height).to_numpy()
    answers = subject.dataset.answers
    half, ten = int((shares < 0.5).sum()) + 1, float(shares[:10][-1])
    text = (
        f"The ten commonest answers have {ten:.0%} of the labels, and {half:,} of "
        f"{answers.height:,} answers have half of them"
    )
    advice = "Judge a ranker on rare answers too: a few common ones decide its mean."
    figures: dict[str, int | float] = {"top_ten_share": ten, "half_of_labels": half}
    train, validation = (labels.filter(split=name) for name in SPLITS[:2])
    if train.height and validation.height:
        counts = train.group_by("answer").len().sort("len", "answer", descending=[True, False])
        is_common = pl.col("answer").is_in(counts["answer"].head(COMMONEST).implode())
        right = validation.filter(is_common)["query"].n_unique() / validation["query"].n_unique()
        text += f"; to name the three commonest is right for {right:.0%} of validation"
        advice = "Hold every top-3 accuracy against that figure, and look at rare answers apart."
        figures["commonest_three_accuracy"] = right
    finding = Finding("answers", "know", f"{text}.", advice, figures)
    return Check("popularity", heading, [finding], [_list_commonest(subject)])


def _list_commonest(subject: Subject) -> Table:
    """List the answers with most labels, and how many of each type they have."""
    kinds = subject.dataset.queries.select("id", "type")
    labels = subject.dataset.labels.join(kinds, left_on="query", right_on="id")
    types = sorted(labels["type"].unique())
    counts = labels.group_by("answer").agg(
        pl.len(), *((pl.col("type") == kind).sum().alias(f"of {kind}") for kind in types)
    )
    titles = subject.dataset.answers.select("title", answer="id")
    rows = titles.join(counts, on="answer").drop("answer").sort("len", "title", descending=True)
    cells = [[title, *(f"{n:,}" for n in ns)] for title, *ns in rows.head(MAX_COMMON_ROWS).rows()]
    return "The commonest answers", [["answer", "labels", *types], *cells]


def check_unused(subject: Subject) -> Check:
    """Which answers is nobody sent to, though they are the nearest to a query?"""
    sample, heading = subject.sample, "Answers that are right for no query"
    rows = np.flatnonzero(sample.labelled)
    if not len(rows):
        return Check("unused", heading)
    ids, used = subject.dataset.answers["id"], subject.dataset.labels["answer"].implode()
    total, never = len(ids), int((~ids.is_in(used)).sum())
    columns, cosines = nearest(sample.points[rows], sample.answer_points, 1)
    pairs = pl.DataFrame({"answer": columns[:, 0], "query": rows, "cosine": cosines[:, 0]})
    unused = (
        pairs.filter(~sample.answers["id"].gather(pairs["answer"]).is_in(used))
        .group_by("answer")
        .agg(queries=pl.len(), query=pl.col("query").sort_by("cosine").last())
        .sort("queries", "answer", descending=[True, False])
    )
    near = int(unused["queries"].sum())
    share = near / len(rows)
    level: Level = "mend" if share >= OFTEN_NEAREST else "know" if never else "fine"
    text = f"{never:,} of {total:,} answers ({never / total:.0%}) are right for no query"
    if near:
        text += f", yet one of them is the nearest article to {share:.0%} of the labelled queries"
    advice = (
        "Read the pairs on the page: add the label where the article is right too, and take "
        "articles out that nobody should be sent to."
        if near
        else "Nothing: they distract nobody."
    )
    figures = {"never_right": never, "answers": total, "nearest_to_queries": near}
    cells = [
        [f"{queries:,}", f"{sample.answers['title'][answer]}\n{sample.describe_labelled(query)}"]
        for answer, queries, query in unused.head(MAX_ROWS).rows()
    ]
    head = ["nearest to", "the answer, and a query"]
    table = head_of_table("Never right, and often nearest", [head, *cells], unused.height)
    finding = Finding("unused", level, f"{text}.", advice, figures)
    facts = {"answers": unused.height}
    return Check("unused", heading, [finding], folded=[table] if near else [], facts=facts)


def check_lengths(subject: Subject) -> Check:
    """Does the encoder's limit cut much, and does it read words at all?"""
    tokens = _count_tokens(subject)
    heading = "Lengths, and what is cut"
    if not tokens:
        return Check("lengths", heading)
    limit, longest = subject.encoder.max_tokens, subject.encoder.longest
    limits = [n for n in sorted({limit, *TOKEN_LIMITS}) if n <= (longest or n)]
    head = ["tokens", "median", "90 %", "longest"]
    head += [f"{measure} at {n}" for n in limits for measure in ("cut", "unread")]
    rows = []
    for name, counts in tokens.items():
        quantiles = (f"{value:,.0f}" for value in np.quantile(counts, (0.5, 0.9, 1)))
        shares = ((float((counts > n).mean()), _measure_unread(counts, n)) for n in limits)
        rows.append([name, *quantiles, *(f"{share:.0%}" for pair in shares for share in pair)])
    tables = [("Lengths in tokens", [head, *rows])]
    return Check("lengths", heading, [_find_unread(subject, tokens)], tables)


def _count_tokens(subject: Subject) -> dict[str, np.ndarray]:
    """Count the tokens of all texts of a sample before any are cut, by the kind of text."""
    sample, count = subject.sample, subject.encoder.count_tokens
    texts = {k: sample.frame.filter(type=k)["text"].to_list() for k in sample.types}
    texts[ANSWERS] = answer_texts(sample.answers)
    sections, owners = section_texts(sample.answers)
    if len(sections) > len(np.unique(owners)):  # an answer has several
        texts[SECTIONS] = sections
    return {name: count(listed) for name, listed in texts.items() if len(listed)}


def _measure_unread(tokens: np.ndarray, limit: int) -> float:
    """Compute the share of all tokens that lie behind a limit."""
    return float(np.maximum(tokens - limit, 0).sum() / max(tokens.sum(), 1))


def _find_unread(subject: Subject, tokens: dict[str, np.ndarray]) -> Finding:
    limit, longest = subject.encoder.max_tokens, subject.encoder.longest
    unread = {name: _measure_unread(counts, limit) for name, counts in tokens.items()}
    figures = {f"unread_{name}": share for name, share in unread.items()}
    whole = sorted((name for name in tokens if name != SECTIONS), key=lambda name: -unread[name])
    much = [name for name in whole if unread[name] >= MUCH_UNREAD]
    if not much:
        cut = f"{unread[whole[0]]:.1%}"
        text = f"At a limit of {limit} tokens the encoder reads all but {cut} of what is longest."
        return Finding("lengths", "fine", text, "Nothing: what is cut is little.", figures)
    shares = ", ".join(f"{unread[name]:.0%} of the tokens of {name}" for name in much)
    text = f"At a limit of {limit} tokens the encoder never reads {shares}."
    ways = []
    if ANSWERS in much and SECTIONS in tokens:
        ways.append('read answers section by section (`answers = "sections"`)')
    if any(limit < n <= (longest or n) for n in TOKEN_LIMITS):
        ways.append("raise `max_tokens`; the page shows what each limit leaves unread")
    advice = f"In the recipe's [encoder], {' or '.join(ways)}."
    if not ways:
        advice = "Shorten the texts before import, the essential first: it reads no more."
    if subject.description.markup:
        advice = "Take the HTML out first: much of what is cut may be tags."
    return Finding("lengths", "mend", text, advice, figures)


def check_threads(subject: Subject) -> Check:
    """Do threads join the types without labels?"""
    several = subject.description.counts["threads_of_several_types"]
    text = f"{several:,} threads hold queries of several types."
    advice = (
        "They are true pairs, with no label needed: where there are no labels yet, "
        "`barlow-zero-shot` learns from them. With labels it gains nothing (docs/collapse.md)."
        if several
        else "If a ticket has a subject and a transcript, give both the same `thread`: they then "
        "never fall in different splits, and can be paired without labels."
    )
    figures = {"threads_of_several_types": several}
    finding = Finding("threads", "know", text, advice, figures)
    has_types = several or len(subject.description.splits["train"]["types"]) > 1
    return Check("threads", "Threads of several types", [finding] if has_types else [])


def check_space(subject: Subject) -> Check:
    """Do the types lie apart in the raw features?"""
    sample, rng = subject.sample, np.random.default_rng(0)
    heading = "The raw features"
    rows = rng.permutation(np.flatnonzero(sample.labelled))[:MAX_PAIRED]
    if len(rows) < 2:
        return Check("space", heading)
    types, threads = (sample.frame[column][rows].to_list() for column in ("type", "thread"))
    # Its figures of queries alone are read: features of answers are at length one here.
    measured = measure_space(
        sample.features[rows], sample.answer_points, sample.labels[rows], types, threads
    )
    names = ("type_auc", "type_share", "answer_share")
    figures = {name: value for name in names if (value := measured[name]) is not None}
    if len(figures) < len(names):
        return Check("space", heading)
    auc, *shares = figures.values()
    type_share, answer_share = (round(share, 2) + 0 for share in shares)  # never "-0%"
    text = (
        f"A straight cut through the raw features tells the types apart with AUC {auc:.2f}; types "
        f"hold {type_share:.0%} of the variance, answers {answer_share:.0%}."
    )
    level: Level = "know" if auc >= TYPES_APART_AUC else "fine"
    advice = (
        "Nothing by itself: rankers that rank well tell the types apart, too. Look at the gap "
        "between the types after `twinrank evaluate`."
        if level == "know"
        else "Nothing: the encoder does not tell the types apart."
    )
    return Check("space", heading, [Finding("space", level, text, advice, figures)])


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
    cells = [[kind, word, *(f"{n:.1f}" for n in numbers)] for kind, word, *numbers in words.rows()]
    head = ["type", "word", "z", "here", "elsewhere"]
    return Check("words", heading, [finding], [("How often in 10,000 words", [head, *cells])])


def find_marking_words(texts: Sequence[str], types: Sequence[str]) -> pl.DataFrame:
    """Find the words that mark each type the most; none where there is only one type.

    A word's z is its log-odds ratio with an informative Dirichlet prior over its standard
    deviation (Monroe, Colaresi and Quinn 2008, "Fightin' Words", Political Analysis 16(4)). With y
    and n its count and that of all words, of the type (1) and of the others (2), and alpha the
    prior (500 times its share of all words), it is the log of (y1 + alpha) / (n1 + 500 - y1 -
    alpha) less the same of the others, over sqrt(1 / (y1 + alpha) + 1 / (y2 + alpha)).

    Returns:
        type, word, z, here and elsewhere (how often, in 10,000 words); at most twelve a type, the
        highest z first, all above 1.96.
    """
    text = pl.Series(
        "word", [space_words(text) for text in texts], dtype=pl.String
    ).str.to_lowercase()
    words = pl.DataFrame(
        {"type": pl.Series(types, dtype=pl.String), "word": text.str.extract_all(WORD)}
    )
    counts = words.explode("word").drop_nulls().group_by("type", "word").agg(y1=pl.len())
    total = max(int(counts["y1"].sum()), 1)
    counts = counts.with_columns(
        n1=pl.sum("y1").over("type"), y2=pl.sum("y1").over("word") - pl.col("y1")
    )
    y1, n1, y2, n2 = pl.col("y1"), pl.col("n1"), pl.col("y2"), total - pl.col("n1")
    alpha = PRIOR_WORDS * (y1 + y2) / total
    odds, other_odds = (
        ((y + alpha) / (n + PRIOR_WORDS - y - alpha)).log() for y, n in ((y1, n1), (y2, n2))
    )
    z = (odds - other_odds) / (1 / (y1 + alpha) + 1 / (y2 + alpha)).sqrt()
    marks = counts.filter(n2 > 0).select(
        "type", "word", z=z, here=10_000 * y1 / n1, elsewhere=10_000 * y2 / n2
    )
    marks = marks.filter(pl.col("z").is_finite(), pl.col("z") > MIN_Z).sort(
        "z", "word", descending=[True, False]
    )
    first = marks.group_by("type", maintain_order=True).head(MAX_WORDS)
    return first.sort("type", maintain_order=True)
