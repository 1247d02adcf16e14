"""Which backend encodes on this machine: a small file beside the converted model."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twinrank.encode.hardware import cpu_flags, cpu_name
from twinrank.files import write_file

PATTERN = "choice-*.json"


@dataclass(frozen=True)
class Choice:
    """What a probe found, and for what it holds.

    Args:
        name: of the encoder, as it was given.
        max_tokens: of the encoder.
        precision: fp32, bf16 or int8.
        place: what it holds for: processor, threads and versions of libraries.
        backend: the faster one.
        times_faster: than the other, by the geometric mean of the two kinds of text.
        ms: of each backend, median milliseconds a text by kind.
        cosine: the lowest of features to those of torch in the same precision; of int8 to fp32.
        reason: why there is no other, if there is none.
    """

    name: str
    max_tokens: int
    precision: str
    place: dict[str, str | int]
    backend: str
    times_faster: float | None = None
    ms: dict[str, dict[str, float]] | None = None
    cosine: float | None = None
    reason: str | None = None

    def __str__(self) -> str:
        """One line, for people."""
        what = f"{self.name}, {self.precision}: {self.backend}"
        if self.reason:
            return f"{what}, since {self.reason}"
        if not self.ms:
            return f"{what}, cosine {self.cosine:.4f} to fp32"
        kinds = []
        for kind in next(iter(self.ms.values())):
            each = " and ".join(f"{ms[kind]:.2g} ms ({name})" for name, ms in self.ms.items())
            kinds.append(f"{each} a {kind}")
        return f"{what} is {self.times_faster:.1f} times as fast here: {', '.join(kinds)}"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, without what is none."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def save(self, file: Path) -> None:
        """Write it whole or not at all.

        Raises:
            OSError: if it cannot be written.
        """
        write_file(file, json.dumps(self.as_dict(), indent=2))

    @classmethod
    def load(cls, file: Path) -> Choice | None:
        """The one in a file; none if there is none, or it is damaged: it can be found again."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        return None


def this_place(threads: int) -> dict[str, str | int]:
    """What a choice holds for: another processor, number of threads or version may differ."""
    flags = blake2b(" ".join(sorted(cpu_flags())).encode(), digest_size=4).hexdigest()
    libraries = {name: version(name) for name in ("torch", "openvino")}
    return {
        "cpu": cpu_name(),
        "flags": flags,
        "system": platform.system(),
        "threads": threads,
        **libraries,
    }


def choice_file(home: Path, precision: str, place: dict[str, str | int]) -> Path:
    """Where the choice for a place is kept, in the folder of an encoder."""
    digest = blake2b(json.dumps(place, sort_keys=True).encode(), digest_size=6).hexdigest()
    return home / PATTERN.replace("*", f"{precision}-{digest}")
