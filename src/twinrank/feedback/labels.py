"""What verdicts teach: labelled queries of the texts that people judged."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from twinrank.data import Dataset
from twinrank.feedback.verdicts import Verdict, feedback_id, last_words, text_key

DEFAULT_TYPE = "query"  # as of a data set's query without one
TAUGHT = dict.fromkeys(("id", "type", "thread", "text", "answer"), pl.String)


@dataclass(frozen=True)
class Counts:
    """What became of some verdicts; `texts` is the sum of the five below it.

    Attributes:
        verdicts: how many there were.
        replaced: those in whose place a later verdict on the same text stands.
        wrong: of the rest, those that say what is not right: they are no labels.
        unknown: of the rest, those that name an answer which the ranker does not have.
        texts: different texts of which somebody said what is right, spaces and case aside.
        taken_back: texts whose right answers were all said to be wrong later.
        held_out: texts of a thread that validation or test ask about.
        known: texts that train holds with that very label.
        held_back: texts kept to measure on.
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
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """In words, without what there is none of."""
        said = {
            "texts learned": self.learned,
            "held back to measure on": self.held_back,
            "labelled so already": self.known,
            "that validation or test ask about": self.held_out,
            "whose right answer was said to be wrong later": self.taken_back,
            "verdicts in whose place a later one stands": self.replaced,
            "verdicts on what is wrong, which are no labels": self.wrong,
            "on answers that the ranker does not have": self.unknown,
        }
        return ", ".join(f"{count:,} {what}" for what, count in said.items() if count)


@dataclass(frozen=True)
class Lessons:
    """Labelled queries from verdicts.

    Attributes:
        learned: id, type, thread, text and the answer of queries to train on.
        held_back: the same of others, which training never sees.
        counts: how they came to be.
    """

    learned: pl.DataFrame
    held_back: pl.DataFrame
    counts: Counts


def lessons(
    verdicts: Iterable[Verdict], dataset: Dataset, answers: Collection[str], *, hold_back: float
) -> Lessons:
    """Labelled queries from verdicts, and what became of each.

    Args:
        verdicts: oldest first.
        dataset: what the ranker was trained on. A text of a thread that its validation or test
            split asks about is not learned.
        answers: ids that the ranker knows.
        hold_back: share of the texts, between 0 and 1, to measure on; chosen by their hash, so
            that they are the same ones next time.

    The answer that was said to be right last is a text's label.
    """
    verdicts = list(verdicts)
    stand = last_words(verdicts)
    known = set(answers)
    said = {text_key(v.text) for v in verdicts if v.right and v.answer in known}
    held_out, labels = _in_data(dataset, said)
    standing = [verdict for some in stand.values() for verdict in some]
    counts = dict.fromkeys(("taken_back", "held_out", "known"), 0) | {
        "verdicts": len(verdicts),
        "replaced": len(verdicts) - len(standing),
        "wrong": sum(not verdict.right for verdict in standing),
        "unknown": sum(v.answer is not None and v.answer not in known for v in standing),
        "texts": len(said),
    }
    rows: dict[str, list[dict[str, str]]] = {"learned": [], "held_back": []}
    only = dataset.types[0] if len(dataset.types) == 1 else DEFAULT_TYPE
    for key, some in stand.items():
        if key not in said:
            continue
        right = [v.answer for v in some if v.right and v.answer in known]
        answer = right[-1] if right else None
        if answer is None:
            counts["taken_back"] += 1
        elif key in held_out:
            counts["held_out"] += 1
        elif answer in labels.get(key, ()):
            counts["known"] += 1
        else:
            digest = hashlib.sha256(key.encode()).digest()
            apart = key not in labels and int.from_bytes(digest[:8]) < hold_back * 2**64
            id_ = feedback_id(key)
            kind = next((verdict.type for verdict in some if verdict.type), only)
            row = {"id": id_, "type": kind, "thread": id_, "text": some[0].text, "answer": answer}
            rows["held_back" if apart else "learned"].append(row)
    counts |= {name: len(some) for name, some in rows.items()}
    frames = {name: pl.DataFrame(some, schema=TAUGHT) for name, some in rows.items()}
    return Lessons(**frames, counts=Counts(**counts))


def _in_data(
    dataset: Dataset, keys: Collection[str]
) -> tuple[set[str], Mapping[str, Collection[str]]]:
    """Of some texts, those that validation or test ask about, and the labels of those in train."""
    queries = dataset.queries.select("id", "thread", "text").collect(engine="streaming")
    of_train = pl.col("split") == "train"
    asked = dataset.labels.filter(~of_train)["query"]
    threads = set(queries.filter(pl.col("id").is_in(asked.implode()))["thread"])
    labels: dict[str, set[str]] = {}
    for query, answer in dataset.labels.filter(of_train).select("query", "answer").iter_rows():
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
