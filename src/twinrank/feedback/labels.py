"""Verdicts made into labelled queries, and into texts that were answered well or badly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from twinrank.data.conversations import CONVERSATION, QUESTION, is_conversation
from twinrank.data.dataset import Dataset
from twinrank.data.validation import DEFAULT_TYPE
from twinrank.feedback.verdicts import Verdict, feedback_id, standing_verdicts, text_key

HOLD_BACK = 0.2  # share of the texts that is measured on
ASKED_SCHEMA = {"text": pl.String, "right": pl.Boolean, "day": pl.Date}
Asked: TypeAlias = pl.DataFrame  # was an answer right? null: nobody said; day: null if unknown
LABEL_SCHEMA = dict.fromkeys(("id", "type", "thread", "text", "answer"), pl.String)


COUNTS = {  # of texts, then of verdicts, in words
    "learned": "texts learned",
    "held_back": "held back to measure on",
    "known": "labelled so already",
    "held_out": "that validation or test ask about",
    "taken_back": "whose right answer was said to be wrong later",
    "replaced": "verdicts in whose place a later one stands",
    "wrong": "verdicts on what is wrong, which are no labels",
    "unknown": "on answers that the ranker does not have",
}


@dataclass(frozen=True)
class Labels:
    """Labelled queries to train on, and others to measure on; columns as in `LABEL_SCHEMA`.

    Counts are those of `COUNTS`, and how many `verdicts` and `texts` there are in all; texts are
    those with an answer that was said to be right, spaces and case aside.
    """

    learned: pl.DataFrame
    held_back: pl.DataFrame
    counts: dict[str, int]


def make_labels(
    verdicts: Iterable[Verdict], dataset: Dataset, answers: Collection[str], *, hold_back: float
) -> Labels:
    """Make labelled queries of verdicts: the answer that was said to be right last is the label.

    Verdicts come oldest first. A text of a thread with queries in the validation or test split of
    the ranker's training data is not learned, nor one on an answer that the ranker does not have.
    The texts to hold back, a share between 0 and 1, are chosen by their hash, so that they are the
    same ones next time.
    """
    verdicts, known = list(verdicts), set(answers)
    standing = standing_verdicts(verdicts)
    keys = {text_key(v.text) for v in verdicts if v.right and v.answer in known}
    held_out, labels = _find_texts(dataset, keys)
    rows: dict[str, list[dict[str, str]]] = {
        name: [] for name in ("taken_back", "held_out", "known", "held_back", "learned")
    }
    for key, group in standing.items():
        if key not in keys:
            continue
        right = [v.answer for v in group if v.right and v.answer in known]
        id_, answer = feedback_id(key), right[-1] if right else None
        kind = next((verdict.type for verdict in group if verdict.type), None)
        row = {
            "id": id_,
            "type": kind or _guess_type(group[0].text, dataset),
            "thread": id_,
            "text": group[0].text,
            "answer": answer or "",
        }
        if answer is None:
            rows["taken_back"].append(row)
        elif key in held_out:
            rows["held_out"].append(row)
        elif answer in labels.get(key, ()):
            rows["known"].append(row)
        elif key not in labels and _draw(key) < hold_back:
            rows["held_back"].append(row)
        else:
            rows["learned"].append(row)
    remaining = [verdict for group in standing.values() for verdict in group]
    return Labels(
        learned=pl.DataFrame(rows["learned"], schema=LABEL_SCHEMA),
        held_back=pl.DataFrame(rows["held_back"], schema=LABEL_SCHEMA),
        counts={
            "verdicts": len(verdicts),
            "replaced": len(verdicts) - len(remaining),
            "wrong": sum(not verdict.right for verdict in remaining),
            "unknown": sum(v.answer is not None and v.answer not in known for v in remaining),
            "texts": len(keys),
            **{name: len(group) for name, group in rows.items()},
        },
    )


def _guess_type(text: str, dataset: Dataset) -> str:
    """Return the type of a text of which nobody said it: the one there is, or by its form."""
    form = CONVERSATION if is_conversation(text) else QUESTION
    alone = dataset.types[0] if len(dataset.types) == 1 else DEFAULT_TYPE
    return form if form in dataset.types else alone


def count_waiting(
    verdicts: Iterable[Verdict],
    answers: Collection[str],
    past: Iterable[tuple[str, str]],
    *,
    hold_back: float,
) -> int:
    """Count the texts that a ranker with these answers could learn, without looking at its data.

    Verdicts come oldest first; `past` are the texts and answers that it has learned.
    """
    known, right = set(answers), dict[str, str]()
    for key, group in standing_verdicts(verdicts).items():
        named = [v.answer for v in group if v.right and v.answer in known]
        if named and named[-1] and _draw(key) >= hold_back:
            right[key] = named[-1]
    return len(right.items() - {(text_key(text), answer) for text, answer in past})


def _draw(key: str) -> float:
    """Draw a number from 0 to 1 for a text, always the same one."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def judge_texts(verdicts: Iterable[Verdict]) -> Asked:
    """Return a row for each text with verdicts, the oldest first.

    It is right if of the verdicts that stand (see `standing_verdicts`) one names a right answer.

    Args:
        verdicts: oldest first.
    """
    rows = [
        (group[-1].text, any(verdict.right for verdict in group), group[-1].at.date())
        for group in standing_verdicts(verdicts).values()
    ]
    return pl.DataFrame(rows, ASKED_SCHEMA, orient="row").sort("day", maintain_order=True)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Say what became of verdicts and their texts, without counts of 0."""
    return ", ".join(f"{counts[name]:,} {words}" for name, words in COUNTS.items() if counts[name])


def _find_texts(dataset: Dataset, keys: Collection[str]) -> tuple[set[str], dict[str, set[str]]]:
    """Find which keys are of threads with queries in validation or test, and their train labels."""
    labels = dataset.labels.group_by(id="query").agg(
        measured=(pl.col("split") != "train").any(),
        answers=pl.col("answer").filter(pl.col("split") == "train"),
    )
    queries = dataset.queries.select("id", "thread", "text")
    queries = queries.join(labels, on="id", how="left").with_columns(
        pl.col("measured").any().over("thread")
    )
    held_out: set[str] = set()
    known: dict[str, set[str]] = {}
    for text, measured, answers in queries.select("text", "measured", "answers").iter_rows():
        key = text_key(text)
        if key in keys:
            if measured:
                held_out.add(key)
            if answers:
                known.setdefault(key, set()).update(answers)
    return held_out, known
