"""Runs on disk, under runs/bench/DATE: what is done is kept, and a whole run becomes one file.

* begun.json: what the run is: commit, machine, versions, data, races;
* pass-0/RACE.json: the turns of one race in one pass, or why it was not held;
* bench.json: all of it, once it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from peers.files import write_whole
from races.race import Turn
from twinrank.encoding.hardware import cpu_name

Json = dict[str, Any]
HERE = Path(__file__).parent
PACKAGES = (
    *("twinrank", "torch", "numpy", "openvino", "transformers"),
    *("sentence-transformers", "faiss-cpu", "bm25s"),
)


@dataclass(frozen=True)
class Held:
    """One race of one pass.

    Attributes:
        turns: what was measured.
        missing: or what the machine lacks for it.
    """

    turns: tuple[Turn, ...] = ()
    missing: str | None = None


@dataclass(frozen=True)
class Stored:
    """A whole run.

    Attributes:
        about: date, commit, machine, versions, data.
        races: by name, one `Held` a pass.
        others: cores that other processes kept busy while each was measured.
    """

    about: Json
    races: dict[str, list[Held]]
    others: list[float]

    @classmethod
    def load(cls, file: Path) -> Stored:
        """Read a `bench.json`."""
        content = json.loads(file.read_text(encoding="utf-8"))
        races = {name: [_held(one) for one in own] for name, own in content["races"].items()}
        return cls(content["about"], races, content["others"])


def about(data: str, races: Sequence[str], passes: int, seconds: float) -> Json:
    """What a run is, without names of machines or places.

    Args:
        data: the data set's name and fingerprint.
        races: names.
        passes: how many.
        seconds: of a race in a pass.
    """
    import torch

    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "commit": _commit(),
        "machine": {"cpu": cpu_name(), "cores": cores, "threads": threads},
        "versions": {"python": platform.python_version(), **_versions()},
        "data": data,
        "races": list(races),
        "passes": passes,
        "seconds": seconds,
    }


def begin(out: Path, plan: Json, *, fresh: bool = False) -> Path:
    """The folder of a run that was begun alike and never ended, or of a new one."""
    for file in sorted(out.glob("*/begun.json"), reverse=True):
        begun = json.loads(file.read_text(encoding="utf-8"))
        alike = {**begun, "date": None} == {**plan, "date": None}
        if alike and not fresh and not (file.parent / "bench.json").exists():
            return file.parent
    date = datetime.now(UTC).isoformat(timespec="seconds")
    folder = out / date.replace(":", "-").removesuffix("+00-00")
    write_whole(folder / "begun.json", json.dumps({"date": date, **plan}, indent=2) + "\n")
    return folder


def place(folder: Path, number: int, race: str) -> Path:
    """The file of one race in one pass."""
    return folder / f"pass-{number}" / f"{race}.json"


def keep(file: Path, held: Held, others: float) -> None:
    """Write what was measured, and how many cores others kept busy meanwhile."""
    content = {"turns": held.turns, "missing": held.missing, "others": round(others, 3)}
    write_whole(file, json.dumps(content) + "\n")


def whole(folder: Path) -> Stored:
    """Gather the files of a run in which nothing is missing, and write `bench.json`."""
    plan = json.loads((folder / "begun.json").read_text(encoding="utf-8"))
    races, others = {}, []
    for name in plan["races"]:
        files = [place(folder, number, name) for number in range(plan["passes"])]
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        races[name] = [{key: one[key] for key in ("turns", "missing")} for one in found]
        others += [one["others"] for one in found]
    content = {"about": plan, "others": others, "races": races}
    write_whole(folder / "bench.json", json.dumps(content, indent=1) + "\n")
    return Stored.load(folder / "bench.json")


def before(out: Path, now: Stored) -> Stored | None:
    """The last whole run before this one on the same kind of machine and the same data."""
    earlier = [Stored.load(file) for file in out.glob("*/bench.json")]
    alike = [
        run
        for run in earlier
        if all(run.about[key] == now.about[key] for key in ("machine", "data"))
        and run.about["date"] < now.about["date"]
    ]
    return max(alike, key=lambda run: run.about["date"], default=None)


def _held(content: Json) -> Held:
    return Held(tuple(content["turns"]), content["missing"])


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _commit() -> str:
    """Of the source, with a digest of what is changed in it; `unknown` outside git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit, changed = git("rev-parse", "--short=10", "HEAD"), git("diff", "HEAD", "--", ":/")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    digest = hashlib.sha256(changed.encode()).hexdigest()[:6]
    return f"{commit} with changes {digest}" if changed else commit
