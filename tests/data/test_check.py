import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.test_dataset import CORPUS, QUERIES, write
from twinrank.data import Dataset
from twinrank.errors import DataError

TRAIN = [("q1", "a1", 1), ("q2", "a2", 1)]
TEST = [("q3", "a3", 1)]


def sound(path):
    return write(path / "data", CORPUS, QUERIES, train=TRAIN, test=TEST)


def faults_after(path, change) -> list[str]:
    folder = sound(path)
    change(folder)
    with pytest.raises(DataError) as caught:
        Dataset.load(folder)
    return [str(fault).removeprefix(f"{folder}/") for fault in caught.value.faults]


def line(file, number, text):
    """Replace a line (from 1), or append one beyond the last."""

    def change(folder):
        lines = (folder / file).read_bytes().splitlines()
        raw = text if isinstance(text, bytes) else text.encode()
        lines[number - 1 : number] = [raw]
        (folder / file).write_bytes(b"\n".join(lines) + b"\n")

    return change


def row(**fields):
    return json.dumps(fields)


C, Q, TR, TE = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"
FAULTS = {
    "broken JSON": (C, 2, '{"_id": "a2"', "the line is not JSON"),
    "not an object": (Q, 2, "[1]", "the line is not a JSON object"),
    "null line": (Q, 2, "null", "the line is not a JSON object"),
    "NaN": (Q, 2, '{"_id": "q2", "text": NaN}', "the line is not JSON"),
    "not UTF-8": (Q, 2, b'{"_id": "q2", "text": "\xff"}', "not UTF-8"),
    "byte order mark": (Q, 1, b"\xef\xbb\xbf" + row(_id="q1", text="x").encode(), "byte order"),
    "no id": (C, 2, row(title="x"), "empty or missing _id"),
    "empty id": (Q, 4, row(_id=" ", text="x"), "empty or missing _id"),
    "id is a list": (C, 2, row(_id=["a2"], title="x"), "_id is a JSON array, not text"),
    "duplicate answer": (C, 3, row(_id="a1", title="x"), "id 'a1' stands on line 1 already"),
    "duplicate query": (Q, 4, row(_id="q1", text="x"), "id 'q1' stands on line 1 already"),
    "empty text": (Q, 2, row(_id="q2", text=" \n"), "empty or missing text"),
    "no text": (Q, 2, row(_id="q2"), "empty or missing text"),
    "text is an object": (Q, 2, row(_id="q2", text={"a": 1}), "text is a JSON object, not text"),
    "half a character": (Q, 2, r'{"_id": "q2", "text": "x\ud800y"}', "half a character"),
    "nothing to read": (C, 2, row(_id="a2", title=" ", text=""), "neither title nor text"),
    "metadata is text": (Q, 2, row(_id="q2", text="x", metadata="y"), "metadata is a JSON string"),
    "metadata is a list": (C, 2, row(_id="a2", text="x", metadata=[1]), "metadata is a JSON array"),
    "type is a list": (Q, 2, row(_id="q2", text="x", metadata={"type": ["a"]}), "type is a JSON"),
    "empty type": (Q, 2, row(_id="q2", text="x", metadata={"type": ""}), "empty metadata.type"),
    "sections are text": (C, 2, row(_id="a2", text="x", metadata={"sections": "y"}), "sections"),
    "sections of text": (C, 2, row(_id="a2", text="x", metadata={"sections": ["y"]}), "sections"),
    "no header": (TR, 1, "q1\ta1\t1", "no header"),
    "two columns": (TR, 2, "q1\ta1", "2 columns instead of 3"),
    "four columns": (TR, 2, "q1\ta1\t1\t1", "4 columns instead of 3"),
    "odd score": (TR, 2, "q1\ta1\tyes", "score 'yes' is no whole number"),
    "unknown query": (TR, 2, "q9\ta1\t1", "unknown query id 'q9'"),
    "unknown answer": (TR, 2, "q1\ta9\t1", "unknown answer id 'a9'"),
    "pair twice": (TR, 3, "q1\ta1\t1", "the same pair as line 2"),
    "query in two splits": (TE, 2, "q1\ta3\t1", "thread 't1' is judged in another split too"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_is_named_by_file_and_line(tmp_path, name):
    file, number, text, what = FAULTS[name]
    faults = faults_after(tmp_path, line(file, number, text))
    assert any(fault.startswith(f"{file}:{number}: ") and what in fault for fault in faults), faults
    assert all("; " in fault for fault in faults)  # each with its mend


@given(
    name=st.sampled_from(sorted(FAULTS)),
    blank=st.integers(0, 3),
)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_lines_are_counted_as_an_editor_does(tmp_path, name, blank):
    file, number, text, _ = FAULTS[name]
    if number == 1:
        return

    def change(folder):
        line(file, number, text)(folder)
        lines = (folder / file).read_bytes().splitlines()
        lines[1:1] = [b""] * blank
        (folder / file).write_bytes(b"\n".join(lines))

    faults = faults_after(tmp_path, change)
    assert any(f.startswith(f"{file}:{number + blank}: ") for f in faults), faults


def test_all_faults_of_all_files_at_once(tmp_path):
    def change(folder):
        line(C, 2, "{")(folder)
        line(Q, 2, row(_id="q2", text=""))(folder)
        line(Q, 3, "nonsense")(folder)
        line(TR, 2, "q7\ta1\t1")(folder)

    places = [fault.split(": ")[0] for fault in faults_after(tmp_path, change)]
    assert {f"{C}:2", f"{Q}:2", f"{Q}:3", f"{TR}:2"} <= set(places)


@pytest.mark.parametrize("file", [C, Q])
def test_a_missing_file(tmp_path, file):
    faults = faults_after(tmp_path, lambda folder: (folder / file).unlink())
    assert faults[0].startswith(f"{file}: missing")


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        Dataset.load(tmp_path / "nowhere")


def test_an_empty_corpus(tmp_path):
    faults = faults_after(tmp_path, lambda folder: (folder / C).write_text(""))
    assert faults[0].startswith(f"{C}: holds no answer")


def test_a_split_without_labels(tmp_path):
    faults = faults_after(tmp_path, line(TE, 2, "q3\ta3\t0"))
    assert faults == [
        f"{TE}: holds no label with a score above zero; label some queries, or delete the file"
    ]


def test_both_names_of_the_validation_split(tmp_path):
    def change(folder):
        for name in ("dev", "validation"):
            (folder / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\nq4\ta1\t1\n")

    assert any("validation.tsv is there too" in fault for fault in faults_after(tmp_path, change))


def test_a_thread_in_two_splits_names_both_lines(tmp_path):
    queries = [*QUERIES, {"_id": "q5", "text": "x", "metadata": {"thread": "t1"}}]
    folder = write(tmp_path / "d", CORPUS, queries, train=TRAIN, test=[*TEST, ("q5", "a1", 1)])
    with pytest.raises(DataError, match=r"test.tsv:3: thread 't1' .*\(train.tsv:2\)"):
        Dataset.load(folder)


def test_brackets_in_texts_are_no_fault(tmp_path):
    queries = [{"_id": "q1", "text": "[solved] {help}"}, *QUERIES[1:]]
    folder = write(tmp_path / "d", CORPUS, queries, train=[("q1", "a1", 1)])
    assert Dataset.load(folder).split("train").texts == ["[solved] {help}"]


def test_numbers_as_ids_are_read_as_text(tmp_path):
    corpus, queries = [{"_id": 7, "title": "x"}], [{"_id": 12, "text": "y"}]
    folder = write(tmp_path / "d", corpus, queries, train=[(12, 7, 1)])
    assert Dataset.load(folder).split("train").frame["id"].to_list() == ["12"]
