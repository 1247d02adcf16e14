import json
from dataclasses import replace

import polars as pl
import pytest

from twinrank.data import Dataset
from twinrank.data.texts import answer_texts
from twinrank.errors import DataError


def write(path, corpus, queries, **qrels):
    (path / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in {"corpus": corpus, "queries": queries}.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, pairs in qrels.items():
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, pair)) for pair in pairs)]
        (path / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return path


CORPUS = [
    {"_id": "a1", "title": "Reset", "text": "Press it."},
    {"_id": "a2", "title": "Why?", "text": "Because."},
    {"_id": "a3", "title": "", "text": "No title."},
]
QUERIES = [
    {"_id": "q1", "text": "one", "metadata": {"type": "chat", "thread": "t1"}},
    {"_id": "q2", "text": "two", "metadata": {"type": "mail", "thread": "t1"}},
    {"_id": "q3", "text": "three"},
    {"_id": "q4", "text": "four", "metadata": {"other": [1]}},
]


@pytest.fixture
def folder(tmp_path):
    train = [("q1", "a1", 1), ("q1", "a3", 2), ("q2", "a1", 1), ("q2", "a2", 0)]
    return write(tmp_path / "small", CORPUS, QUERIES, train=train, dev=[("q3", "a2", 1)])


GRADED = {
    "train": [("q1", "a3", 2), ("q1", "a1", 1), ("q2", "a2", 0), ("q9", "a1", 1)],
    "test": [("q3", "a1", 3), ("q3", "a2", -1)],
}


@pytest.fixture
def graded(tmp_path):
    """Grades, judgements of zero, unknown fields, rows that cannot be used."""
    corpus = [
        {"title": "First", "_id": "a1", "text": "One.", "metadata": {"owner": {"team": 1.50}}},
        {"_id": "a2", "title": "Second", "text": "Two.", "lang": None},
        {"_id": "empty", "title": "", "text": ""},
        {"_id": "a3", "title": "Third", "text": "Three.", "metadata": {"url": "u", "tags": []}},
    ]
    queries = [
        {"text": "one", "_id": "q1", "metadata": {"at": "2026-01-01", "type": "chat"}},
        {"_id": "q2", "text": "two", "metadata": {"type": "mail", "thread": 7.0, "x": "\u2028"}},
        {"_id": "q3", "text": "three", "extra": [1, {"deep": True}], "title": "not of a query"},
    ]
    return write(tmp_path / "graded", corpus, queries, **GRADED)


def contents(folder):
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {f"{file.relative_to(folder)}": file.read_bytes() for file in files}


METADATA = {
    "a1": {"owner": {"team": 1.5}},
    "a2": {"lang": None},
    "a3": {"tags": []},
    "q1": {"at": "2026-01-01"},
    "q2": {"x": "\u2028"},
    "q3": {"extra": [1, {"deep": True}], "title": "not of a query"},
}


def metadata_of(dataset):
    rows = [*dataset.answers.rows(named=True), *dataset.queries.rows(named=True)]
    return {row["id"]: json.loads(row["metadata"]) for row in rows}


@pytest.mark.parametrize("in_place", [True, False])
def test_a_round_trip_loses_nothing_but_what_was_left_out(graded, tmp_path, in_place, caplog):
    dataset = Dataset.load(graded)
    assert metadata_of(dataset) == METADATA
    out = graded if in_place else tmp_path / "copy"
    dataset.save(out)
    assert "written without the rows that were left out" in caplog.text
    again = Dataset.load(out, strict=True)
    assert again.fingerprint == dataset.fingerprint
    for name in ("answers", "judgements", "labels"):
        assert getattr(again, name).equals(getattr(dataset, name))
    assert again.queries.equals(dataset.queries)
    files = contents(out)
    again.save(out)
    assert contents(out) == files


def test_dividing_in_place_keeps_grades_and_all_fields(graded):
    dataset = Dataset.load(graded)
    cast = dataset.queries.with_columns(type=pl.lit("question"))
    moved = dataset.labels.with_columns(split=pl.lit("validation"))
    replace(dataset, queries=cast, labels=moved).save(graded)
    again = Dataset.load(graded)
    assert metadata_of(again) == METADATA
    assert again.types == ("question",)
    assert again.queries["thread"].to_list() == ["q1", "7", "q3"]
    judged = {
        ("q1", "a1"): (1.0, "validation"),
        ("q1", "a3"): (2.0, "validation"),
        ("q2", "a2"): (0.0, "train"),  # its thread has no label: it stays where it was
        ("q3", "a1"): (3.0, "validation"),
        ("q3", "a2"): (-1.0, "validation"),
    }
    assert {(q, a): (score, split) for q, a, score, split in again.judgements.rows()} == judged


@pytest.mark.parametrize(
    ("record", "url", "rest"),
    [
        ({"url": "u", "lang": "da"}, "u", {"lang": "da"}),
        ({"url": "u", "metadata": {"url": "v", "lang": "da"}}, "v", {"lang": "da"}),
        ({"lang": "en", "metadata": {"lang": "da"}}, None, {"lang": "da"}),
        (
            {"metadata": {"title": "x", "metadata": {"y": 1}}},
            None,
            {"title": "x", "metadata": {"y": 1}},
        ),
        (
            {"metadata": {"price": float("nan"), "a": [float("inf")]}},
            None,
            {"price": None, "a": [None]},
        ),
        ({"metadata": None}, None, {}),
    ],
)
def test_fields_stand_beside_metadata_or_in_it(tmp_path, record, url, rest):
    folder = write(tmp_path / "d", [{"_id": "a", "text": "x", **record}], QUERIES)
    dataset = Dataset.load(folder)
    assert dataset.answers.select("url", "metadata").row(0) == (
        url,
        json.dumps(rest, sort_keys=True),
    )
    dataset.save(folder)
    assert Dataset.load(folder).answers.equals(dataset.answers)


def test_the_fingerprint_leaves_metadata_out(tmp_path):
    plain, with_fields = (
        [{**row, "metadata": fields} for row in QUERIES] for fields in ({}, {"x": 1})
    )
    first = Dataset.load(write(tmp_path / "a", CORPUS, plain))
    other = Dataset.load(write(tmp_path / "b", CORPUS, with_fields))
    assert not first.queries.equals(other.queries)
    assert first.fingerprint == other.fingerprint


def test_odd_ids_and_repeated_loading_and_saving_lose_nothing(tmp_path):
    ids = ["a\tb", "c\nd", 'e"f', "g;h", "\u0130", "#", "7.5"]
    corpus = [{"_id": name, "title": "x"} for name in ids]
    queries = [{"_id": f"q{name}", "text": "y\0z"} for name in ids]
    pairs = [(f"q{name}", name, "train") for name in ids]
    folder = write(tmp_path / "odd", corpus, queries)
    labels = pl.DataFrame(pairs, schema=["query", "answer", "split"], orient="row")
    replace(Dataset.load(folder), labels=labels).save(folder)
    assert Dataset.load(folder).labels.rows() == pairs


def test_labels_that_were_taken_away_are_not_saved(graded, tmp_path):
    dataset = Dataset.load(graded)
    replace(dataset, labels=dataset.labels.filter(pl.col("answer") != "a3")).save(tmp_path / "few")
    few = Dataset.load(tmp_path / "few")
    assert few.labels.rows() == [("q1", "a1", "train"), ("q3", "a1", "test")]
    assert few.judged_wrong == 2


def test_saved_over_itself_it_keeps_other_files_and_drops_old_splits(folder):
    (folder / "README.md").write_text("mine")
    dataset = Dataset.load(folder)
    fingerprint = dataset.fingerprint
    dataset.save(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert sorted(f.name for f in (folder / "qrels").iterdir()) == ["train.tsv", "validation.tsv"]
    assert Dataset.load(folder).fingerprint == fingerprint


@pytest.mark.parametrize("what", ["text", "type", "label", "title"])
def test_the_fingerprint_tells_contents_apart(folder, tmp_path, what):
    corpus, queries = json.loads(json.dumps([CORPUS, QUERIES]))
    label = ("q1", "a1", 1)
    if what == "text":
        queries[0]["text"] = "uno"
    elif what == "type":
        queries[0]["metadata"]["type"] = "mail"
    elif what == "title":
        corpus[0]["title"] = "Reset it"
    else:
        label = ("q1", "a2", 1)
    train = [label, ("q1", "a3", 2), ("q2", "a1", 1)]
    other = write(tmp_path / "o", corpus, queries, train=train, dev=[("q3", "a2", 1)])
    assert Dataset.load(other).fingerprint != Dataset.load(folder).fingerprint


def test_the_encoder_reads_title_and_text():
    answers = pl.DataFrame(
        {"title": ["Reset", "Why?", "", "Alone "], "text": ["Press it.", "Because.", "Text", ""]}
    )
    assert answer_texts(answers) == ["Reset. Press it.", "Why? Because.", "Text", "Alone"]


def test_it_reads_beir_as_it_is(folder):
    """Several right answers, in the order of the answers; one type, and a thread a query."""
    dataset = Dataset.load(folder.rename(folder.with_name("a[1]*")))
    train, validation = dataset.split("train"), dataset.split("validation").frame
    assert train.frame["id"].to_list() == ["q1", "q2"]
    assert train.texts == ["one", "two"]
    assert train.labels.toarray().tolist() == [[1, 0, 1], [1, 0, 0]]
    assert validation.select("type", "thread").row(0) == ("query", "q3")
    assert dataset.types == ("chat", "mail", "query")
    assert dataset.judged_wrong == 1
    counts = {"train": {"chat": 1, "mail": 1}, "validation": {"query": 1}}
    assert dataset.labelled() == counts
    assert dataset.select(pl.Series(["q4", "q1"])).labels.toarray().tolist() == [[1, 0, 1], [0] * 3]
    with pytest.raises(DataError, match=r"no labels; this data set has train, validation"):
        dataset.split("test")


def query(name, thread, kind="chat"):
    return {"_id": name, "text": f"about {name}", "metadata": {"type": kind, "thread": thread}}


@pytest.fixture
def held_out(tmp_path):
    """Every way a query can stand to the splits, by the name of its thread."""
    queries = [
        query("train-1", "train"),
        query("train-2", "train", "mail"),
        query("half-1", "half"),
        query("half-2", "half", "mail"),
        query("free-1", "free"),
        query("free-2", "free", "mail"),
        query("test-1", "test"),
        query("test-2", "test", "mail"),
        query("valid-1", "valid"),
    ]
    labels = {
        "train": [("train-1", "a1", 1), ("train-2", "a1", 1), ("half-1", "a2", 1)],
        "test": [("test-1", "a1", 1)],
        "validation": [("valid-1", "a1", 1)],
    }
    return write(tmp_path / "held-out", CORPUS, queries, **labels)


def test_pretraining_sees_train_and_unlabelled_queries_alone(held_out):
    """Not test-2 either: unlabelled, but of a thread that the test split asks about."""
    seen = Dataset.load(held_out).for_pretraining()
    train, free = ["train-1", "train-2", "half-1", "half-2"], ["free-1", "free-2"]
    assert seen.frame["id"].to_list() == [*train, *free]
    assert seen.labels.toarray().tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], *[[0, 0, 0]] * 3]


def test_fewer_labels_are_nested_by_thread_and_leave_the_queries(help_centre):
    shares = [0.1, 0.3, 1.0]
    fewer = [help_centre.fewer_labels(share, seed=4) for share in shares]
    threads = [set(data.split("train").frame["thread"]) for data in fewer]
    assert threads[0] < threads[1] < threads[2]
    assert [round(len(t) / len(threads[2]), 1) for t in threads] == shares
    assert fewer[2].fingerprint == help_centre.fingerprint != fewer[0].fingerprint
    for data in fewer:
        assert data.split("test").frame.equals(help_centre.split("test").frame)
        assert len(data.for_pretraining()) == len(help_centre.for_pretraining())
    assert set(help_centre.fewer_labels(0.1, seed=5).split("train").frame["thread"]) != threads[0]


def test_fewer_labels_of_one_type_leave_the_rest_whole(help_centre):
    fewer = help_centre.fewer_labels(0.2, kind="question").labelled()["train"]
    whole = help_centre.labelled()["train"]
    assert fewer["conversation"] == whole["conversation"]
    assert 0 < fewer["question"] < 0.3 * whole["question"]
