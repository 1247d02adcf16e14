"""A ranker's folder: versions that never change, and one file that names the current one.

    RANKER/current.json             {"format": 4, "version": "3f9a0c12be77", "previous": null}
    RANKER/versions/3f9a0c12be77/   manifest.json, and the files it names
    RANKER/encoder-0123456789ab/    an encoder that was tuned or packaged; versions share it
    RANKER/README.md                the model card

A version is named after the checksum of its manifest, which holds those of its files. It is
written beside the others and becomes current when `current.json` is replaced; then versions that
are neither current nor previous are removed. A kill leaves the one or the other. A reader opens
all files of a version before it reads any: open files stay readable, and if one vanished before,
the reader begins again with the version that is current by then.
"""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
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
from twinrank.errors import RankerError, describe_faults, first_line
from twinrank.files import checksum, new_folder, write_file
from twinrank.ranking.manifest import (
    DIGITS,
    ENCODER,
    INDEX,
    PAST,
    REMOVED,
    TOWERS,
    FileName,
    Manifest,
    encoder_name,
)
from twinrank.ranking.rules import RULES

CURRENT, MANIFEST, VERSIONS, LOCK = "current.json", "manifest.json", "versions", ".lock"
FORMAT: Literal[4] = 4
PRIVATE = (PAST, REMOVED)  # people's texts: their owner's alone to read
# Of a folder, what a model hub has, and what is taken from there: nothing that runs.
HUB_FILES = (
    CURRENT,
    RULES,
    *(f"{VERSIONS}/*{end}" for end in (".json", ".jsonl", ".safetensors")),
    *(f"{ENCODER}-*{end}" for end in (".json", ".safetensors", ".txt")),
)
# What a save that was killed may leave beside the versions.
LEFTOVERS = (
    f"{ENCODER}-{'[0-9a-f]' * DIGITS}",
    *(f".{name}*.tmp" for name in (ENCODER, "current", "README", "removed")),
)
Digest = Annotated[str, Field(pattern=f"^[0-9a-f]{{{DIGITS}}}$")]
Writer = Callable[[Path], object]
Result = TypeVar("Result")
Model = TypeVar("Model", bound=BaseModel)

log = logging.getLogger(__name__)


class Pointer(BaseModel):
    """The content of `current.json`: the current version, and the one to go back to, if any."""

    model_config = ConfigDict(frozen=True)

    format: Literal[4] = FORMAT
    version: Digest
    previous: Digest | None = None


class VersionFiles:
    """The files of a version, open and checked against its manifest."""

    def __init__(self, path: Path, version: str) -> None:
        self.path, self.folder = path, path / VERSIONS / version
        self.manifest = _read_manifest(self.folder)
        self._streams: dict[str, BufferedReader] = {}
        self._tensors: dict[str, Any] = {}  # safetensors has no types
        with ExitStack() as opening:
            for name in self.manifest.files:
                self._streams[name] = opening.enter_context(open_file(self.folder / name))
                if name.endswith(".safetensors"):
                    with suppress(SafetensorError):  # damaged: its checksum differs
                        self._tensors[name] = safe_open(self.folder / name, "np")
            for name, expected in self.manifest.files.items():
                digest = hashlib.file_digest(self._streams[name], "sha256").hexdigest()
                _check_written(self.folder / name, digest == expected)
            self._stack = opening.pop_all()

    def __enter__(self) -> VersionFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._tensors.clear()
        self._stack.close()

    def stream(self, name: str) -> BufferedReader:
        """Return a file, open at its beginning."""
        self._streams[name].seek(0)
        return self._streams[name]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Return the tensors of a safetensors file."""
        tensors = self._tensors[name]
        return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)


def read(path: Path, use: Callable[[VersionFiles], Result], *, previous: bool = False) -> Result:
    """Return the result of a function of a version's files.

    The function is called again if another version takes the place of this one meanwhile.
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


def download(name: str, revision: str | None) -> Path:
    """Download the files of a ranker from a model hub, and return their folder in its cache.

    Raises:
        RankerError: if that fails.
    """
    from huggingface_hub import snapshot_download  # here: it takes a moment to import

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*HUB_FILES]))
    except Exception as error:  # the hub's own errors, and those of its network client
        raise RankerError(
            f"{name}: cannot be had from the hub ({first_line(error)}); check the name, the "
            "revision, the network, and for a private one that you are logged in: hf auth login"
        ) from None


def read_pointer(path: Path) -> Pointer:
    """Read which version of a ranker is current."""
    return _read_pointer(path)[0]


def read_manifest(path: Path, *, previous: bool = False) -> Manifest:
    """Read the manifest of a ranker's current or previous version; all its files are checked."""
    return read(path, lambda files: files.manifest, previous=previous)


@contextmanager
def writing(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the write lock of a folder; the system releases it if the process dies.

    A thread that holds it may enter again. Not to wait for another is an error.
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
    path: Path, manifest: Manifest, writers: Mapping[FileName, Writer], *, keep: bool | None
) -> None:
    """Write a version of a ranker and make it the current one; the caller is `writing`.

    `keep` makes the version that is current now the previous one, instead of its previous one;
    None keeps neither, and reads nothing of what is there.
    """
    if keep is None or not (path / CURRENT).exists():
        _point(path, Pointer(version=_add_version(path, manifest, writers)))
        return
    before = read_pointer(path)
    source = path / VERSIONS / before.version
    version = _add_version(path, manifest, writers, source)
    previous = before.version if keep and before.version != version else before.previous
    _point(path, Pointer(version=version, previous=previous if previous != version else None))


def rewrite_versions(
    path: Path, change: Callable[[VersionFiles], Mapping[FileName, Writer]]
) -> None:
    """Replace the current and the previous version: `change` gives the writers of other files."""
    with writing(path):
        pointer = read_pointer(path)
        changed: dict[str | None, str] = {}
        for name in filter(None, (pointer.previous, pointer.version)):
            with VersionFiles(path, name) as files:
                writers = change(files)
                changed[name] = (
                    _add_version(path, files.manifest, writers, files.folder) if writers else name
                )
        previous = changed.get(pointer.previous)
        _point(path, Pointer(version=changed[pointer.version], previous=previous))


def add_encoder(folder: Path, path: Path, identity: str) -> None:
    """Copy a tuned or packaged encoder into a ranker's folder, unless it is there."""
    target = path / encoder_name(identity)
    if not target.exists():
        with new_folder(target) as unfinished:
            shutil.copytree(folder, unfinished, dirs_exist_ok=True)


def open_file(file: Path) -> BufferedReader:
    """Open a regular file for reading; a pipe or a device could block for ever."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # the latter for Windows
    stream = os.fdopen(os.open(file, os.O_RDONLY | flags), "rb")
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
        raise RankerError(
            f"{path}: no {CURRENT} here, so it is no ranker folder; check the path, or, if its "
            "training has not finished, run it again"
        ) from None
    return _validated(Pointer, text, file), (status.st_ino, status.st_mtime_ns)


def _read_manifest(folder: Path) -> Manifest:
    with open_file(folder / MANIFEST) as stream:
        text = stream.read()
    digest = hashlib.sha256(text).hexdigest()[:DIGITS]
    _check_written(folder / MANIFEST, digest == folder.name)
    return _validated(Manifest, text, folder / MANIFEST)


def _check_written(file: Path, as_written: bool) -> None:
    if not as_written:
        raise RankerError(
            f"{file}: not as it was written (checksum differs); copy the folder again, or train "
            "again"
        )


def _validated(model: type[Model], text: bytes, file: Path) -> Model:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise RankerError(
            f"{file}: {describe_faults(error)}; this twinrank ({__version__}) reads format "
            f"{FORMAT}: train again (in the same folder with --fresh)"
        ) from None


def _add_version(
    path: Path,
    manifest: Manifest,
    writers: Mapping[FileName, Writer],
    source: Path | None = None,
) -> str:
    """Write the folder of a version and return its name.

    Files that `source` has alike are shared with it, and so are those without a writer. So is the
    index of a version with the same towers: it serves other answers, too.
    """
    versions = path / VERSIONS
    if versions.is_symlink():
        raise RankerError(f"{versions}: a link; nothing is written through it: remove it")
    with new_folder(versions / "version") as folder:
        files = dict(manifest.files)
        for name, write in writers.items():
            write_file(folder / name, write, private=name in PRIVATE)
            files[name] = checksum(folder / name)
        if source:
            shared = [name for name in files if _share(source / name, folder / name)]
            if TOWERS in shared and INDEX not in files:
                with suppress(RankerError, OSError, KeyError):  # there is none, or it is damaged
                    digest = _read_manifest(source).files[INDEX]
                    _share(source / INDEX, folder / INDEX)
                    files[INDEX] = digest
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


def _share(source: Path, target: Path) -> bool:
    """Have one file in both places if their contents are alike, or the target is to be made."""
    if target.exists():
        if not source.exists() or not filecmp.cmp(source, target, shallow=False):
            return False
        target.unlink()
    try:
        os.link(source, target)
    except OSError:  # links are impossible
        shutil.copy(source, target)
    return True


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
        if entry.name not in in_use:
            _remove(entry)
    with suppress(RankerError, OSError):  # a damaged version may have an encoder
        manifests = [_read_manifest(path / VERSIONS / version) for version in in_use if version]
        encoders = {name for manifest in manifests for name in manifest.encoders}
        for pattern in LEFTOVERS:
            for entry in path.glob(pattern):
                if entry.name not in encoders:
                    _remove(entry)


def _remove(entry: Path) -> None:
    """Remove a file or a folder; a folder keeps its name only while it is whole."""
    with suppress(OSError):  # still open, where that forbids it: the next change removes it
        doomed = entry.rename(entry.with_name(f".removed.{uuid.uuid4().hex}.tmp"))
        if doomed.is_dir():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power failure, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
