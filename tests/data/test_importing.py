import json
import logging
import math
from pathlib import Path

import polars as pl
import pytest

from twinrank.data import Columns, Dataset, describe, import_exports, import_tables
from twinrank.errors import ArgumentError, DataError, TwinrankError

ANSWERS = [
    {"id": "a1", "title": "Log in", "content": "Press, then\nwait."},
    {"id": "a2", "title": "Pay", "content": 'Say "pay".'},
]
QUERIES = [
    {"title": "no login", "content": "it says no", "type": "question", "answer id": "a1"},
    {"title": "", "content": "hello; æøå", "type": "conversation", "answer id": "a1; a2"},
    {"title": "only a title", "content": "", "type": "question", "answer id": ""},
]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def write(file, rows):
    frame = pl.DataFrame(rows)
    match file.suffix:
        case ".csv":
            frame.write_csv(file)
        case ".tsv":
            frame.write_csv(file, separator="\t")
        case ".jsonl":
            frame.write_ndjson(file)
        case ".parquet":
            frame.write_parquet(file)
    return file


def imported(tmp_path, answers=ANSWERS, queries=QUERIES, labels=None, suffix=".jsonl", **options):
    return import_tables(
        tmp_path / "out",
        answers=write(tmp_path / f"answers{suffix}", answers),
        queries=write(tmp_path / f"queries{suffix}", queries),
        labels=labels and write(tmp_path / f"labels{suffix}", labels),
        **options,
    )


def faults_of(tmp_path, **tables):
    """The faults of an import, as (file name, line, what); nothing may be written."""
    with pytest.raises(DataError) as caught:
        imported(tmp_path, **tables)
    assert not (tmp_path / "out").exists()
    return [(fault.file.name, fault.line, fault.what) for fault in caught.value.faults]


def rows(dataset):
    return dataset.queries.select("id", "type", "thread", "text").rows()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tables_of_every_kind_become_the_same_data_set(tmp_path, suffix):
    dataset = imported(tmp_path, suffix=suffix)
    lines = [n + 1 for n in range(3)] if suffix in (".jsonl", ".parquet") else [2, 3, 4]
    q1, q2, q3 = (f"q{line}" for line in lines)
    assert rows(dataset) == [
        (q1, "question", q1, "no login\nit says no"),
        (q2, "conversation", q2, "hello; æøå"),
        (q3, "question", q3, "only a title"),
    ]
    assert dataset.labels.rows() == [(q1, "a1", "train"), (q2, "a1", "train"), (q2, "a2", "train")]
    assert dataset.answers.select("id", "title", "text").rows() == [
        tuple(a.values()) for a in ANSWERS
    ]
    assert dataset.fingerprint == Dataset.load(tmp_path / "out").fingerprint
    (tmp_path / "cast").mkdir()
    assert imported(tmp_path / "cast", suffix=suffix, cast_below=11).types == ("question",)
    with pytest.raises(DataError, match=r"there is a file or a data set already; .*with --fresh"):
        imported(tmp_path, queries=QUERIES[:1])
    assert Dataset.load(tmp_path / "out").fingerprint == dataset.fingerprint


def test_columns_of_any_name_and_order(tmp_path):
    answers = [{"body text": "Press.", "no": 7, "heading": "Log in"}]
    queries = [{"what": "no login", "ticket": 70, "kind": "mail", "of": "t1", "solved by": "7"}]
    dataset = imported(
        tmp_path,
        answers=answers,
        queries=queries,
        columns=Columns.parse(
            [
                *("answer_id=no", "answer_title=heading", "answer_text=body text"),
                *("query_id=ticket", "query_text=what", "query_type=kind", "query_thread=of"),
                "query_answer=Solved-By",
            ]
        ),
    )
    assert rows(dataset) == [("70", "mail", "t1", "no login")]
    assert dataset.labels.rows() == [("70", "7", "train")]


def test_labels_of_their_own_table_with_scores_and_splits(tmp_path):
    queries = [{"id": i, "content": f"text {i}", "answer": "how I did it"} for i in range(3)]
    labels = [
        {"query-id": 0, "corpus-id": "a1", "score": 1, "split": "train"},
        {"query-id": 0, "corpus-id": "a2", "score": 2, "split": "train"},
        {"query-id": 1, "corpus-id": "a1", "score": 0, "split": "Dev"},
        {"query-id": 1, "corpus-id": "a2", "score": 1, "split": "val"},
        {"query-id": 2, "corpus-id": "a1", "score": 1, "split": "test"},
    ]
    dataset = imported(tmp_path, queries=queries, labels=labels)
    assert sorted(dataset.labels.rows()) == [
        ("0", "a1", "train"),
        ("0", "a2", "train"),
        ("1", "a2", "validation"),
        ("2", "a1", "test"),
    ]
    assert dataset.types == ("question",)
    assert dataset.judged_wrong == 1


@pytest.mark.parametrize("named", [["a1", "a2"], '["a1", "a2"]', "a1/a2", " a2 /a1/ /a1"])
def test_several_right_answers_in_a_list_or_with_separators(tmp_path, named):
    dataset = imported(
        tmp_path,
        queries=[{"id": "q", "text": "help", "answers": named}],
        columns=Columns(separator="/"),
    )
    assert set(dataset.labels["answer"]) == {"a1", "a2"}


SECTIONS = [{"title": "First", "text": "Press."}, {"title": "", "text": "Wait."}]


@pytest.mark.parametrize(
    ("suffix", "cell"),
    [
        (".jsonl", SECTIONS),
        (".parquet", SECTIONS),
        (".csv", json.dumps(SECTIONS)),
        (".jsonl", [{"title": "First", "content": "Press."}, {"title": None, "content": "Wait."}]),
    ],
)
def test_sections_in_a_list(tmp_path, suffix, cell):
    answers = [{"id": "a1", "title": "Log in", "sections": cell}]
    queries = [{"text": "help", "answer": "a1"}]
    dataset = imported(tmp_path, answers=answers, queries=queries, suffix=suffix)
    assert dataset.answers["text"].to_list() == ["First\nPress.\nWait."]
    assert dataset.answers["sections"].to_list() == [SECTIONS]


def test_sections_in_rows(tmp_path):
    parts = [
        ("a1", "Log in", "First", "Press."),
        ("a2", "Pay", "", "Pay."),
        ("a1", "", "", "Wait."),
    ]
    names = ("id", "title", "section", "text")
    answers = [dict(zip(names, part, strict=True)) for part in parts]
    queries = [{"text": "help", "answer": "a1"}]
    dataset = imported(tmp_path, answers=answers, queries=queries, suffix=".csv")
    assert dataset.answers.select("id", "title", "text").rows() == [
        ("a1", "Log in", "First\nPress.\nWait."),
        ("a2", "Pay", "Pay."),
    ]
    assert dataset.answers["sections"][0].to_list() == SECTIONS


def query(**changes):
    sound = {"id": "q9", "text": "t", "type": "x", "thread": "t9", "answer": "a1", "split": "train"}
    return {**sound, **changes}


QUERY_FAULTS = [
    ({"id": ""}, "empty or missing id"),
    ({"id": "q1"}, "id 'q1' stands on line 1 already"),
    ({"text": " "}, "empty or missing text"),
    ({"type": None}, "no type, though others have one"),
    ({"answer": "a9"}, "unknown answer id 'a9'"),
    ({"split": "training"}, "'training' is no split, and other rows have one"),
    ({"split": None}, "'' is no split"),
    ({"thread": "t1", "split": "test"}, "thread 't1' is judged in another split too"),
]


@pytest.mark.parametrize(("changes", "what"), QUERY_FAULTS)
def test_a_faulty_query_is_named_and_left_out_if_asked(tmp_path, caplog, changes, what):
    queries = [query(id="q1", thread="t1"), query(id="q2", thread="t2"), query(**changes)]
    [(name, line, why)] = faults_of(tmp_path, queries=queries)
    assert (name, line) == ("queries.jsonl", 3)
    assert why.startswith(what)
    dataset = imported(tmp_path, queries=queries, skip_faulty=True)
    its_label_alone = changes.keys() & {"answer", "split"}
    assert [row[0] for row in rows(dataset)] == ["q1", "q2", *(["q9"] if its_label_alone else [])]
    assert dataset.labels["query"].to_list() == ["q1", "q2"]
    assert "left out: 1, the first in line 3" in caplog.text


def test_what_is_wrong_without_end_leaves_nothing_to_import(tmp_path):
    with pytest.raises(DataError, match="missing text"):
        imported(tmp_path, queries=[query(text="")], skip_faulty=True)
    (tmp_path / "out").write_text("mine")
    with pytest.raises(DataError, match="there is a file or a data set already"):
        imported(tmp_path)
    with pytest.raises(ArgumentError, match="answers is None"):
        import_tables(tmp_path / "new", answers=None, queries=tmp_path / "q.csv")


@pytest.mark.parametrize("name", ["text", "type", "id", "answer"])
@pytest.mark.parametrize("cell", [["a", "b"], {"en": "x"}, [{"role": "user"}]])
def test_nested_values_are_no_text(tmp_path, name, cell):
    if name == "answer" and cell == ["a", "b"]:
        cell = [["a"]]
    [(file, line, what)] = faults_of(tmp_path, queries=[query(**{name: cell})])
    assert (file, line) == ("queries.jsonl", 1)
    assert what.endswith(("is a list, not text", "is an object, not text"))


@pytest.mark.parametrize("number", [2.0**53 + 2, math.inf])
def test_a_float_that_is_no_exact_id_is_refused(tmp_path, number):
    queries = pl.DataFrame({"id": [number], "text": ["t"], "answer": ["a1"]})
    [found] = faults_of(tmp_path, queries=queries, suffix=".parquet")
    assert found[1:] == (1, "_id is a number beyond what a float holds exactly, not text")


def test_all_faults_of_all_tables_come_at_once_in_order(tmp_path):
    """Lines of a CSV count line breaks in cells."""
    answers = [*ANSWERS, {"id": "a8", "title": "", "content": ""}]
    queries = [query(text=" \n ", answer="a9"), query(id="q8", type=None)]
    found = faults_of(tmp_path, answers=answers, queries=queries, suffix=".csv")
    assert [(name, line) for name, line, _ in found] == [
        ("answers.csv", 5),
        ("queries.csv", 2),
        ("queries.csv", 2),
        ("queries.csv", 4),
    ]


ANSWER_FAULTS = [
    ({"id": None}, "empty or missing id"),
    ({"id": "a1"}, "id 'a1' stands on line 1 already"),
    ({"title": "", "content": None}, "neither title nor text"),
    ({"sections": '{"title": "First"}'}, "sections is no list of sections"),
    ({"sections": "First"}, "sections is no list of sections"),
]


@pytest.mark.parametrize(("changes", "what"), ANSWER_FAULTS)
def test_a_faulty_answer_is_named_and_left_out_with_its_labels(tmp_path, caplog, changes, what):
    answers = [ANSWERS[0], {"id": "a2", "title": "Pay", "content": "Pay.", **changes}]
    queries = [query(), query(id="q8", answer=answers[1]["id"] or "a1")]
    assert faults_of(tmp_path, answers=answers, queries=queries) == [("answers.jsonl", 2, what)]
    dataset = imported(tmp_path, answers=answers, queries=queries, skip_faulty=True)
    assert dataset.answers["id"].to_list() == ["a1"]
    gone = queries[1]["answer"] == "a2"
    assert dataset.labels.height == 2 - gone
    assert ("judgements of rows that are left out fell away: 1" in caplog.text) == gone


LABEL_FAULTS = [
    ({"query": None}, "empty or missing query"),
    ({"query": "q7"}, "unknown query id 'q7'"),
    ({"answer": None}, "empty or missing answer"),
    ({"answer": "a7"}, "unknown answer id 'a7'"),
    ({"score": "much"}, "score 'much' is no number"),
    ({"score": "NaN"}, "score 'nan' is no number"),
    ({"score": "inf"}, "score 'inf' is no number"),
    (
        {"query": "q1", "answer": "a1", "score": "0"},
        "q1 and a1 are judged in line 1 already, 1",
    ),
    ({"query": "q1", "answer": "a1"}, "q1 and a1 are judged in line 1 already"),
]


@pytest.mark.parametrize(("changes", "what"), LABEL_FAULTS)
def test_a_faulty_label_is_named_and_left_out_if_asked(tmp_path, changes, what):
    queries = [{"id": "q1", "text": "t"}, {"id": "q2", "text": "t"}]
    labels = [
        {"query": "q1", "answer": "a1", "score": "1"},
        {"query": "q2", "answer": "a2", "score": "1", **changes},
    ]
    [(name, line, why)] = faults_of(tmp_path, queries=queries, labels=labels)
    assert (name, line) == ("labels.jsonl", 2)
    assert why.startswith(what)
    dataset = imported(tmp_path, queries=queries, labels=labels, skip_faulty=True)
    assert dataset.labels.rows() == [("q1", "a1", "train")]


FILE_FAULTS = [
    ("q.csv", b"id,text\n1,a\n2,b,c\n3,d\n", "3 fields, but the header has 2"),
    ("q.csv", b"id,text\n1,a\n2\n3,d\n", "1 fields, but the header has 2"),
    ("q.csv", "id,text\n1,å\n2,".encode() + b"\xff\n3,d\n", "the line is not UTF-8"),
    ("q.jsonl", b'{"id": 1, "text": "a"}\n\n{"id": 2\n{"id": 3, "text": "d"}', "not JSON"),
]


@pytest.mark.parametrize(("name", "content", "what"), FILE_FAULTS)
def test_a_line_that_breaks_is_named_and_other_rows_kept_if_asked(tmp_path, name, content, what):
    file = tmp_path / name
    file.write_bytes(content)
    answers = write(tmp_path / "answers.csv", ANSWERS)
    with pytest.raises(DataError) as caught:
        import_tables(tmp_path / "out", answers=answers, queries=file)
    fault = caught.value.faults[0]
    assert (fault.file, fault.line) == (file, 3)
    assert what in fault.what
    dataset = import_tables(tmp_path / "out", answers=answers, queries=file, skip_faulty=True)
    assert [row[0] for row in rows(dataset)] == ["1", "3"]


def test_scores_say_what_is_right_whatever_their_column_is_called(tmp_path):
    queries = [{"id": f"q{i}", "text": "t"} for i in range(6)]
    scores = ["1", "0", "true", "FALSE", "1.0", ""]
    for name in ("score", "relevance", "Rel", "grade"):
        labels = [{"query": f"q{i}", "answer": "a1", name: s} for i, s in enumerate(scores)]
        (tmp_path / name).mkdir()
        dataset = imported(tmp_path / name, queries=queries, labels=labels, suffix=".csv")
        assert dataset.labels["query"].to_list() == ["q0", "q2", "q4", "q5"]
        assert dataset.judged_wrong == 2


def test_bytes_of_parquet_are_read_as_text(tmp_path):
    answers = pl.DataFrame({"id": [b"a1"], "title": ["Å".encode()], "text": ["på".encode()]})
    queries = pl.DataFrame({"text": [b"kan ikke"], "answer": [b"a1"], "type": [b"chat"]})
    answers.write_parquet(tmp_path / "a.parquet")
    queries.write_parquet(tmp_path / "q.parquet")
    files = {"answers": tmp_path / "a.parquet", "queries": tmp_path / "q.parquet"}
    dataset = import_tables(tmp_path / "out", **files)
    assert dataset.answers.select("id", "title", "text").rows() == [("a1", "Å", "på")]
    assert rows(dataset) == [("q1", "chat", "q1", "kan ikke")]
    assert dataset.labels.height == 1
    answers.with_columns(text=pl.lit(b"\xff\xfe")).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet:1: text is bytes that are not UTF-8, not text"):
        import_tables(tmp_path / "bad", **files)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize("given", ["12.0", "12", " 12 ", 12.0, 12])
def test_ids_join_in_every_format(tmp_path, suffix, given):
    answers = [{"id": "12", "text": "Press."}]
    queries = [{"id": "q1", "text": "help", "answer": given}]
    dataset = imported(tmp_path, answers=answers, queries=queries, suffix=suffix)
    assert dataset.labels.rows() == [("q1", "12", "train")]


def test_texts_with_markup_are_counted(tmp_path):
    answers = [{"id": "a1", "text": "<p>Press &amp; wait</p>"}, {"id": "a2", "text": "a < b > c"}]
    queries = [query(text="it says<br>no")]
    dataset = imported(tmp_path, answers=answers, queries=queries, keep_markup=True)
    described = describe(dataset)
    assert described.markup == {"answers": 1, "queries": 1}
    text = "1 answers hold HTML, whose tags are read as words"
    assert any(warning.startswith(text) for warning in described.warnings)


COLUMN_FAULTS = [
    (
        {},
        {"subject": "a", "mail": "b"},
        "no column fits query_text or query_title; the columns are",
    ),
    ({"query_thread": "ticket"}, query(), "no column ticket; the columns are id, text, type, thr"),
    ({"answer_id": "number"}, query(), "no column number; the columns are id, title, content"),
    (
        {},
        {"text": "a", "answer": "b", "answer_id": "a1"},
        "answer and answer_id could both be query",
    ),
]


@pytest.mark.parametrize(("columns", "row", "what"), COLUMN_FAULTS)
def test_a_column_that_cannot_be_found_is_named(tmp_path, columns, row, what):
    [found] = faults_of(tmp_path, queries=[row], columns=Columns(**columns))
    assert found[2].startswith(what)


ITEM_FAULTS = [
    (["anser_id=Article no"], "no field is called 'anser_id'; did you mean answer_id? Write FIELD"),
    (["Query Text=b"], "did you mean query_text?"),
    (["zzz=b"], "no field is called 'zzz'; Write FIELD=NAME, FIELD one of answer_id, answer_t"),
    (["Article no=answer_id"], "no field is called 'Article no'; write answer_id=Article no."),
    (["query_text"], "names no column; write query_text=NAME"),
    (["query_text="], "names no column; write query_text=NAME"),
    (["query_text=a", "query_text=b"], "query_text is 'a' already; give it once, as query_text="),
]


@pytest.mark.parametrize(("items", "what"), ITEM_FAULTS)
def test_columns_that_cannot_be_are_refused(items, what):
    with pytest.raises(TwinrankError) as caught:
        Columns.parse(["answer_url=Link", *items])
    assert str(caught.value).startswith(f"column {items[-1]!r}: ")
    assert what in str(caught.value)
    assert "Link" not in str(caught.value)


TEXTS = [  # and the type that they are by their form
    ("User: it says no\nAgent: when?", "conversation"),
    ("Customer: it says no", "conversation"),
    ("Agent: hello\nKunde: hej", "conversation"),
    ("System: Windows 11\nit says no", "question"),
    ("it says no\nUser: me", "question"),
    ("Users: how many?", "question"),
]


def test_without_a_column_the_form_of_a_text_says_its_type(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    queries = [{"title": "no login", "text": text, "answer": "a1"} for text, _ in TEXTS]
    dataset = imported(tmp_path, queries=queries)
    assert dataset.queries["type"].to_list() == [kind for _, kind in TEXTS]
    types = "queries.jsonl: no column of types: 3 conversations, by their turns"
    threads = "queries.jsonl: no column of threads: each row is a thread of its own"
    assert types in caplog.text
    assert threads in caplog.text
    caplog.clear()
    in_metadata = {**queries[0], "metadata": {"type": "x", "thread": "t9"}}
    for name, row in {"columns": query(text=TEXTS[0][0]), "metadata": in_metadata}.items():
        (tmp_path / name).mkdir()
        dataset = imported(tmp_path / name, queries=[row])
        assert dataset.queries.select("type", "thread").rows() == [("x", "t9")]
    assert "no column of" not in caplog.text


def test_urls_of_answers_whose_column_is_not_read_are_asked_for(tmp_path):
    named = [query(answer="https://help.example/a1")]
    with pytest.raises(DataError, match="name the column of its URL by --column answer_url=NAME"):
        imported(tmp_path, answers=[{**ANSWERS[0], "Link": named[0]["answer"]}], queries=named)
    with pytest.raises(DataError, match=r"add the answer to [^,]*$"):
        imported(tmp_path, answers=[{**ANSWERS[0], "url": "/a2"}], queries=named)


def test_missing_files_are_named_before_anything_is_read(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    answers = write(tmp_path / "answers.csv", [{"number": 1, "name": "x"}])
    missing = {name: tmp_path / f"{name}.csv" for name in ("queries", "labels")}
    with pytest.raises(DataError) as caught:
        import_tables(tmp_path / "out", answers=answers, **missing)
    assert [fault.file for fault in caught.value.faults] == list(missing.values())
    with pytest.raises(DataError, match=r"a.json: missing.*\n.*queries.csv: missing"):
        import_exports(tmp_path / "out", ["a.json"], source="zendesk", queries=missing["queries"])
    assert not caplog.text


def test_what_is_kept_is_not_said_where_a_column_is_missing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    faults_of(tmp_path, answers=[{"number": 1, "text": "x"}], queries=[query(brand="b")])
    assert not caplog.text


def test_fresh_replaces_a_data_set_once_the_new_one_is_whole(tmp_path, monkeypatch):
    former = imported(tmp_path, queries=[query(split="test")])
    fresh = {"queries": [query(text="new")], "fresh": True}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Dataset, "save_labels", interrupt)
        imported(tmp_path, **fresh)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert Dataset.load(tmp_path / "out").fingerprint == former.fingerprint
    dataset = imported(tmp_path, **fresh)
    assert dataset.queries["text"].to_list() == ["new"]
    assert Dataset.load(tmp_path / "out").fingerprint == dataset.fingerprint
    assert sorted(file.name for file in tmp_path.iterdir()) == files


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_failed_rename_leaves_the_former_data_set(tmp_path, monkeypatch):
    former = imported(tmp_path, queries=[query()])
    rename = Path.rename

    def fail(path, target):
        if target == tmp_path / "out" and ".former" not in path.name:
            raise PermissionError(13, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="out"):
        imported(tmp_path, queries=[query(text="new")], fresh=True)
    assert Dataset.load(tmp_path / "out").fingerprint == former.fingerprint
    assert len([*tmp_path.iterdir()]) == 3


@pytest.mark.parametrize("name", ["notes.txt", "qrels/dev.tsv", "model-replies.jsonl"])
def test_fresh_replaces_no_folder_with_anything_else(tmp_path, name):
    former = imported(tmp_path, queries=[query()])
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(DataError, match=f"{name} is no part of a data set that import writes"):
        imported(tmp_path, queries=[query(text="new")], fresh=True)
    (tmp_path / "out" / name).rename(tmp_path / "mine.txt")
    assert Dataset.load(tmp_path / "out").fingerprint == former.fingerprint
    (tmp_path / "out" / "queries.jsonl").unlink()  # as a kill could leave it before
    (tmp_path / "out" / ".queries.jsonl.0.tmp").touch()
    assert imported(tmp_path, queries=[query()], fresh=True).fingerprint == former.fingerprint


def test_a_first_import_that_is_cut_off_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Dataset, "save_labels", interrupt)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path)
    assert not (tmp_path / "out").exists()


def test_columns_that_no_field_reads_are_kept_and_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    answers = [{**ANSWERS[0], "locale": "da", "tags": "", "metadata": '{"brand": "b", "url": "u"}'}]
    queries = [{"text": "t", "ticket type": "x", "answr": "a", "metadata": '{"thread": "t7"}'}]
    dataset = imported(tmp_path, answers=answers, queries=queries, suffix=".csv")
    assert dataset.answers.select("url", "metadata").row(0) == (
        "u",
        '{"brand": "b", "locale": "da"}',
    )
    [row] = dataset.queries.rows(named=True)
    assert row["thread"] == "t7"
    assert json.loads(row["metadata"]) == {"ticket type": "x", "answr": "a"}
    text = "columns kept in metadata: ticket type, answr, metadata; read one by --column FIELD=NAME"
    assert text in caplog.text


def test_a_column_that_stands_several_times_holds_several_values(tmp_path):
    (tmp_path / "q.csv").write_text("text,answer,answer\nhelp,a1,a2\nme,a2,\n")
    answers = write(tmp_path / "a.csv", ANSWERS)
    dataset = import_tables(tmp_path / "out", answers=answers, queries=tmp_path / "q.csv")
    assert dataset.labels.select("query", "answer").rows() == [
        ("q2", "a1"),
        ("q2", "a2"),
        ("q3", "a2"),
    ]


def test_splits_threads_and_long_texts_are_taken_as_they_are(tmp_path):
    """A label has the split of its query; the limit of a cell is the largest on every system."""
    queries = [
        query(id="q1", thread="007", split="Dev", text="long " * 60_000),
        query(id="q2", thread="8.0", split="test"),
    ]
    dataset = imported(tmp_path, queries=queries, suffix=".csv")
    assert [len(text) for text in dataset.queries["text"]] == [299_999, 1]
    assert dataset.queries["thread"].to_list() == ["007", "8"]
    assert dataset.labels["split"].to_list() == ["validation", "test"]
