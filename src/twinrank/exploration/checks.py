"""Checks of what can be counted: types and splits, common and unused answers, lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from twinrank.data import SPLITS, answer_texts, section_texts
from twinrank.data.statistics import FEW, unspaced_warning
from twinrank.exploration.findings import (
    Chart,
    Check,
    Finding,
    Level,
    Table,
    count_of,
    enumerate_words,
)
from twinrank.exploration.neighbours import nearest
from twinrank.exploration.sample import MAX_ROWS, Subject

# From these shares on, something is to be mended rather than known.
UNEVEN = 0.5  # of the even share of a type
OFTEN_NEAREST = 0.05  # of the labelled queries
MUCH_UNREAD = 0.1  # of the tokens of a kind of text

COMMONEST = 3  # answers that a ranker that knows nothing else names for every query
TOKEN_LIMITS = (128, 256, 512)  # of encoders
MAX_BARS = 20
CURVE_POINTS = 200
ANSWERS, SECTIONS = "the answers", "the sections of answers"

Figures = dict[str, int | float]


def check_types(subject: Subject) -> Check:
    """Can every split train or measure, and is a type drowned by the others?"""
    splits = subject.description.splits
    kinds = sorted(splits["train"]["types"])
    counts = {k: sum(split["types"][k]["count"] for split in splits.values()) for k in kinds}
    findings = [*_find_faulty_splits(subject), *_find_rare_type(counts), *_find_unlabelled(subject)]
    head = ["split", "queries", *kinds, "labels", "threads", "right answers"]
    rows = [
        [
            name,
            f"{split['queries']:,}",
            *(f"{split['types'][k]['count']:,} ({split['types'][k]['share']:.0%})" for k in kinds),
            *(f"{split[column]:,}" for column in ("labels", "threads", "answers")),
        ]
        for name, split in splits.items()
    ]
    bars = [
        {
            "name": kind,
            "x": of_type["count"],
            "y": name,
            "hover": f"{name}: {of_type['count']:,} {kind}, {of_type['share']:.0%}",
        }
        for kind in kinds
        for name, split in splits.items()
        for of_type in [split["types"][kind]]
    ]
    charts = [Chart("bars", "splits", bars, "queries")] if kinds else []
    return Check("types", "Types and splits", findings, charts, [Table("Splits", [head, *rows])])


def _find_faulty_splits(subject: Subject) -> list[Finding]:
    splits, labels = subject.description.splits, subject.dataset.labels
    if labels.is_empty():
        advice = "Label some to train and to measure; until then rank with `bm25` or `zero-shot`."
        return [Finding("splits", "mend", "No query has a label.", advice, {"labels": 0})]
    findings = []
    empty = [name for name in SPLITS if not splits[name]["labels"]]
    if empty:
        text = f"There are no labels in {enumerate_words(empty)}."
        advice = "Divide the labels there are with `twinrank split`."
        figures = {"splits_without_labels": len(empty)}
        findings.append(Finding("splits", "mend", text, advice, figures))
    few = {
        f"{kind} in {name}": counts["count"]
        for name in SPLITS
        if name not in empty
        for kind, counts in splits[name]["types"].items()
        if counts["count"] < FEW
    }
    if few:
        fewest = min(few, key=lambda name: few[name])
        text = (
            f"{count_of(len(few), 'type of a split has', 'types of splits have')} fewer than {FEW} "
            f"labelled queries; the fewest: {few[fewest]}, {fewest}."
        )
        advice = "Read its figures with their intervals, or give `twinrank split` larger shares."
        figures = {"few": len(few), "fewest": few[fewest]}
        findings.append(Finding("splits", "mend", text, advice, figures))
    taught = labels.filter(pl.col("split") == "train")["answer"].unique()
    is_known = pl.col("answer").is_in(taught.implode()).any()
    lost = labels.group_by("split", "query").agg(is_known).filter(~pl.col("answer"))
    unseen = {name: int((lost["split"] == name).sum()) for name in ("validation", "test")}
    unseen = {name: count for name, count in unseen.items() if count and len(taught)}
    if unseen:
        names = [f"{count_of(n, 'query', 'queries')} of {name}" for name, n in unseen.items()]
        text = f"No label in train has the right answer of {enumerate_words(names)}."
        advice = (
            "A ranker knows these answers by their text alone, as it does new ones: expect less "
            "there."
        )
        figures = {f"unseen_{name}": count for name, count in unseen.items()}
        findings.append(Finding("splits", "know", text, advice, figures))
    return findings


def _find_rare_type(counts: dict[str, int]) -> list[Finding]:
    total = sum(counts.values())
    if not counts:
        return []
    rare = min(counts, key=lambda kind: counts[kind])
    if len(counts) == 1:
        text = f"All {count_of(total, 'query', 'queries')} are of one type, {rare}."
        advice = (
            "If they are of several kinds (search box, chat, e-mail), give each its `type`: there "
            "is no parity to measure without."
        )
        return [Finding("types", "know", text, advice, {"types": 1, "queries": total})]
    share = counts[rare] / total
    uneven = share < UNEVEN / len(counts)
    advice = (
        "Train with the recipe `even`, which weighs the types that are learned worst, and judge "
        "by the worst type's figures."
    )
    return [
        Finding(
            "types",
            "mend" if uneven else "fine",
            f"The rarest of {len(counts)} types, {rare}, has {share:.0%} of the queries.",
            advice if uneven else "Nothing: no type is drowned by another.",
            {"types": len(counts), "queries": total, "rarest_share": share},
        )
    ]


def _find_unlabelled(subject: Subject) -> list[Finding]:
    counts = subject.description.counts
    unlabelled = subject.description.splits["unlabelled"]["queries"]
    total = counts["queries"]
    if not 0 < unlabelled < total:
        return []
    text = f"{unlabelled:,} of {total:,} queries ({unlabelled / total:.0%}) have no label."
    advice = (
        'Let pre-training see them (`pairing = "thread"`), or label those that people ask most.'
        if counts["threads_of_several_types"]
        else "Label those that people ask most; nothing else learns from them."
    )
    figures = {"unlabelled": unlabelled, "queries": total}
    return [Finding("unlabelled", "know", text, advice, figures)]


def check_popularity(subject: Subject) -> Check:
    """How uneven are the labels over the answers?"""
    heading, ranked = "How often each answer is right", subject.popularity
    used = ranked.filter(pl.col("queries") > 0)
    if used.is_empty():
        return Check("popularity", heading)
    half = int((used["share"] < 0.5).sum()) + 1
    ten = float(used["share"][min(9, used.height - 1)])
    text = (
        f"The ten commonest answers have {ten:.0%} of the labels, and {half:,} of "
        f"{ranked.height:,} answers have half of them"
    )
    advice = "Judge a ranker on rare answers too: a few common ones decide its mean."
    figures: Figures = {"top_ten_share": ten, "half_of_labels": half}
    labels = subject.dataset.labels
    train, validation = (labels.filter(pl.col("split") == name) for name in SPLITS[:2])
    if train.height and validation.height:
        counts = train.group_by("answer").len().sort("len", "answer", descending=[True, False])
        is_common = pl.col("answer").is_in(counts["answer"].head(COMMONEST).implode())
        right = validation.filter(is_common)["query"].n_unique() / validation["query"].n_unique()
        text += f"; to name the three commonest is right for {right:.0%} of validation"
        advice = "Hold every top-3 accuracy against that figure, and look at rare answers apart."
        figures["commonest_three_accuracy"] = right
    finding = Finding("answers", "know", f"{text}.", advice, figures)
    charts = [_draw_shares(ranked), _draw_commonest(subject, used)]
    return Check("popularity", heading, [finding], charts)


def _draw_shares(ranked: pl.DataFrame) -> Chart:
    ranks = np.unique(np.geomspace(1, ranked.height, CURVE_POINTS).round().astype(int))
    rows = [
        {
            "name": "",
            "x": rank,
            "y": round(row["share"], 4),
            "hover": f"{row['title']}\nrank {rank:,}, {row['queries']:,} labels; with those "
            f"before it {row['share']:.0%}",
        }
        for rank, row in zip(ranks.tolist(), ranked[ranks - 1].iter_rows(named=True), strict=True)
    ]
    titles = ("answers, the commonest first", "share of all labels")
    return Chart("lines", "popularity_curve", rows, *titles, log_x=True)


def _draw_commonest(subject: Subject, used: pl.DataFrame) -> Chart:
    kinds = subject.dataset.queries.select("id", "type").collect(engine="streaming")
    labels = subject.dataset.labels.join(kinds, left_on="query", right_on="id")
    counts = labels.group_by("answer", "type").agg(queries=pl.len())
    common = used.head(MAX_BARS).select("answer", "title").with_row_index("rank")
    bars = common.join(counts, on="answer").sort("type", "rank")
    rows = [
        {"name": kind, "x": count, "y": answer, "hover": f"{title}\n{count:,} {kind}"}
        for answer, title, kind, count in bars.select("answer", "title", "type", "queries").rows()
    ]
    titles = dict(common.select("answer", "title").iter_rows())
    return Chart("bars", "commonest", rows, "labels", labels=titles)


def check_unused(subject: Subject) -> Check:
    """Which answers is nobody sent to, though they are the nearest to a query?"""
    sample, heading = subject.sample, "Answers that are right for no query"
    asked = np.flatnonzero(sample.labelled)
    if not len(asked):
        return Check("unused", heading)
    never = subject.popularity.filter(pl.col("queries") == 0)["answer"]
    columns, cosines = nearest(sample.points[asked], sample.answer_points, 1)
    ids = sample.answers["id"]
    pairs = pl.DataFrame({"answer": columns[:, 0], "query": asked, "cosine": cosines[:, 0]})
    unused = (
        pairs.filter(ids.gather(pairs["answer"]).is_in(never.implode()))
        .group_by("answer")
        .agg(queries=pl.len(), query=pl.col("query").sort_by("cosine").last())
        .sort("queries", "answer", descending=[True, False])
    )
    total, near = subject.popularity.height, int(unused["queries"].sum())
    figures: Figures = {"never_right": len(never), "answers": total, "nearest_to_queries": near}
    level: Level = "know" if len(never) else "fine"
    text, advice = "Every answer is right for a query.", "Nothing."
    if near:
        level = "mend" if near / len(asked) >= OFTEN_NEAREST else "know"
        text = (
            f"{len(never):,} of {total:,} answers ({len(never) / total:.0%}) are right for no "
            f"query, yet one of them is the nearest article to {near / len(asked):.0%} of the "
            "labelled queries."
        )
        advice = (
            "Read the pairs on the page: add the label where the article is right too, and take "
            "articles out that nobody should be sent to."
        )
    elif len(never):
        count = count_of(len(never), "answer is", "answers are")
        text = f"{count} right for no query, nor nearest to any."
        advice = "Nothing: they distract nobody."
    rows = [
        [f"{queries:,}", f"{sample.answers['title'][answer]}\n{sample.describe_query(query)}"]
        for answer, queries, query in unused.head(MAX_ROWS).iter_rows()
    ]
    head = ["nearest to", "the answer, and a query"]
    tables = [Table("Never right, and often nearest", [head, *rows], unused.height)] if rows else []
    finding = Finding("unused", level, text, advice, figures)
    return Check("unused", heading, [finding], tables=tables, facts={"answers": unused.height})


def check_lengths(subject: Subject) -> Check:
    """Does the encoder's limit cut much, and does it read words at all?"""
    tokens = _count_tokens(subject)
    findings = [*_find_markup(subject), *_find_unread(subject, tokens)]
    for warning in unspaced_warning(subject.dataset):
        text, advice = warning.split(": ")
        advice = f"{advice[0].upper()}{advice[1:]}."
        findings.append(Finding("scripts", "mend", f"{text}.", advice, {}))
    heading = "Lengths, and what is cut"
    if not tokens:
        return Check("lengths", heading, findings)
    limit, longest = subject.encoder.max_tokens, subject.encoder.longest
    limits = [n for n in sorted({limit, *TOKEN_LIMITS}) if n <= (longest or n)]
    head = ["tokens", "median", "90 %", "longest"]
    head += [f"{measure} at {n}" for n in limits for measure in ("cut", "unread")]
    rows = [
        [
            name,
            *(f"{value:,.0f}" for value in np.quantile(counts, (0.5, 0.9, 1))),
            *(
                f"{share:.0%}"
                for n in limits
                for share in ((counts > n).mean(), _unread(counts, n))
            ),
        ]
        for name, counts in tokens.items()
    ]
    table = Table("Lengths in tokens", [head, *rows])
    return Check("lengths", heading, findings, [_draw_lengths(tokens, limit)], [table])


def _draw_lengths(tokens: dict[str, np.ndarray], limit: int) -> Chart:
    most = max(8, *(int(counts.max()) for counts in tokens.values()))
    steps = np.unique(np.geomspace(4, most, CURVE_POINTS).round().astype(int)).tolist()
    rows = []
    for name, counts in tokens.items():
        for step, share in zip(steps, (counts[:, None] > steps).mean(axis=0), strict=True):
            hover = f"{share:.1%} of {name} are longer than {step:,} tokens"
            rows.append({"name": name, "x": step, "y": round(float(share), 4), "hover": hover})
    titles = ("tokens", "share of the texts")
    mark = (float(limit), f"the limit, {limit}")
    return Chart("lines", "lengths_curve", rows, *titles, threshold=mark, log_x=True)


def _count_tokens(subject: Subject) -> dict[str, np.ndarray]:
    """Count the tokens of all texts of a sample before any are cut, by the kind of text."""
    sample, count = subject.sample, subject.encoder.count_tokens
    texts = {k: sample.frame.filter(pl.col("type") == k)["text"].to_list() for k in sample.types}
    texts[ANSWERS] = answer_texts(sample.answers)
    sections, owners = section_texts(sample.answers)
    if len(sections) > len(np.unique(owners)):  # an answer has several
        texts[SECTIONS] = sections
    return {name: count(listed) for name, listed in texts.items() if len(listed)}


def _unread(tokens: np.ndarray, limit: int) -> float:
    """Give the share of all tokens that lie behind a limit."""
    return float(np.maximum(tokens - limit, 0).sum() / max(tokens.sum(), 1))


def _find_markup(subject: Subject) -> list[Finding]:
    description = subject.description
    if not description.markup:
        return []
    counts = [f"{n:,} of {description.counts[k]:,} {k}" for k, n in description.markup.items()]
    counted = enumerate_words(counts)
    text = f"{counted} hold HTML, whose tags and entities the encoder reads as words."
    advice = "Make plain text of them, and import again, before anything else here is weighed."
    figures = {f"markup_{name}": count for name, count in description.markup.items()}
    return [Finding("markup", "mend", text, advice, figures)]


def _find_unread(subject: Subject, tokens: dict[str, np.ndarray]) -> list[Finding]:
    limit = subject.encoder.max_tokens
    unread = {name: _unread(counts, limit) for name, counts in tokens.items()}
    whole = {name: share for name, share in unread.items() if name != SECTIONS}
    if not whole:
        return []
    figures = {f"unread_{name}": share for name, share in unread.items()}
    ordered = sorted(whole.items(), key=lambda item: -item[1])
    much = [(name, share) for name, share in ordered if share >= MUCH_UNREAD]
    if not much:
        cut = f"{ordered[0][1]:.1%}"
        text = f"At a limit of {limit} tokens the encoder reads all but {cut} of what is longest."
        return [Finding("lengths", "fine", text, "Nothing: what is cut is little.", figures)]
    shares = enumerate_words([f"{share:.0%} of the tokens of {name}" for name, share in much])
    text = f"At a limit of {limit} tokens the encoder never reads {shares}."
    advice = (
        "Take the HTML out first: much of what is cut may be tags."
        if subject.description.markup
        else _advise_reading(subject, tokens, [name for name, _ in much])
    )
    return [Finding("lengths", "mend", text, advice, figures)]


def _advise_reading(subject: Subject, tokens: dict[str, np.ndarray], names: Sequence[str]) -> str:
    """Advise sections, and the limit at which little is cut of each kind of text, or the best."""
    by_section = ANSWERS in names and SECTIONS in tokens
    counts = [tokens[SECTIONS if by_section and name == ANSWERS else name] for name in names]
    limit, longest = subject.encoder.max_tokens, subject.encoder.longest
    limits = [n for n in TOKEN_LIMITS if limit < n <= (longest or n)]
    left = {n: max(_unread(lengths, n) for lengths in counts) for n in limits}
    enough = next((n for n in limits if left[n] < MUCH_UNREAD), limits[-1] if limits else None)
    ways = ['read answers section by section (`answers = "sections"`)'] if by_section else []
    if enough:
        ways.append(f"set `max_tokens = {enough}`, which leaves at most {left[enough]:.0%} unread")
    if not ways:
        return "Shorten the texts before import, the essential first: this encoder reads no more."
    return f"In the recipe's [encoder], {' and '.join(ways)}."
