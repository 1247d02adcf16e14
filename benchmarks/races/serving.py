"""The service under load, against one that a team would write in an afternoon."""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil

from races.race import NotHereError, Race, Unit
from races.setting import Setting
from serve import Service, loaded, running

CLIENTS, SECONDS, TEXTS = 8, 2, 200
QUIET, QUIET_WITHIN_S = 10.0, 60  # percent of a core; ours reads ahead what it will show
PLAIN = Path(__file__).parents[1] / "peers" / "plain_service.py"


def units(types: Sequence[str]) -> list[Unit]:
    """Requests a second from several clients at once; no text is asked twice."""
    return [
        Unit(
            f"serve-{kind}",
            f"serve {CLIENTS} clients, {kind}",
            "FastAPI, SentenceTransformer",
            "requests/s",
            partial(_served, kind),
            more_is_better=True,
        )
        for kind in types
    ]


def _served(kind: str, setting: Setting) -> Race:
    if shutil.which("wrk") is None:
        raise NotHereError("wrk is not installed: `apt-get install wrk`")
    ours = [sys.executable, "-m", "twinrank.cli", "serve", str(setting.ranker_folder)]
    plain = [sys.executable, str(PLAIN), str(setting.data)]
    texts = setting.texts(kind, TEXTS)

    def started(name: str, command: list[str], more: dict[str, bool]) -> Service:
        port = _free_port()
        service = Service(name, [*command, "--port", f"{port}"], port, more)
        _wait_until_quiet(setting.open.enter_context(running(service)))
        return service

    def rate(service: Service) -> float:
        found = loaded(service, kind, texts, CLIENTS, SECONDS)
        if found.errors:
            raise RuntimeError(f"{service.name}: {found.errors} requests failed")
        return found.per_second

    one, other = started("twinrank", ours, {"explain": False}), started("plain", plain, {})
    return Race(partial(rate, one), partial(rate, other), most=3)


def _free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def _wait_until_quiet(process: psutil.Process) -> None:
    """Until it computes nothing, so that it takes nothing from the other."""
    every = [process, *process.children(recursive=True)]
    for each in every:
        each.cpu_percent()
    end = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < end:
        time.sleep(1)
        if sum([each.cpu_percent() for each in every]) < QUIET:
            return
