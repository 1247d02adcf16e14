import json

import pytest

from twinrank.data import read_texts
from twinrank.errors import DataError


def faults(file):
    with pytest.raises(DataError) as caught:
        read_texts(file)
    return [(fault.file, fault.line, fault.what) for fault in caught.value.faults]


def test_texts_in_order_whatever_else_a_line_holds(tmp_path):
    file = tmp_path / "texts.jsonl"
    texts = ["no login", "line\none", "Blåbærgrød 😀"]
    file.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in enumerate(texts)))
    assert read_texts(file) == texts


def test_bom_crlf_blank_lines_and_a_missing_last_newline_are_read(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "two"}')
    assert read_texts(file) == ["one", "two"]


def test_an_empty_file_is_named(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.touch()
    assert faults(file) == [(file, None, "holds no text")]


def test_a_missing_file_is_named(tmp_path):
    file = tmp_path / "none.jsonl"
    assert faults(file) == [(file, None, "missing")]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"text": "open', "not JSON"),
        (b"nonsense", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"text"', "not a JSON object"),
        (b'{"txt": "a"}', "the field text is missing"),
        (b'{"text": null}', "the field text is missing"),
        (b'{"text": 12}', "text is 12, not a string"),
        (b'{"text": ""}', "text is empty"),
        (b'{"text": " \\n "}', "text is empty"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b'{"text": "\\ud800"}', "half a character"),
    ],
)
def test_a_fault_names_its_line_with_blank_lines_counted(tmp_path, line, what):
    file = tmp_path / "texts.jsonl"
    file.write_bytes(b'{"text": "fine"}\n\n' + line + b'\n{"text": "fine"}\n')
    [(named, number, said)] = faults(file)
    assert (named, number) == (file, 3)
    assert what in said


def test_all_faults_come_at_once(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text('x\n{"text": "fine"}\n{}\n{"text": ""}\n')
    assert [line for _, line, _ in faults(file)] == [1, 3, 4]
