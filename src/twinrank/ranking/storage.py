"""A ranker's folder: versions that never change, and one file that names the current one.

    RANKER/current.json             {"format": 4, "version": "3f9a0c12be77", "previous": null}
    RANKER/versions/3f9a0c12be77/   manifest.json, and the files it names
    RANKER/encoder-0123456789ab/    the encoder, if one was tuned; versions share it
    RANKER/README.md                the model card

A version is named after the checksum of its manifest, which holds those of its files. It is
written beside the others and becomes current when `current.json` is replaced; then versions that
are neither current nor previous are removed. A kill leaves the one or the other. A reader opens
all files of a version before it reads any: open files stay readable, and if one vanished before,
the reader begins again with the version that is current by then.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from twinrank import __version__
from twinrank.errors import RankerError
from twinrank.files import checksum, new_folder, write_file
from twinrank.ranking.manifest import (
    ANSWERS,
    DIGITS,
    ENCODER,
    INDEX,
    PAST,
    REMOVED,
    VECTORS,
    FileName,
    Manifest,
    encoder_name,
)

CURRENT, MANIFEST, VERSIONS, LOCK = "current.json", "manifest.json", "versions", ".lock"
FORMAT: Literal[4] = 4
FORMER_CARD = "ranker.json"  # of folders before format 4
PRIVATE = (PAST, REMOVED)  # people's texts: their owner's alone to read
TENSORS = ".safetensors"
# What saving may leave among the versions, and beside them.
VERSION_NAME = re.compile(rf"[0-9a-f]{{{DIGITS}}}|[.].*[.]tmp")
LEFTOVER_NAME = re.compile(
    rf"{ENCODER}-[0-9a-f]{{{DIGITS}}}|[.]({ENCODER}|current|README|removed).*[.]tmp"
)
Digest = Annotated[str, Field(pattern=f"^[0-9a-f]{{{DIGITS}}}$")]
Writer = Callable[[Path], object]
Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Pointer(BaseModel):
    """The content of `current.json`: the current version, and the one to go back to, if any."""

    model_config = ConfigDict(frozen=True)

    format: Literal[4] = FORMAT
    version: Digest
    previous: Digest | None = None


class VersionFiles:
    """The files of a version, open and checked against its manifest.

    Args:
        path: folder of the ranker.
        version: its name.

    Raises:
        FileNotFoundError: if a file is missing.
        RankerError: if one is not as it was written.
    """

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.folder = path, path / VERSIONS / version
        self.manifest = _read_manifest(self.folder)
        self._stack = ExitStack()
        self._streams: dict[str, BufferedReader] = {}
        self._tensors: dict[str, Any] = {}  # safetensors has no types
        with self._stack as opening:
            for name in self.manifest.files:
                self._streams[name] = opening.enter_context(open_file(self.folder / name))
                if name.endswith(TENSORS):
                    with suppress(SafetensorError):  # damaged: its checksum differs
                        self._tensors[name] = safe_open(self.folder / name, "np")
            for name, expected in self.manifest.files.items():
                if hashlib.file_digest(self._streams[name], "sha256").hexdigest() != expected:
                    raise RankerError(
                        f"{self.folder / name}: not as {MANIFEST} says it was written (checksum "
                        "differs); copy the folder again, or train again"
                    )
            self._stack = opening.pop_all()

    def __enter__(self) -> VersionFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.clear()
        self._stack.close()

    def stream(self, name: str) -> BufferedReader:
        """Return a file, open at its beginning.

        Raises:
            RankerError: if the manifest names none.
        """
        if name not in self._streams:
            raise RankerError(f"{self.folder / MANIFEST}: names no {name}; copy the folder again")
        self._streams[name].seek(0)
        return self._streams[name]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return the tensors of a safetensors file."""
        tensors = self._tensors[name]
        return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)


def read(path: Path, use: Callable[[VersionFiles], Result], *, previous: bool = False) -> Result:
    """Return the result of a function of a version's files.

    The function is called again if another version takes the place of this one meanwhile.

    Args:
        path: folder of the ranker.
        use: the function.
        previous: read the previous version instead of the current one.

    Raises:
        RankerError: if it is no ranker folder, a file is missing or not as it was written, or
            no previous version is kept.
    """
    while True:
        pointer, state = _read_pointer(path)
        version = pointer.previous if previous else pointer.version
        if version is None:
            raise RankerError(
                f"{path}: no previous ranker is kept here; only `twinrank learn` keeps the one it "
                "replaces"
            )
        try:
            with VersionFiles(path, version) as files:
                return use(files)
        except (RankerError, OSError) as error:
            if _read_pointer(path)[1] != state:
                continue
            if isinstance(error, FileNotFoundError) and error.filename:
                raise RankerError(
                    f"{error.filename}: missing; copy the whole folder, or train again"
                ) from None
            raise


def read_pointer(path: Path) -> Pointer:
    """Read which version of a ranker is current.

    Raises:
        RankerError: if it is no ranker folder.
    """
    return _read_pointer(path)[0]


def read_manifest(path: Path, *, previous: bool = False) -> Manifest:
    """Read the manifest of a ranker's current or previous version; all its files are checked.

    Raises:
        RankerError: as `read` does.
    """
    return read(path, lambda files: files.manifest, previous=previous)


@contextmanager
def writing(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the write lock of a folder; the system releases it if the process dies.

    A thread that holds it may enter again.

    Raises:
        RankerError: if the folder cannot be written to, or is locked and this is not to wait.
    """
    lock = FileLock(path / LOCK, is_singleton=True)
    try:
        path.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            if not wait:
                raise RankerError(f"{path}: another writes here; try again later") from None
            log.warning("%s: waiting for another that writes here", path)
            lock.acquire()
    except OSError as error:
        raise RankerError(
            f"{path}: cannot be written to ({error.strerror or error}); check whose it is, and "
            "that it is not read-only"
        ) from None
    try:
        yield
    finally:
        lock.release()


def write_version(
    path: Path, manifest: Manifest, writers: Mapping[FileName, Writer], *, keep: bool
) -> None:
    """Write a version of a ranker and make it the current one.

    Args:
        path: folder of the ranker; the caller holds its lock, see `writing`.
        manifest: of the version; its files are filled in.
        writers: of each file.
        keep: the version that is current now as the previous one, instead of its previous one.
    """
    before = _pointer_if_readable(path)
    version = _add_version(path, manifest, writers)
    if before and before.version == version:
        pointer = before
    else:
        previous = before and (before.version if keep else before.previous)
        pointer = Pointer(version=version, previous=previous if previous != version else None)
    _point(path, pointer)


def rewrite_versions(
    path: Path, change: Callable[[VersionFiles], Mapping[FileName, Writer]]
) -> None:
    """Replace the current and the previous version by ones in which some files are other.

    Args:
        path: folder of the ranker.
        change: gives the writers of the files of a version that change.
    """
    with writing(path):
        pointer = read_pointer(path)
        changed: dict[str, str] = {}
        for name in filter(None, (pointer.previous, pointer.version)):
            with VersionFiles(path, name) as files:
                writers = change(files)
                changed[name] = _add_version(path, files.manifest, writers) if writers else name
        previous = pointer.previous and changed[pointer.previous]
        _point(path, Pointer(version=changed[pointer.version], previous=previous))


def add_encoder(folder: Path, path: Path, identity: str) -> None:
    """Copy a tuned encoder into a ranker's folder, unless it is there."""
    target = path / encoder_name(identity)
    if not target.exists():
        with new_folder(target) as unfinished:
            shutil.copytree(folder, unfinished, dirs_exist_ok=True)


def open_file(file: Path) -> BufferedReader:
    """Open a regular file for reading; a pipe or a device could block for ever.

    Raises:
        RankerError: if it is no regular file.
    """
    stream = os.fdopen(os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise RankerError(f"{file}: no regular file; copy the folder again, or train again")
    return stream


def _read_pointer(path: Path) -> tuple[Pointer, tuple[int, int]]:
    """Read the pointer, and the state of its file, which differs from that of the next one."""
    file = path / CURRENT
    try:
        with open_file(file) as stream:
            status = os.fstat(stream.fileno())
            text = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        fix = "check the path"
        if (path / FORMER_CARD).exists():
            fix = "it was made by an earlier twinrank: train again"
        elif (path / "checkpoint.safetensors").exists():
            fix = "its training has not finished: run it again"
        raise RankerError(f"{path}: no {CURRENT} here, so it is no ranker folder; {fix}") from None
    return _validated(Pointer, text, file), (status.st_ino, status.st_mtime_ns)


def _read_manifest(folder: Path) -> Manifest:
    with open_file(folder / MANIFEST) as stream:
        text = stream.read()
    if hashlib.sha256(text).hexdigest()[:DIGITS] != folder.name:
        raise RankerError(
            f"{folder / MANIFEST}: not as it was written (checksum differs); copy the folder "
            "again, or train again"
        )
    return _validated(Manifest, text, folder / MANIFEST)


Model = TypeVar("Model", bound=BaseModel)


def _validated(model: type[Model], text: bytes, file: Path) -> Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise RankerError(
            f"{file}: {field}: {first['msg']}; this twinrank ({__version__}) reads format "
            f"{FORMAT}: train again (in the same folder with --fresh)"
        ) from None


def _pointer_if_readable(path: Path) -> Pointer | None:
    try:
        return read_pointer(path)
    except RankerError:
        return None


def _manifests_in_use(path: Path) -> dict[str, Manifest]:
    """Read the manifests of the current and the previous version that are not damaged."""
    pointer, manifests = _pointer_if_readable(path), {}
    for version in filter(None, (pointer.version, pointer.previous) if pointer else ()):
        with suppress(RankerError, OSError):
            manifests[version] = _read_manifest(path / VERSIONS / version)
    return manifests


def _add_version(path: Path, manifest: Manifest, writers: Mapping[FileName, Writer]) -> str:
    """Write the folder of a version and return its name.

    Files of the manifest that are not written are those of a version in use.
    """
    versions = path / VERSIONS
    if versions.is_symlink():
        raise RankerError(f"{versions}: a link; nothing is written through it: remove it")
    with new_folder(versions / "version") as folder:
        files = dict(manifest.files)
        for name, write in writers.items():
            files[name] = checksum(write_file(folder / name, write, private=name in PRIVATE))
        _share_files(path, folder, files)
        manifest = manifest.model_copy(update={"files": dict(sorted(files.items()))})
        text = manifest.model_dump_json(indent=2, exclude_none=True) + "\n"
        write_file(folder / MANIFEST, text)
        _sync_folder(folder)
        version = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
        if _is_whole(path, version):
            shutil.rmtree(folder)
        else:
            _remove(versions / version)  # damaged
            folder.rename(versions / version)
    _sync_folder(versions)
    return version


def _share_files(path: Path, folder: Path, files: dict[FileName, str]) -> None:
    """Link the files of a new version that a version in use has, too.

    A new version without an answer index takes over that of a version with the same answers.
    """
    manifests = _manifests_in_use(path)
    for version, manifest in manifests.items():
        source, known = path / VERSIONS / version, manifest.files
        same = {name for name in known if files.get(name) == known[name]}
        if INDEX in known and INDEX not in files and {ANSWERS, VECTORS} <= same:
            same.add(INDEX)
        for name in same:
            with suppress(OSError):
                if checksum(source / name) == known[name]:
                    _link(source / name, folder / name)
                    files[name] = known[name]
    if INDEX not in files and any(INDEX in manifest.files for manifest in manifests.values()):
        log.warning(
            "%s: its answer index is left out, as answers changed; make it again: "
            "twinrank index %s",
            *(path, path),
        )


def _link(source: Path, target: Path) -> None:
    """Share a file that never changes, or copy it where links are impossible."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _is_whole(path: Path, version: str) -> bool:
    try:
        with VersionFiles(path, version):
            return True
    except (RankerError, OSError):
        return False


def _point(path: Path, pointer: Pointer) -> None:
    """Make a version the current one, and remove what is not in use, as leftovers of a kill."""
    write_file(path / CURRENT, pointer.model_dump_json(exclude_none=True) + "\n")
    _sync_folder(path)
    in_use = {pointer.version, pointer.previous}
    for entry in (path / VERSIONS).iterdir():
        if VERSION_NAME.fullmatch(entry.name) and entry.name not in in_use:
            _remove(entry)
    manifests = _manifests_in_use(path)
    encoders = {manifest.encoder for manifest in manifests.values()}
    if manifests.keys() != in_use - {None}:
        return  # a damaged one may have an encoder
    for entry in path.iterdir():
        if LEFTOVER_NAME.fullmatch(entry.name) and entry.name not in encoders:
            _remove(entry)


def _remove(entry: Path) -> None:
    """Remove a file or a folder; a folder keeps its name only while it is whole."""
    with suppress(OSError):  # still open, where that forbids it: the next change removes it
        if entry.is_dir() and not entry.is_symlink():
            renamed = entry.rename(entry.with_name(f".removed.{uuid.uuid4().hex}.tmp"))
            shutil.rmtree(renamed, ignore_errors=True)
        else:
            entry.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power failure, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
