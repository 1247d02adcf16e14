"""What verdicts teach: labelled queries of the texts that people judged."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field

import polars as pl

from twinrank.data import Dataset, Verdict

DEFAULT_TYPE = "query"  # as of a data set's query without one
TAUGHT = dict.fromkeys(("id", "type", "thread", "text", "answer"), pl.String)


@dataclass(frozen=True)
class Counts:
    """What became of some verdicts; `texts` is the sum of the five below it.

    Attributes:
        verdicts: how many there were.
        wrong: those that say what is not right: they are no labels.
        unknown: those that name an answer which the ranker does not have.
        texts: different texts of which somebody said what is right, spaces and case aside.
        undecided: texts for which no answer has more verdicts for it, those against it taken
            away, than any other.
        held_out: texts of a thread that validation or test ask about.
        known: texts that train holds with that very label.
        held_back: texts kept to measure on.
        learned: texts to train on.
    """

    verdicts: int
    wrong: int
    unknown: int
    texts: int
    undecided: int
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
            "without a majority for one answer": self.undecided,
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


@dataclass
class _Judged:
    """A text, and what people said of it."""

    text: str
    type: str = ""
    votes: Counter[str] = field(default_factory=Counter)
    right: bool = False  # somebody said what is right

    @property
    def answer(self) -> str | None:
        """The answer that most verdicts are for, if there is one."""
        first, *others = [*self.votes.most_common(2), ("", 0)]
        return first[0] if first[1] > max(0, others[0][1]) else None


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
    """
    judged, counts = _judged(verdicts, set(answers))
    told = {key: text for key, text in judged.items() if text.right}
    held_out, labels = _in_data(dataset, told.keys())
    counts |= {"texts": len(told), **dict.fromkeys(("undecided", "held_out", "known"), 0)}
    rows: dict[str, list[dict[str, str]]] = {"learned": [], "held_back": []}
    only = dataset.types[0] if len(dataset.types) == 1 else DEFAULT_TYPE
    for key, text in told.items():
        if text.answer is None:
            counts["undecided"] += 1
        elif key in held_out:
            counts["held_out"] += 1
        elif text.answer in labels.get(key, ()):
            counts["known"] += 1
        else:
            digest = hashlib.sha256(key.encode()).digest()
            apart = key not in labels and int.from_bytes(digest[:8]) < hold_back * 2**64
            id_ = f"feedback-{digest.hex()[:16]}"
            row = {"id": id_, "type": text.type or only, "thread": id_, "text": text.text}
            rows["held_back" if apart else "learned"].append({**row, "answer": text.answer})
    counts |= {name: len(some) for name, some in rows.items()}
    frames = {name: pl.DataFrame(some, schema=TAUGHT) for name, some in rows.items()}
    return Lessons(**frames, counts=Counts(**counts))


def _judged(
    verdicts: Iterable[Verdict], answers: Collection[str]
) -> tuple[dict[str, _Judged], dict[str, int]]:
    """Each text with the votes for its answers, and counts of verdicts."""
    judged: dict[str, _Judged] = {}
    counts = {"verdicts": 0, "wrong": 0, "unknown": 0}
    for verdict in verdicts:
        counts["verdicts"] += 1
        counts["wrong"] += not verdict.right
        if verdict.answer is None:
            continue
        if verdict.answer not in answers:
            counts["unknown"] += 1
            continue
        text = judged.setdefault(_key(verdict.text), _Judged(verdict.text))
        text.type = text.type or verdict.type
        text.votes[verdict.answer] += 1 if verdict.right else -1
        text.right |= verdict.right
    return judged, counts


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
        key = _key(text)
        if key in keys:
            if thread in threads:
                held_out.add(key)
            if query in labels:
                known.setdefault(key, set()).update(labels[query])
    return held_out, known


def _key(text: str) -> str:
    """What two writings of one text have in common."""
    return " ".join(text.split()).casefold()
