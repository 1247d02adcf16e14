"""Text files as people have them: packed or not, in whatever encoding."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from twinrank.errors import Fault

PACKINGS = (".gz", ".zip")
MAX_UNPACKED_RATIO, MAX_UNPACKED_BYTES = 250, 100_000_000  # one of the two may be exceeded
PACKING_ERRORS = (OSError, EOFError, zlib.error, BadZipFile, RuntimeError, NotImplementedError)
EXCEL = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
NAME_OF_EXCEL = "name it .xlsx or .xls, or .zip"
FORMS = (  # how a file begins, in lower case; what it is; the mend
    (rb"\x1f\x8b", "a file packed with gzip", "add .gz to its name"),
    (rb"bzh\d|\xfd7zxz|\x28\xb5\x2f\xfd", "a compressed file", "unpack it"),
    (rb"pk\x03\x04|\xd0\xcf\x11\xe0", "an Excel file, or a ZIP archive", NAME_OF_EXCEL),
    (rb"par1", "a Parquet file", "name it .parquet"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (rb"<!doctype html|<html", "an HTML page", "download the file itself"),
)
BYTE_ORDER_MARKS = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
SAMPLE_BYTES, PIECE_BYTES = 100_000, 16_000_000
# What systems wrote before UTF-8. A short text fits several: the first of those that fit best.
OLD_ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "cp949"]
OLD_ENCODINGS += ["gb18030", "big5"]
MAX_VALID_SHARE_OF_OLD = 0.05  # of the lines beyond ASCII, those that could be UTF-8 by chance


class UnreadableError(ValueError):
    """A packed file that cannot be unpacked; says why."""


def suffix_of(file: Path) -> str:
    """Give the suffix that says what a file holds, in lower case; that of a packed file inside."""
    match file.suffix.lower():
        case ".gz":
            return Path(file.stem).suffix.lower()
        case ".zip":
            try:
                with ZipFile(file) as archive:
                    return Path(_find_member(archive)).suffix.lower()
            except (*PACKING_ERRORS, UnreadableError):
                return Path(file.stem).suffix.lower()  # what is wrong is said when it is read
        case suffix:
            return suffix


@contextmanager
def open_unpacked(file: Path) -> Iterator[Any]:
    """Open a file, or what is packed in it, as a stream of bytes.

    Raises:
        UnreadableError: if it cannot be unpacked.
    """
    try:
        match file.suffix.lower():
            case ".gz":
                with gzip.open(file) as stream:
                    yield stream
            case ".zip":
                with ZipFile(file) as archive, archive.open(_find_member(archive)) as stream:
                    yield stream
            case _:
                with file.open("rb") as stream:
                    yield stream
    except PACKING_ERRORS as error:
        if file.suffix.lower() not in PACKINGS:
            raise
        raise UnreadableError(f"cannot be unpacked ({error})") from None


def find_form_fault(file: Path) -> Fault | None:
    """Find why a file cannot be read as text: it is not there, damaged, or of another form."""
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "missing"
        return Fault(file, None, what, "put the file there, or check the path")
    try:
        with open_unpacked(file) as stream:
            start = stream.read(4_096)
    except UnreadableError as error:
        return Fault(file, None, f"{error}", "pack it anew, or give the file itself")
    for beginning, what, mend in FORMS:
        if re.match(beginning, start.lower()):
            return Fault(file, None, what, mend)
    return None


def find_encoding(file: Path, *, may_be_old: bool) -> str:
    """Find the encoding of a text file.

    UTF-16 and UTF-32 by their marks or zeros. UTF-8 if any good share of the lines beyond ASCII is
    that: then the other lines are damaged. Else what charset-normalizer makes of a sample.

    Args:
        file: to read.
        may_be_old: it may be older than UTF-8; then all of it is read.

    Raises:
        UnreadableError: if it cannot be unpacked, or would fill the memory.
    """
    sample, valid, invalid, size = bytearray(), 0, 0, 0
    limit = max(MAX_UNPACKED_RATIO * file.stat().st_size, MAX_UNPACKED_BYTES)
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_unpacked(file) as stream:
        piece = stream.readline(PIECE_BYTES)
        if encoding := find_wide_encoding(piece):
            return encoding
        while piece and may_be_old:
            size += len(piece)
            if size > limit and file.suffix.lower() in PACKINGS:
                raise UnreadableError(f"holds more than {limit:,} bytes, unpacked")
            try:
                valid += not decoder.decode(piece).isascii()
            except UnicodeDecodeError:
                decoder.reset()
                invalid += 1
                sample += piece[: SAMPLE_BYTES - len(sample)]
            piece = stream.readline(PIECE_BYTES)
    if not invalid or valid > MAX_VALID_SHARE_OF_OLD * invalid:
        return "utf-8-sig"
    from charset_normalizer import from_bytes  # rarely needed

    matches = [*from_bytes(bytes(sample.replace(b"\0", b"")), cp_isolation=OLD_ENCODINGS)]
    best = [
        m for m in matches if (m.chaos, m.coherence) == (matches[0].chaos, matches[0].coherence)
    ]
    names = {name for match in best for name in match.could_be_from_charset}
    return next((name for name in OLD_ENCODINGS if name in names), "latin-1")


def find_wide_encoding(start: bytes) -> str | None:
    """Find UTF-16 or UTF-32 by how a file begins."""
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if start.startswith(mark):
            return encoding
    if start[1:2] == b"\0":
        return "utf-16-le"
    return "utf-16-be" if start[:1] == b"\0" and start[1:2] else None


def _find_member(archive: ZipFile) -> str:
    """Find the one file in an archive."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise UnreadableError(f"holds {len(names)} files, not one")
    return names[0]
