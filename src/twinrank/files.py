"""Files and folders written whole or not at all, and text files that a user wrote."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from twinrank.errors import TwinrankError, first_line

Content = str | bytes | Callable[[Path], object]
UNFINISHED = ".*.tmp"  # matches what a kill can leave


def write_file(file: Path, content: Content, *, private: bool = False) -> Path:
    """Write a file, or leave what is there, and return its path.

    Args:
        file: its folder is made.
        content: text (as UTF-8), bytes, or a function that writes to the path it is given.
        private: only its owner may read it; else whoever the umask lets.

    Raises:
        OSError: with the file's name, if it cannot be written, by whatever library.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with failures_of(file), _temporary_name(file) as temporary:
        temporary.touch(0o600 if private else 0o666)
        mode = temporary.stat().st_mode & 0o777
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.chmod(mode)  # safetensors leaves its files to their owner alone
        with temporary.open("rb+") as stream:  # Windows syncs none that is open for reading alone
            os.fsync(stream.fileno())
        temporary.replace(file)
    return file


def is_folder(path: Path | str) -> bool:
    """Whether there is a folder that this user may see; `Path.is_dir` fails on others' homes."""
    return os.path.isdir(path)  # noqa: PTH112


def checksum(file: Path) -> str:
    """Return the sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes a name once it is full, or is removed on failure.

    One that is renamed or removed meanwhile is left alone.
    """
    with failures_of(folder), _temporary_name(folder) as temporary:
        temporary.mkdir(parents=True)
        yield temporary
        if temporary.exists():
            temporary.rename(folder)


@contextmanager
def failures_of(path: Path) -> Iterator[None]:
    """Name the path in every failure to write there, whatever library writes.

    Raises:
        OSError: for these.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        line = first_line(error)
        known = re.search(r"\(os error (\d+)\)", line)  # safetensors and Polars name it so
        code = getattr(error, "errno", None) or (int(known[1]) if known else None)
        what = os.strerror(code) if code else line
        raise OSError(code or errno.EIO, what, str(path)) from error


@contextmanager
def _temporary_name(path: Path) -> Iterator[Path]:
    """Give another name in the same folder, under which nothing stays if the block fails."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            temporary.unlink()
        raise


def read_text(file: Path, what: str) -> str:
    """Read a file that a user wrote: UTF-8, with a byte order mark or without.

    Args:
        file: to read.
        what: the kind of file, for the error: "recipe file".

    Raises:
        TwinrankError: if there is no such file, or it is not UTF-8; it names the place.
    """
    try:
        content = file.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise TwinrankError(f"{file}: no such {what}; check the path") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise TwinrankError(f"{file}:{line}: not UTF-8; save the {what} as UTF-8") from None


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Read the text of a TOML file; `source` is named in the TwinrankError if it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TwinrankError(f"{source}: not valid TOML: {error}") from None
