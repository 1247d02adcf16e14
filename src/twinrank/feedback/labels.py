"""Labelled queries made of verdicts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from twinrank.data import Dataset
from twinrank.feedback.verdicts import Verdict, feedback_id, standing_verdicts, text_key

DEFAULT_TYPE = "query"  # as of a data set's query without a type
LABEL_SCHEMA = dict.fromkeys(("id", "type", "thread", "text", "answer"), pl.String)


@dataclass(frozen=True)
class LabelCounts:
    """What became of the verdicts; `texts` is the sum of the five fields below it.

    Attributes:
        verdicts: all of them.
        replaced: verdicts that a later one on the same text replaces.
        wrong: of the rest, those that say what is not right: they are no labels.
        unknown: of the rest, those on an answer that the ranker does not have.
        texts: different texts with an answer that was said to be right, spaces and case aside.
        taken_back: texts whose right answers were all said to be wrong later.
        held_out: texts of a thread with queries in validation or test.
        known: texts that the train split has with that label.
        held_back: texts to measure on.
        learned: texts to train on.
    """

    verdicts: int
    replaced: int
    wrong: int
    unknown: int
    texts: int
    taken_back: int
    held_out: int
    known: int
    held_back: int
    learned: int

    def as_dict(self) -> dict[str, int]:
        """Return plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the counts in words, without those that are 0."""
        words = {
            "texts learned": self.learned,
            "held back to measure on": self.held_back,
            "labelled so already": self.known,
            "that validation or test ask about": self.held_out,
            "whose right answer was said to be wrong later": self.taken_back,
            "verdicts in whose place a later one stands": self.replaced,
            "verdicts on what is wrong, which are no labels": self.wrong,
            "on answers that the ranker does not have": self.unknown,
        }
        return ", ".join(f"{count:,} {meaning}" for meaning, count in words.items() if count)


@dataclass(frozen=True)
class Labels:
    """Labelled queries from verdicts, with the columns of `LABEL_SCHEMA`.

    Attributes:
        learned: queries to train on.
        held_back: queries to measure on, which training never sees.
        counts: how they came to be.
    """

    learned: pl.DataFrame
    held_back: pl.DataFrame
    counts: LabelCounts


def make_labels(
    verdicts: Iterable[Verdict], dataset: Dataset, answers: Collection[str], *, hold_back: float
) -> Labels:
    """Make labelled queries of verdicts: the answer that was said to be right last is the label.

    Args:
        verdicts: oldest first.
        dataset: training data of the ranker. A text of a thread with queries in its validation
            or test split is not learned.
        answers: ids that the ranker has.
        hold_back: share of the texts, between 0 and 1, to measure on; chosen by their hash, so
            that they are the same ones next time.
    """
    verdicts = list(verdicts)
    standing = standing_verdicts(verdicts)
    known = set(answers)
    keys = {text_key(v.text) for v in verdicts if v.right and v.answer in known}
    held_out, labels = _find_texts(dataset, keys)
    counts = dict.fromkeys(("taken_back", "held_out", "known"), 0)
    rows: dict[str, list[dict[str, str]]] = {"learned": [], "held_back": []}
    default_type = dataset.types[0] if len(dataset.types) == 1 else DEFAULT_TYPE
    for key, group in standing.items():
        if key not in keys:
            continue
        right = [v.answer for v in group if v.right and v.answer in known]
        answer = right[-1] if right else None
        if answer is None:
            counts["taken_back"] += 1
        elif key in held_out:
            counts["held_out"] += 1
        elif answer in labels.get(key, ()):
            counts["known"] += 1
        else:
            fraction = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
            measured = key not in labels and fraction < hold_back
            id_ = feedback_id(key)
            kind = next((verdict.type for verdict in group if verdict.type), default_type)
            row = {"id": id_, "type": kind, "thread": id_, "text": group[0].text, "answer": answer}
            rows["held_back" if measured else "learned"].append(row)
    remaining = [verdict for group in standing.values() for verdict in group]
    return Labels(
        **{name: pl.DataFrame(group, schema=LABEL_SCHEMA) for name, group in rows.items()},
        counts=LabelCounts(
            verdicts=len(verdicts),
            replaced=len(verdicts) - len(remaining),
            wrong=sum(not verdict.right for verdict in remaining),
            unknown=sum(v.answer is not None and v.answer not in known for v in remaining),
            texts=len(keys),
            **counts,
            **{name: len(group) for name, group in rows.items()},
        ),
    )


def _find_texts(
    dataset: Dataset, keys: Collection[str]
) -> tuple[set[str], Mapping[str, Collection[str]]]:
    """Find texts in a data set, by their keys.

    Returns:
        The keys of texts in threads with queries in validation or test, and the labels of those
        in train.
    """
    queries = dataset.queries.select("id", "thread", "text").collect(engine="streaming")
    in_train = pl.col("split") == "train"
    measured = dataset.labels.filter(~in_train)["query"]
    threads = set(queries.filter(pl.col("id").is_in(measured.implode()))["thread"])
    labels: dict[str, set[str]] = {}
    for query, answer in dataset.labels.filter(in_train).select("query", "answer").iter_rows():
        labels.setdefault(query, set()).add(answer)
    held_out: set[str] = set()
    known: dict[str, set[str]] = {}
    for query, thread, text in queries.iter_rows():
        key = text_key(text)
        if key in keys:
            if thread in threads:
                held_out.add(key)
            if query in labels:
                known.setdefault(key, set()).update(labels[query])
    return held_out, known
