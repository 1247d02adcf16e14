"""Settings of a service, in one value that every worker gets."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from twinrank.errors import ServeError

PUBLIC_RATE_PER_MINUTE = 6_000  # requests, where others than this machine may ask
GRACE_S = 30  # for a stop, whatever blocks
VARIABLE = "TWINRANK_SERVE"  # of the environment, in which workers find their settings


class Settings(BaseModel):
    """The options of `twinrank serve`.

    Attributes:
        ranker: its folder, which is followed: when it changes, the service changes with it.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        workers: processes.
        index: an answer index to rank by, as `twinrank index` names places.
        keys: file of API keys; needed beyond this machine.
        feedback: URL or file of the database.
        rate: requests a minute for each key, or for each address where there are no keys; None
            means no limit. Each further query of a batch counts as one more, and so do each
            1,000 characters of a text.
        waiting: queries that may wait at once in each worker, those of a client as many as are
            still free; beyond that it answers 503.
        body_bytes: the largest body it reads.
        timeout_s: for a request to be read, and for it to be answered.
        restore_days: how long a deleted answer can be restored; 0 keeps nothing of it.
        origins: of other sites whose pages may call the API, `https://HOST`; `*` is any.
        log_texts: whether queries are logged.
        log_addresses: whether clients' addresses are logged.
        show_past_queries: whether replies show the texts of past queries.
        keep_feedback_days: after which verdicts are erased; None leaves the database's setting.
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
        """Read the settings that the parent process passed on."""
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
                complete = f"{parts.scheme}://{parts.netloc}" == origin and parts.hostname
            except ValueError:
                complete = None
            if not complete:
                raise ServeError(
                    f"--origin {origin!r} is none that a browser sends; give https://HOST[:PORT], "
                    "with no path and no / at the end"
                )
