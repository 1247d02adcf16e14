"""How a service is set up, in one value that every worker gets."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from twinrank.errors import ServeError

Role = Literal["read", "feedback", "write"]
ROLES: tuple[Role, ...] = ("read", "feedback", "write")  # each may do what those before it may
RATE_BEYOND = 6_000  # requests a minute, where others than this machine may ask
GRACE_S = 30  # for a stop, whatever blocks
SHORTEST_KEY = 16  # characters
NAME = re.compile(r"[\w.@-]{1,32}")  # of a key
VARIABLE = "TWINRANK_SERVE"  # in which workers find their settings

log = logging.getLogger(__name__)


class Settings(BaseModel):
    """What `twinrank serve` was told.

    Attributes:
        ranker: its folder, which is followed: when it changes, the service changes with it.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        workers: processes.
        index: an answer index to rank by, as `twinrank index` names places.
        keys: file of API keys; needed beyond this machine.
        feedback: URL or file of the database.
        rate: requests a minute for each key, or for each address where there are no keys; none
            means no limit. Each further query of a batch counts as one more, and so do each
            1,000 characters of a text.
        waiting: queries that may wait at once in each worker, those of a client as many as are
            free yet; beyond that it answers 503.
        body_bytes: the largest body it reads.
        timeout_s: for a request to be read, and for it to be answered.
        restore_days: how long an answer that was deleted can be restored; 0 keeps nothing of it.
        origins: of other sites whose pages may call the API, `https://HOST`; `*` is any.
        log_texts: whether queries are logged.
        log_addresses: whether clients' addresses are logged.
        show_past_queries: whether replies show the texts of past queries.
        keep_feedback_days: after which verdicts are erased; none leaves it as it was.
        device: where the encoder runs.
    """

    model_config = ConfigDict(frozen=True)

    ranker: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    index: str | None = None
    keys: Path | None = None
    feedback: str = Field(repr=False)  # a password may be in it
    rate: int | None = None
    waiting: int = 512
    body_bytes: int = 4_000_000
    timeout_s: float = 30.0
    restore_days: float = 7.0
    origins: tuple[str, ...] = ()
    log_texts: bool = False
    log_addresses: bool = False
    show_past_queries: bool = False
    keep_feedback_days: int | None = None
    device: str = "auto"

    @classmethod
    def from_environment(cls) -> Settings:
        """As the parent process passed them on."""
        return cls.model_validate_json(os.environ[VARIABLE])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def check_origins(self) -> None:
        """Refuse an origin that no browser sends, and any site's where there are no keys.

        Raises:
            ServeError: if there is one.
        """
        for origin in self.origins:
            if origin == "*":
                if self.keys is None:
                    raise ServeError(
                        "--origin '*' without keys would let any page a visitor opens change "
                        "answers; give --keys, or name the sites"
                    )
                continue
            try:
                parts = urlsplit(origin)
                whole = f"{parts.scheme}://{parts.netloc}" == origin and parts.hostname
            except ValueError:
                whole = None
            if not whole:
                raise ServeError(
                    f"--origin {origin!r} is none that a browser sends; give https://HOST[:PORT], "
                    "with no path and no / at the end"
                )


@dataclass(frozen=True)
class Holder:
    """Whose key it is, for the log, and what it may do."""

    name: str
    role: Role


class Keys:
    """API keys by their digests, so that none is held in memory as it is.

    Args:
        file: with a role, a key and perhaps a name on each line: `write 3f9c... anna`; `#` begins
            a comment.

    Raises:
        ServeError: if it cannot be read, or a line is wrong; it says which.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._holders = _read_keys(file)
        mode = file.stat().st_mode & 0o777
        if mode & 0o027:
            log.warning("%s: others may read or change it (mode %o); chmod 600 it", file, mode)

    def reload(self) -> None:
        """Read the file anew; if it cannot be used, the former keys stay, and the log says so."""
        try:
            self._holders = _read_keys(self._file)
            log.info("%s: %d keys taken up", self._file, len(self._holders))
        except ServeError as error:
            log.error("the former keys stay: %s", error)

    def find(self, key: str) -> Holder | None:
        """Get a key's holder; every known key is compared, so that time tells nothing."""
        digest = _digest(key)
        match: Holder | None = None
        for known, holder in self._holders.items():
            if compare_digest(known, digest):
                match = holder
        return match


def _read_keys(file: Path) -> dict[bytes, Holder]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # Notepad begins with a mark
    except UnicodeDecodeError:
        raise ServeError(f"{file}: is not UTF-8 (perhaps UTF-16); save it as UTF-8") from None
    except OSError as error:
        raise ServeError(f"{file}: cannot be read ({error}); give a file of keys") from None
    holders: dict[bytes, Holder] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        role = next((role for role in ROLES if role == words[0]), None)
        named = len(words) == 3 and NAME.fullmatch(words[2])
        if role is None or not (len(words) == 2 or named) or len(words[1]) < SHORTEST_KEY:
            raise ServeError(
                f"{file}:{number}: not a role and a key; write `read KEY`, `feedback KEY` or "
                f"`write KEY`, with a key of {SHORTEST_KEY} characters or more (`openssl rand "
                "-hex 32`), and behind it a name if you like (up to 32 letters and digits)"
            )
        digest = _digest(words[1])
        if digest in holders:
            raise ServeError(f"{file}:{number}: this key stands twice; give each one role")
        holders[digest] = Holder(words[2] if named else f"{role}-{digest.hex()[:8]}", role)
    if not holders:
        raise ServeError(f"{file}: no key in it; write one `read KEY` or `write KEY` a line")
    return holders


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
