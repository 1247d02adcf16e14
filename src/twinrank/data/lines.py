"""Lines of text files and objects of JSONL files, each with the number an editor shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from twinrank.errors import Fault
from twinrank.progress import progress_bar

KILOBYTE = 1_000
OBJECT = "write an object, {...}, on a line of its own"
BOM = b"\xef\xbb\xbf"


def json_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, each with its line; lines that are none go to `faults`."""
    for number, line in byte_lines(file, faults):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
            if b"\\u" in line:  # only an escape can spell half a character
                json.dumps(record, ensure_ascii=False).encode("utf-8")
        except UnicodeDecodeError:
            faults.append(Fault(file, number, "the line is not UTF-8", "save the file as UTF-8"))
        except UnicodeEncodeError:
            what = "the line holds half a character (a lone surrogate)"
            faults.append(Fault(file, number, what, "write the whole character"))
        except (ValueError, RecursionError) as error:
            faults.append(Fault(file, number, f"the line is not JSON ({error})", OBJECT))
        else:
            if isinstance(record, dict):
                yield number, record
            else:
                faults.append(Fault(file, number, "the line is not a JSON object", OBJECT))


def byte_lines(file: Path, faults: list[Fault]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, from 1, without a byte order mark; a missing file goes to `faults`."""
    try:
        lines = file.open("rb")
    except FileNotFoundError:
        faults.append(Fault(file, None, "missing", "put it there, or check the path"))
        return
    size = file.stat().st_size // KILOBYTE
    with lines, progress_bar(f"reading {file.name}", size, unit="kB") as advance:
        unsaid = 0
        for number, line in enumerate(lines, 1):
            yield number, line.removeprefix(BOM) if number == 1 else line
            unsaid += len(line)
            if unsaid > 1_000 * KILOBYTE:
                advance(unsaid // KILOBYTE)
                unsaid %= KILOBYTE


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
