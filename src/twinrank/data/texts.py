"""Texts to rank, from a JSONL file."""

from __future__ import annotations

import json
from pathlib import Path

from twinrank.errors import DataError, Fault

MEND = 'write {"text": "..."} on every line'


def read_texts(file: Path) -> list[str]:
    """The `text` field of every line of a JSONL file; blank lines are passed over.

    Raises:
        DataError: with every fault of the file: it is missing, or a line is not UTF-8, not JSON,
            not an object, or has no text.
    """
    texts: list[str] = []
    faults: list[Fault] = []
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                found = _text(line)
                if isinstance(found, str):
                    texts.append(found)
                else:
                    faults.append(Fault(file, number, *found))
    except FileNotFoundError:
        faults.append(Fault(file, None, "there is no such file", "check the path"))
    if faults:
        raise DataError(faults)
    return texts


def _text(line: bytes) -> str | tuple[str, str]:
    """The text of a line, or what is wrong with it and the mend."""
    try:
        row = json.loads(line.decode("utf-8"))
        if not isinstance(row, dict):
            return "the line is not a JSON object", MEND
        text = row.get("text")
        if text is None:
            return "the field text is missing", MEND
        if not isinstance(text, str):
            return f"text is {json.dumps(text)[:40]}, not a string", "put it in quotes"
        text.encode("utf-8")
    except UnicodeDecodeError:
        return "the line is not UTF-8", "save the file as UTF-8"
    except UnicodeEncodeError:
        return "text holds half a character (a lone surrogate)", "write the whole character"
    except (ValueError, RecursionError) as error:
        return f"the line is not JSON ({error})", MEND
    return text if text.strip() else ("text is empty", "write a text or delete the line")
