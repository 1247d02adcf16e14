import io
import json
from dataclasses import replace

import polars as pl
import pytest
from rich.console import Console

from twinrank.cli.dataset_tables import dataset_tables
from twinrank.data import Dataset, describe, split
from twinrank.data.validation import JUDGEMENTS_SCHEMA
from twinrank.errors import DataError

QUERIES = dict.fromkeys(("id", "type", "thread", "text"), pl.String)
LABELS = dict.fromkeys(("query", "answer", "split"), pl.String)


def dataset(queries, labels, answers=(("a1", "One", "text of one"),), wrong=0):
    """From rows of (id, type, thread, text), (query, answer, split) and (id, title, text)."""
    return Dataset(
        name="made",
        answers=pl.DataFrame(list(answers), schema=["id", "title", "text"], orient="row"),
        queries=pl.DataFrame(queries, schema=QUERIES, orient="row"),
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
    assert json.loads(json.dumps(vars(found)))["counts"]["labels"] == 6


def test_warnings():
    queries = [("q1", "question", "q1", "a"), ("q2", "mail", "q2", "b")]
    [warning] = describe(dataset(queries, [])).warnings
    assert warning == (
        "no query has a label; labels come from a column of the queries "
        "(--column query_answer=NAME) or from a table of labels (--labels FILE)"
    )
    assert describe(dataset(queries, [("q1", "a1", "train"), ("q2", "a2", "test")])).warnings == (
        "train has no labelled queries of the type mail",
        "train has 1 labelled queries of the type question",
        "validation has no labels: `twinrank split` divides those there are",
        "test has 1 labelled queries of the type mail",
        "test has no labelled queries of the type question",
        "1 answers that are right in test have no label in train",
    )
    warnings = describe(dataset([("q1", "query", "q1", "a")], [("q1", "a1", "train")])).warnings
    assert warnings[-1].startswith("all queries are of one type, query, so no two types can be")
    assert warnings[-1].endswith("--column query_type=NAME")
    assert "0 queries" in printed(describe(dataset([], [])))


NAMING = [  # rows of the queries' metadata, and the column that names answers
    ([{"Solved by": "https://help.example/kb/a1"}, {"Solved by": "a2"}, {"Solved by": "x"}], 1),
    ([{"Solved by": "a1; a2"}, {"Solved by": ["a2", 7]}, {}, {}], 1),
    ([{"Solved by": 7.0, "stars": 7}, {"Solved by": "a1", "stars": 7}], 1),
    ([{"Solved by": "a1"}, {"Solved by": "gone"}, {"Solved by": "how I did it"}], 0),
    ([{"Solved by": "a1; gone"}, {"stars": {"a1": "a1"}}], 0),
    ([{}], 0),
]


@pytest.mark.parametrize(("rows", "is_named"), NAMING)
def test_a_column_that_names_answers_is_pointed_out_where_there_are_no_labels(rows, is_named):
    queries = [(f"q{i}", "question", f"q{i}", "text") for i in range(len(rows))]
    made = dataset(queries, [], answers=[("a1", "", "x"), ("a2", "", "y"), ("7", "", "z")])
    urls = pl.Series([f"https://help.example/en/kb/{name}" for name in made.answers["id"]])
    unlabelled = replace(
        made,
        answers=made.answers.with_columns(url=urls),
        queries=made.queries.with_columns(metadata=pl.Series(map(json.dumps, rows))),
    )
    hint = "the column 'Solved by' names answers: --column 'query_answer=Solved by'"
    assert (f"no query has a label; {hint}" in describe(unlabelled).warnings) is bool(is_named)
    with pytest.raises(DataError, match=hint if is_named else "--labels FILE"):
        split(unlabelled)
    fields = pl.Series([json.dumps({"tag": "x", "Link": url}) for url in urls])
    unread = unlabelled.answers.with_columns(url=pl.lit(None, pl.String), metadata=fields)
    text = describe(replace(unlabelled, answers=unread)).warnings[0]
    assert text.endswith(f"{hint} --column answer_url=Link") is bool(is_named)


def printed(description, width=90):
    out = io.StringIO()
    Console(file=out, width=width).print(dataset_tables(description))
    return out.getvalue()


def test_tables_are_aligned_and_take_types_as_they_are():
    queries = [(f"q{i}", "[red]mail", f"q{i}", "text") for i in range(1200)]
    labels = [(f"q{i}", "a1", "train") for i in range(1100)]
    text = printed(describe(dataset(queries, labels)))
    lines = text.splitlines()
    kind = next(line for line in lines if "[red]mail" in line)
    total = next(line for line in lines if "all queries" in line)
    assert kind.index("1,100") == total.index("1,100")
    assert kind.index("1,200") == total.index("1,200")
    assert "100% 1,100" in kind
