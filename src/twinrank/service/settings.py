"""Settings of a service, its limits among them, in one value that every worker gets."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

PUBLIC_RATE_PER_MINUTE = 6_000  # requests, where others than this machine may ask
GRACE_S = 30  # for a stop, whatever blocks
VARIABLE = "TWINRANK_SERVE"  # of the environment, in which workers find their settings
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # variable: where the workers of one service add up


class Settings(BaseModel):
    """The options of `twinrank serve`, and limits.

    Attributes:
        rate: requests a minute of each client; each further query of a batch counts as one more,
            and so do each 1,000 characters of a text.
        waiting: queries that may wait at once in each worker; of a client as many as are free yet.
        body_bytes: of a request, at most.
        timeout_s: for a request to be read; reading and answering it may take twice as long.
        restore_days: how long a deleted answer can be restored; 0 keeps nothing of it.
        where: a filter of the answers that the service knows, see `Filter.parse`.
        origins: of other sites whose pages may call the API, `https://HOST`; `*` is any.
        redact: what is personal in queries, before they are ranked, logged or stored.
        keep_feedback_days: after which verdicts are erased; None leaves the database's setting.
        shadow: another ranker, which ranks the same queries unseen, to be compared.
        interleave: whether both rankers pick the answers that are shown, in turn.
        proxied: whether requests come through the proxy of a cluster, with ids.
    """

    model_config = ConfigDict(frozen=True)

    ranker: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    index: str | None = Field(None, repr=False)  # as in `feedback`
    keys: Path | None = None
    feedback: str = Field(repr=False)  # a password may be in it
    rate: int | None = None
    waiting: int = 512
    body_bytes: int = 4_000_000
    timeout_s: float = 30.0
    restore_days: float = 7.0
    where: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    log_texts: bool = False
    log_addresses: bool = False
    redact: bool = False
    show_past_queries: bool = False
    keep_feedback_days: int | None = None
    shadow: Path | None = None
    interleave: bool = False
    device: str = "auto"
    proxied: bool = False

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the settings that the parent process passed on."""
        return cls.model_validate_json(os.environ[VARIABLE])

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
