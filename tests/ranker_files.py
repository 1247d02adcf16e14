"""The files of a ranker's folder, for tests that look at them or change them."""

import hashlib
import json
from pathlib import Path


def version_folder(folder: Path, pointer: str = "version") -> Path:
    """The folder of the current version, or of the `previous` one."""
    return folder / "versions" / json.loads((folder / "current.json").read_text())[pointer]


def edit_manifest(folder: Path, **changes: object) -> None:
    """Change the current version's manifest, as somebody would who wants it to be accepted.

    The files of the version are named with their right checksums, unless `files` says other.
    """
    version = version_folder(folder)
    manifest = json.loads((version / "manifest.json").read_text())
    files = {
        name: hashlib.sha256((version / name).read_bytes()).hexdigest()
        for name in manifest["files"]
        if (version / name).is_file()
    }
    text = json.dumps(manifest | {"files": files} | changes)
    (version / "manifest.json").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    version.rename(version.with_name(digest))
    pointer = json.loads((folder / "current.json").read_text())
    (folder / "current.json").write_text(json.dumps(pointer | {"version": digest}))


def all_files(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder, and below it."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
