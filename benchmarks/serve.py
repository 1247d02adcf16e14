"""The service under load, beside one that a team would write in an afternoon.

Both get the same texts over loopback, each with a number of its own behind it, so that no text is
asked twice: ours keeps features of what it met before. The other one encodes with
SentenceTransformer, cut at as many tokens, and gives ids, titles and cosines; ours gives all
channels' ranking, with and without sections, sentences and past queries. Each service runs alone,
while wrk asks; both were warmed. Run it as

    python benchmarks/serve.py RANKER DATA [--seconds 10] [--workers 1] [--ray] [--soak 0]
        [--out FILE]
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

from twinrank import Dataset

CLIENTS = (1, 8, 64)
WARM_S = 5
QUIET_S = 60
STARTED_WITHIN_S = 300
# wrk's script: each thread sends the bodies in turn, and a number that never comes twice.
SCRIPT = """
local bodies, thread_number = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
function setup(thread) thread:set("number", thread_number); thread_number = thread_number + 1 end
function init() sent = os.time() * 1000 end
function request()
  sent = sent + 1
  local body = bodies[sent %% #bodies + 1]:gsub("NUMBER", number .. "-" .. sent)
  return wrk.format("POST", "/v1/rank", {["Content-Type"] = "application/json"}, body)
end
function done(summary, latency)
  local e = summary.errors
  print(string.format("RESULT %%d %%d %%d %%d %%d", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Measured:
    """One service under one load."""

    service: str
    type: str
    clients: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


@dataclass(frozen=True)
class Service:
    """How a service is started, and what it is asked beside the text."""

    name: str
    command: list[str]
    port: int
    more: dict[str, Any]


def main(
    ranker: Path,
    data: Path,
    seconds: Annotated[int, typer.Option(min=1, help="Of each measurement.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Of ours.")] = 1,
    ray: Annotated[bool, typer.Option(help="Ours also behind Ray Serve, on this machine.")] = False,
    soak: Annotated[int, typer.Option(help="Seconds at 64 clients at the end; 0 for none.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print requests a second and latencies, and their ratios."""
    if shutil.which("wrk") is None:
        raise SystemExit("no wrk: `apt-get install wrk`")
    asked = Dataset.load(data).split("test").frame.sort("type")
    groups = asked.group_by("type", maintain_order=True).agg("text")
    texts: dict[str, list[str]] = dict(groups.iter_rows())
    python = sys.executable
    ours = [python, "-m", "twinrank.cli", "serve", str(ranker), "--workers", f"{workers}"]
    plain = [python, str(Path(__file__).parent / "peers" / "plain_service.py"), str(data)]
    services = [
        Service("plain", [*plain, "--port", "8701"], 8701, {}),
        Service("twinrank", [*ours, "--port", "8702"], 8702, {"explain": False}),
        Service("twinrank, explained", [*ours, "--port", "8702"], 8702, {"explain": True}),
    ]
    if ray:
        behind = [*ours, "--port", "8703", "--ray", "local"]
        services.insert(2, Service("twinrank, on Ray", behind, 8703, {"explain": False}))
    found: list[Measured] = []
    for service in services:
        with running(service):
            if service.more.get("explain"):
                time.sleep(QUIET_S)  # it reads ahead what it will show
            for kind, some in texts.items():
                loaded(service, kind, some, 8, WARM_S)
                found += [loaded(service, kind, some, n, seconds) for n in CLIENTS]
    show(found)
    soaked = None
    if soak:
        soaked = endured(services[-1], texts, soak)
        Console().print_json(data=soaked)
    if out:
        rows = [asdict(each) for each in found]
        out.write_text(json.dumps({"load": rows, "soak": soaked}, indent=2) + "\n")


@contextmanager
def running(service: Service) -> Iterator[psutil.Process]:
    """The process of a service that answers."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(service.command, stderr=log) as process:
        try:
            answering(service, process)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def answering(service: Service, process: subprocess.Popen[bytes]) -> None:
    """Wait until a service answers."""
    end = time.monotonic() + STARTED_WITHIN_S
    body = {"text": "hello", "k": 1, **service.more}
    while True:
        with suppress(httpx.TransportError):
            httpx.post(f"http://127.0.0.1:{service.port}/v1/rank", json=body, timeout=30)
            return
        if time.monotonic() > end or process.poll() is not None:
            raise SystemExit(f"{service.name} does not answer")
        time.sleep(0.2)


def loaded(service: Service, kind: str, texts: list[str], clients: int, seconds: int) -> Measured:
    """Ask for some seconds with so many clients at once."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = [{"text": f"{text} NUMBER", "k": 5, **service.more} for text in texts]
        lines = Path(folder, "bodies")
        lines.write_text("\n".join(map(json.dumps, bodies)))
        script = Path(folder, "ask.lua")
        script.write_text(SCRIPT % lines)
        load = ["-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
        command = ["wrk", *load, f"http://127.0.0.1:{service.port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    if result is None:
        raise SystemExit(f"wrk said: {done.stdout}")
    requests, took_us, p50_us, p99_us, errors = map(int, result.groups())
    rate = requests / (took_us / 1e6)
    return Measured(service.name, kind, clients, rate, p50_us / 1e3, p99_us / 1e3, errors)


def endured(service: Service, texts: dict[str, list[str]], seconds: int) -> dict[str, Any]:
    """What a long load of all types does to errors and to memory."""
    every = [text for some in texts.values() for text in some]
    with running(service) as process:
        loaded(service, "all", every, 64, 30)
        memory, total, errors = [resident(process)], 0.0, 0
        for _ in range(max(1, seconds // 60)):
            part = loaded(service, "all", every, 64, 60)
            total += part.per_second * 60
            errors += part.errors
            memory.append(resident(process))
    return {"seconds": seconds, "requests": round(total), "errors": errors, "memory_mb": memory}


def resident(process: psutil.Process) -> int:
    """Megabytes that a process and its children hold."""
    every = [process, *process.children(recursive=True)]
    held: int = sum(each.memory_info().rss for each in every)
    return round(held / 1e6)


def show(found: list[Measured]) -> None:
    """The table; ratios are to the plain service under the same load."""
    plain = {(m.type, m.clients): m for m in found if m.service == "plain"}
    table = Table("type", "clients", "service")
    for name in ("requests/s", "ratio", "p50", "p99", "errors"):
        table.add_column(name, justify="right")
    for m in sorted(found, key=lambda m: (m.type, m.clients)):
        base = plain[m.type, m.clients]
        ratio = m.per_second / base.per_second if base.per_second else math.nan
        figures = (f"{m.per_second:.1f}", f"{ratio:.2f}")
        times = (f"{m.p50_ms:.0f} ms", f"{m.p99_ms:.0f} ms", f"{m.errors}")
        table.add_row(m.type, f"{m.clients}", m.service, *figures, *times)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
