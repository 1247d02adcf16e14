import json
import pickle
import re
from pathlib import Path

import pytest

from tests.data.test_dataset import CORPUS, QUERIES, write
from twinrank.data import Dataset
from twinrank.data.records import read_texts
from twinrank.errors import DataError, Fault, TwinrankError

TRAIN = [("q1", "a1", 1), ("q2", "a2", 1)]
TEST = [("q3", "a3", 1)]


def sound(path):
    return write(path / "data", CORPUS, QUERIES, train=TRAIN, test=TEST)


def faults_after(path, change) -> list[str]:
    folder = sound(path)
    change(folder)
    with pytest.raises(DataError) as caught:
        Dataset.load(folder, strict=True)
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
    "not UTF-8": (Q, 2, b'{"_id": "q2", "text": "\xff"}', "not UTF-8"),
    "no id": (C, 2, row(title="x"), "empty or missing id"),
    "empty id": (Q, 4, row(_id=" ", text="x"), "empty or missing id"),
    "id is a list": (C, 2, row(_id=["a2"], title="x"), "_id is a list, not text"),
    "duplicate answer": (C, 3, row(_id="a1", title="x"), "id 'a1' stands on line 1 already"),
    "duplicate query": (Q, 4, row(_id="q1", text="x"), "id 'q1' stands on line 1 already"),
    "text is an object": (Q, 2, row(_id="q2", text={"a": 1}), "text is an object, not text"),
    "half a character": (Q, 2, r'{"_id": "q2", "text": "x\ud800y"}', "half a character"),
    "metadata is text": (Q, 2, row(_id="q2", text="x", metadata="y"), "metadata is not an object"),
    "type is a list": (Q, 2, row(_id="q2", text="x", metadata={"type": ["a"]}), "type is a list"),
    "sections are text": (C, 2, row(_id="a2", text="x", metadata={"sections": "y"}), "sections"),
    "sections of numbers": (C, 2, row(_id="a2", text="x", metadata={"sections": [1]}), "sections"),
    "two columns": (TR, 2, "q1\ta1", "2 fields, but the header has 3"),
    "four columns": (TR, 2, "q1\ta1\t1\t1", "4 fields, but the header has 3"),
    "odd score": (TR, 2, "q1\ta1\tyes", "score 'yes' is no number"),
    "score nan": (TR, 2, "q1\ta1\tnan", "score 'nan' is no number"),
    "huge score": (TR, 2, "q1\ta1\t99999999999999999999", "is no number that can be a grade"),
    "empty score": (TR, 2, "q1\ta1\t", "score '' is no number"),
    "no answer": (TR, 2, "q1\t\t1", "empty or missing answer"),
    "two grades of a pair": (TR, 3, "q1\ta1\t2", "q1 and a1 are judged in line 2 already, 1 there"),
    "query in two splits": (TE, 2, "q1\ta3\t1", "thread 't1' is judged in another split too"),
}
LEFT_OUT = {  # of which the rest can be used
    "empty text": (Q, 4, row(_id="q4", text=" \n"), "empty or missing text"),
    "no text": (Q, 4, '{"_id": "q4", "text": NaN}', "empty or missing text"),
    "nothing to read": (C, 4, row(_id="a4", title=" ", text=""), "neither title nor"),
    "an answer again": (C, 4, row(_id="a1", title="Reset", text="Press it."), "stands"),
    "unknown query": (TR, 4, "q9\ta1\t1", "unknown query id 'q9'"),
    "unknown answer": (TR, 4, "q1\ta9\t1", "unknown answer id 'a9'"),
    "pair twice": (TR, 4, "q1\ta1\t1", "q1 and a1 are judged in line 2"),
}


@pytest.mark.parametrize("name", [*FAULTS, *LEFT_OUT])
@pytest.mark.parametrize("blank", [0, 3])
def test_one_fault_is_named_by_file_and_line_as_an_editor_counts(tmp_path, name, blank):
    file, number, text, what = (FAULTS | LEFT_OUT)[name]
    blank = blank if number > 1 else 0

    def change(folder):
        line(file, number, text)(folder)
        lines = (folder / file).read_bytes().splitlines()
        lines[1:1] = [b""] * blank
        (folder / file).write_bytes(b"\n".join(lines))

    faults = faults_after(tmp_path, change)
    named = re.sub(r"line (\d)", lambda match: f"line {int(match[1]) + blank}", what)
    places = [fault for fault in faults if fault.startswith(f"{file}:{number + blank}: ")]
    assert any(what in fault or named in fault for fault in places), faults
    assert all("; " in fault for fault in faults)  # each with its mend


def test_all_faults_of_all_files_at_once_without_those_that_follow(tmp_path):
    """Labels of an answer that could not be read, or is faulty itself, are not at fault."""

    def change(folder):
        line(C, 2, "{")(folder)
        line(Q, 2, row(_id="q2", text=""))(folder)
        line(Q, 3, "nonsense")(folder)
        line(TR, 2, "q1\ta1\tmuch")(folder)

    places = [fault.split(": ")[0] for fault in faults_after(tmp_path, change)]
    assert places == [f"{C}:2", f"{Q}:2", f"{Q}:3", f"{TR}:2"]


def test_a_file_called_qrels_is_not_read(tmp_path):
    folder = sound(tmp_path)
    (folder / "qrels").rename(folder / "x")
    (folder / "qrels").write_text("")
    (sentence,) = Dataset.load(folder).left_out
    assert sentence.startswith(f"{folder / 'qrels'}: not read: no split is called so")


def test_a_column_that_is_lost_is_named(tmp_path, caplog):
    file = sound(tmp_path) / TR
    file.write_text(file.read_text().replace("\n", "\tnote\n"))
    assert Dataset.load(tmp_path / "data").labels.height == 3
    assert "columns not read, and not saved: note" in caplog.text


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(DataError, match="no such folder"):
            Dataset.load(tmp_path / name)
    for given_path in (None, ""):
        with pytest.raises(TwinrankError, match="give a path, as text"):
            Dataset.load(given_path)


def test_many_faults_of_a_kind_do_not_bury_the_rest(tmp_path):
    folder = sound(tmp_path)
    bad = [row(_id=f"b{i}", title=[]) for i in range(30)]
    (folder / C).write_text("\n".join([row(_id="a1", title="x"), *bad]) + "\n")
    line(TE, 2, "q3\ta1\tmuch")(folder)
    with pytest.raises(DataError) as caught:
        Dataset.load(folder)
    lines = str(caught.value).splitlines()
    assert len(lines) == 7  # with that of the other file, where nothing can be used
    assert "27 more like these, in lines 5, 6, 7" in lines[3]
    assert lines[4].endswith(
        "more lines are faulty (30) than can be used (1); mend the lines above"
    )
    assert "score 'much'" in lines[5]


def test_invisible_characters_are_shown(tmp_path):
    folder = sound(tmp_path)
    line(TR, 2, "q1\u200bx\ta\xa01\t1")(folder)
    with pytest.raises(DataError, match=r"unknown query id 'q1\\u200bx'") as caught:
        Dataset.load(folder, strict=True)
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("given", "named", "means"),
    [
        ("7", "7", "7"),
        ("7.0", "7.0", "7"),
        ("7.0", "7", "7"),
        ("7", "7.0", "7"),
        ("1e2", "100", "100"),
        ('"1e2"', "1e2", "1e2"),
        ('"7.0"', "7", "7"),
        ('"a7"', " a7\xa0", "a7"),
        ("12345678901234567890", "12345678901234567890", "12345678901234567890"),
    ],
)
def test_ids_join_whatever_program_wrote_them(tmp_path, given, named, means):
    folder = write(tmp_path / "d", [], [{"_id": "q", "text": "y"}], train=[("q", named, 1)])
    (folder / C).write_text(f'{{"_id": {given}, "title": "x"}}\n')
    dataset = Dataset.load(folder)
    assert dataset.answers["id"].to_list() == [means]
    assert dataset.labels.rows() == [("q", means, "train")]
    assert dataset.split("train").labels.nnz == 1


def faults_of_texts(file):
    with pytest.raises(DataError) as caught:
        read_texts(file)
    return [(fault.file, fault.line, fault.what) for fault in caught.value.faults]


TEXT_FAULTS = [
    (b'{"text": "open', "not JSON"),
    (b"[" * 100_000, "not JSON"),
    (b'"text"', "not a JSON object"),
    (b'{"txt": "a"}', "no text in the field text"),
    (b'{"text": 12}', "no text in the field text"),
    (b'{"text": " \\n "}', "no text in the field text"),
    (b'{"text": "\xff"}', "not UTF-8"),
    (b'{"text": "\\ud800"}', "half a character"),
]


def test_texts_to_rank_are_read_or_named_by_their_lines(tmp_path):
    file = tmp_path / "texts.jsonl"
    assert faults_of_texts(file) == [(file, None, "missing")]
    file.touch()
    assert faults_of_texts(file) == [(file, None, "holds no text")]
    file.write_bytes(b'\xef\xbb\xbf{"id": 1, "text": "one"}\r\n\r\n{"text": "line\\nt\xc3\xa5"}')
    assert read_texts(file) == ["one", "line\nt\xe5"]
    lines = [b'{"text": "fine"}', *(line for line, _ in TEXT_FAULTS)]
    file.write_bytes(b"\n\n".join(lines))
    for number, ((_, what), fault) in enumerate(
        zip(TEXT_FAULTS, faults_of_texts(file), strict=True)
    ):
        assert fault[:2] == (file, 2 * number + 3)
        assert what in fault[2]


def test_faults_come_through_another_process_as_they_were_raised():
    faults = (Fault(Path("qrels.tsv"), 7, "unknown id", "add it"),)
    again = pickle.loads(pickle.dumps(DataError(faults)))  # noqa: S301 (as a worker's pipe does)
    assert again.faults == faults
    assert str(again) == "qrels.tsv:7: unknown id; add it"
