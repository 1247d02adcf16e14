"""Texts to rank, from a JSONL file."""

from __future__ import annotations

import json
from pathlib import Path

from twinrank.data.records import read_json_lines
from twinrank.errors import DataError, Fault


def read_texts(file: Path) -> list[str]:
    """The `text` field of every line of a JSONL file; blank lines are passed over.

    Raises:
        DataError: with every fault of the file: it is missing, or a line is not UTF-8, not JSON,
            not an object, or has no text.
    """
    texts: list[str] = []
    faults: list[Fault] = []
    for number, record, _ in read_json_lines(file, faults):
        text = record.get("text")
        if text is None:
            faults.append(Fault(file, number, "the field text is missing", 'add "text": "..."'))
        elif not isinstance(text, str):
            what = f"text is {json.dumps(text)[:40]}, not a string"
            faults.append(Fault(file, number, what, "put it in quotes"))
        elif not text.strip():
            faults.append(Fault(file, number, "text is empty", "write one or delete the line"))
        else:
            texts.append(text)
    if not texts and not faults:
        faults.append(Fault(file, None, "holds no text", 'write {"text": ...} a line'))
    if faults:
        raise DataError(faults)
    return texts
