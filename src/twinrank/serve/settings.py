"""How a service is set up, in one value that every worker gets."""

from __future__ import annotations

import ipaddress
import logging
import os
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from twinrank.errors import ServeError

Role = Literal["read", "write"]
ROLES: tuple[Role, ...] = ("read", "write")
RATE_BEYOND = 6_000  # requests a minute, where others than this machine may ask
SHORTEST_KEY = 16  # characters
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
        rate: requests a minute for each key, or for each address where there are no keys;
            none means no limit.
        waiting: queries that may wait at once in each worker; beyond that it answers 503.
        body_bytes: the largest body it reads.
        timeout_s: for a request to be read, and for it to be answered.
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
    feedback: str
    rate: int | None = None
    waiting: int = 256
    body_bytes: int = 4_000_000
    timeout_s: float = 30.0
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


@dataclass(frozen=True)
class Keys:
    """API keys by their digests, so that none is held in memory as it is.

    Attributes:
        roles: of each key, by its sha256.
    """

    roles: dict[bytes, Role]

    @classmethod
    def load(cls, file: Path) -> Keys:
        """Read a file with a role and a key on each line: `read 3f9c...`; `#` begins a comment.

        Raises:
            ServeError: if it cannot be read, or a line is wrong; it says which.
        """
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ServeError(f"{file}: cannot be read ({error}); give a file of keys") from None
        roles: dict[bytes, Role] = {}
        for number, line in enumerate(lines, start=1):
            words = line.split("#")[0].split()
            if not words:
                continue
            role = next((role for role in ROLES if role == words[0]), None)
            if role is None or len(words) != 2 or len(words[1]) < SHORTEST_KEY:
                raise ServeError(
                    f"{file}:{number}: not a role and a key; write `read KEY` or `write KEY`, "
                    f"with a key of {SHORTEST_KEY} characters or more (`openssl rand -hex 32`)"
                )
            if _digest(words[1]) in roles:
                raise ServeError(f"{file}:{number}: this key stands twice; give each one role")
            roles[_digest(words[1])] = role
        if not roles:
            raise ServeError(f"{file}: no key in it; write one `read KEY` or `write KEY` a line")
        return cls(roles)

    @staticmethod
    def warn_of_readers(file: Path) -> None:
        """Say so where others than its owner and group may read or change a file of keys."""
        mode = file.stat().st_mode & 0o777
        if mode & 0o027:
            log.warning("%s: others may read or change it (mode %o); chmod 600 it", file, mode)

    def role(self, key: str) -> Role | None:
        """What a key may do; every known key is compared, so that time tells nothing."""
        digest = _digest(key)
        found: Role | None = None
        for known, role in self.roles.items():
            if compare_digest(known, digest):
                found = role
        return found


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
