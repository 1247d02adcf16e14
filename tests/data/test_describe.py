import io
import json

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from twinrank.cli.dataset_tables import dataset_tables
from twinrank.data import Dataset, describe
from twinrank.data.validation import JUDGEMENTS_SCHEMA

QUERIES = dict.fromkeys(("id", "type", "thread", "text"), pl.String)
LABELS = dict.fromkeys(("query", "answer", "split"), pl.String)


def dataset(queries, labels, answers=(("a1", "One", "text of one"),), wrong=0):
    """From rows of (id, type, thread, text), (query, answer, split) and (id, title, text)."""
    return Dataset(
        name="made",
        answers=pl.DataFrame(list(answers), schema=["id", "title", "text"], orient="row"),
        queries=pl.LazyFrame(queries, schema=QUERIES, orient="row"),
        labels=pl.DataFrame(labels, schema=LABELS, orient="row"),
        judgements=pl.DataFrame(
            [("q1", "a1", 0.0, "train")] * wrong, schema=JUDGEMENTS_SCHEMA, orient="row"
        ),
    )


def counted_by_hand():
    queries = [
        ("q1", "question", "t1", "how to pay"),
        ("q2", "mail", "t1", "Hello!\nI want to pay."),
        ("q3", "question", "t2", "pay"),
        ("q4", "question", "q4", "æøå blå"),
        ("q5", "mail", "t3", "x" * 100),
        ("q6", "mail", "t3", "never mind"),
    ]
    labels = [
        ("q1", "a1", "train"),
        ("q1", "a2", "train"),
        ("q2", "a1", "train"),
        ("q3", "a1", "train"),
        ("q4", "a3", "test"),
        ("q5", "a1", "test"),
    ]
    answers = [("a1", "Pay", "Now."), ("a2", "", "Two words"), ("a3", "T", ""), ("a4", "x", "y")]
    return dataset(queries, labels, answers, wrong=3)


def test_figures_are_those_counted_by_hand():
    found = describe(counted_by_hand())
    assert found.counts == {
        **{"answers": 4, "queries": 6, "threads": 4, "threads_of_several_types": 1},
        **{"labels": 6, "judged_wrong": 3},
    }
    assert found.answers == {"never_right": 1, "of_every_type": 1, "top_ten_labels": 6}
    totals = {
        name: [split[what] for what in ("queries", "labels", "threads", "answers")]
        for name, split in found.splits.items()
    }
    assert totals == {
        **{"train": [3, 4, 2, 2], "validation": [0, 0, 0, 0]},
        **{"test": [2, 2, 2, 2], "unlabelled": [1, 0, 1, 0]},
    }
    shares = {kind: split["types"] for kind, split in found.splits.items()}
    assert shares["train"]["question"] == {"count": 2, "share": pytest.approx(2 / 3)}
    assert shares["validation"]["mail"] == {"count": 0, "share": 0.0}
    assert shares["unlabelled"]["mail"] == {"count": 1, "share": 1.0}
    # a1 has 4 queries, a2 and a3 one each; q1 has two labels; t1 and t3 have two queries.
    expected = {"mean": 2.0, "median": 1.0, "p90": pytest.approx(3.4), "max": 4.0}
    assert found.spreads["queries_per_answer"] == expected
    assert found.spreads["labels_per_query"]["mean"] == pytest.approx(6 / 5)
    assert found.spreads["queries_per_thread"]["mean"] == 1.5
    assert json.loads(json.dumps(found.as_dict()))["counts"]["labels"] == 6


def test_lengths_count_characters_not_bytes_and_the_answer_as_the_encoder_reads_it():
    lengths = describe(counted_by_hand()).lengths
    assert lengths["question"]["characters"]["median"] == 7  # of 10, 3, 7
    assert lengths["question"]["words"] == {"mean": 2, "median": 2, "p90": 2.8, "max": 3}
    assert lengths["mail"]["characters"]["max"] == 100
    assert lengths["mail"]["words"]["max"] == 5
    assert lengths["answers"]["characters"]["max"] == len("Pay. Now.")
    assert "tokens" not in lengths["mail"]


def test_what_the_encoder_would_not_read_is_a_share_of_all_tokens():
    queries = [("q1", "mail", "q1", "a b c d e f"), ("q2", "mail", "q2", "a b")]
    made = dataset(queries, [("q1", "a1", "train")])
    found = describe(made, lambda texts: np.array([len(t.split()) for t in texts]), max_tokens=4)
    tokens = found.lengths["mail"]["tokens"]
    assert (tokens["over_share"], tokens["unread_share"]) == (0.5, 0.25)  # 2 of 8 tokens
    assert (tokens["max"], tokens["sampled"]) == (6, 0)
    assert found.lengths["answers"]["tokens"]["max"] == len(["One.", "text", "of", "one"])


def test_tokens_of_many_texts_are_counted_in_a_sample_that_is_named(monkeypatch):
    monkeypatch.setattr("twinrank.data.statistics.MAX_COUNTED_TEXTS", 40)
    monkeypatch.setattr("twinrank.cli.dataset_tables.MAX_COUNTED_TEXTS", 40)
    monkeypatch.setattr("twinrank.data.statistics.TEXTS_COUNTED_AT_ONCE", 7)
    queries = [(f"q{i}", "ab"[i % 5 == 0], f"q{i}", "word " * (i + 1)) for i in range(150)]
    seen = []

    def count(texts):
        seen.extend(texts)
        return np.array([len(text.split()) for text in texts])

    found = describe(dataset(queries, [("q1", "a1", "train")]), count)
    assert len(seen) == len(set(seen)) == 40 + 30 + 1
    tokens = {name: units["tokens"] for name, units in found.lengths.items()}
    assert {name: units["sampled"] for name, units in tokens.items()} == {
        **{"a": 40, "b": 0, "answers": 0},
    }
    assert tokens["b"]["max"] == 146
    assert tokens["a"]["median"] == pytest.approx(75, abs=30)
    assert "40 sampled texts" in printed(found)


def test_warnings():
    queries = [("q1", "question", "q1", "a"), ("q2", "mail", "q2", "b")]
    [warning] = describe(dataset(queries, [])).warnings
    assert warning == "no query has a label: there is nothing to train on or to measure"
    assert describe(dataset(queries, [("q1", "a1", "train"), ("q2", "a2", "test")])).warnings == (
        "train has no labelled queries of the type mail",
        "train has 1 labelled queries of the type question",
        "validation has no labels: `twinrank split` divides those there are",
        "test has 1 labelled queries of the type mail",
        "test has no labelled queries of the type question",
        "1 answers that are right in test have no label in train",
    )
    warnings = describe(dataset([("q1", "query", "q1", "a")], [("q1", "a1", "train")])).warnings
    assert "all queries are of one type, query: there is no parity to measure" in warnings
    assert "0 queries" in printed(describe(dataset([], [])))


def printed(description, width=90):
    out = io.StringIO()
    Console(file=out, width=width).print(dataset_tables(description))
    return out.getvalue()


def test_tables_are_aligned_and_take_types_as_they_are():
    queries = [(f"q{i}", "[red]mail", f"q{i}", "text") for i in range(1200)]
    labels = [(f"q{i}", "a1", "train") for i in range(1100)]
    text = printed(describe(dataset(queries, labels), lambda texts: np.full(len(texts), 200)))
    lines = text.splitlines()
    kind = next(line for line in lines if "[red]mail" in line)
    total = next(line for line in lines if "all queries" in line)
    assert kind.index("1,100") == total.index("1,100")
    assert kind.index("1,200") == total.index("1,200")
    assert "100% 1,100" in kind
    assert "not read" in text
    assert "36%" in text  # 72 of 200 tokens behind the cut
