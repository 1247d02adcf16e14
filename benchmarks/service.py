"""Measure the service under load: requests a second, latencies, changes, and a greedy neighbour.

Each load runs for some seconds with clients in threads of their own, after a warm-up; no text is
asked twice, since the service keeps features of texts it has met. Run it as

    python benchmarks/service.py RANKER DATA [--seconds 8] [--workers 1] [--out FILE]
    python benchmarks/measurements.py BEFORE.json AFTER.json

To measure another version, put its `src` on PYTHONPATH.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer

from measurements import Run
from twinrank import Dataset

CLIENTS = (1, 8, 64)
WARM_UP_S, START_TIMEOUT_S = 4, 300
BATCH_TEXTS, BATCH_CHARACTERS = 64, 50_000


def main(
    ranker: Path,
    data: Path,
    seconds: Annotated[int, typer.Option(min=1, help="Of each load.")] = 8,
    workers: Annotated[int, typer.Option(min=1, help="Of the service.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the run is written.")] = Path(
        "runs/bench/service.json"
    ),
) -> None:
    """Print and write every measurement."""
    run = Run(" ".join(sys.argv))
    frame = Dataset.load(data).split("test").frame
    texts = {kind: group["text"].to_list() for (kind,), group in frame.group_by("type")}
    with serve(ranker, workers) as (url, process):
        for kind, (explain, label) in itertools.product(
            sorted(texts), ((False, "ranked"), (True, "explained"))
        ):
            bodies = make_bodies(texts[kind], explain=explain)
            load(url, bodies, 8, WARM_UP_S)
            for clients in CLIENTS:
                name = f"{kind}, {label}, {clients} clients"
                record(run, name, load(url, bodies, clients, seconds), seconds)
        bodies = make_bodies(next(iter(texts.values())), explain=True)
        measure_changes(run, url, bodies, seconds)
        measure_neighbour(run, url, bodies, seconds)
        children = psutil.Process(process.pid).children(recursive=True)
        memory = sum(child.memory_info().rss for child in children) / 1e6
        run.add("memory of the workers", "MB", memory)
    run.save(out)


@contextmanager
def serve(ranker: Path, workers: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serve a copy of a ranker on a free port, until the block ends."""
    with tempfile.TemporaryDirectory() as home:
        folder, log = shutil.copytree(ranker, Path(home) / "ranker"), Path(home) / "log"
        command = [sys.executable, "-m", "twinrank.cli", "serve", str(folder), "--port", "0"]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, "--workers", f"{workers}", "--rate", "1000000"],
                stdout=stream,
                stderr=stream,
            )
        try:
            yield wait_for_service(process, log), process
        finally:
            process.terminate()
            process.wait(60)


def wait_for_service(process: subprocess.Popen[bytes], log: Path) -> str:
    """Give the address of a service once it is ready."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end and process.poll() is None:
        address = re.search(r"at (http://127\.0\.0\.1:\d+)", log.read_text())
        with suppress(httpx.HTTPError):
            if address and httpx.get(f"{address[1]}/readyz", timeout=30).status_code == 200:
                return address[1]
        time.sleep(0.2)
    raise SystemExit(f"the service does not start: {log.read_text()}")


def make_bodies(texts: list[str], *, explain: bool) -> Callable[[], bytes]:
    """Give questions in turn, each with a number that never comes twice."""
    numbers = itertools.count()

    def next_body() -> bytes:
        number = next(numbers)
        text = f"{texts[number % len(texts)]} {number}"
        return json.dumps({"text": text, "k": 5, "explain": explain}).encode()

    return next_body


def load(
    url: str,
    next_body: Callable[[], bytes],
    clients: int,
    seconds: float,
    address: str = "127.0.0.1",
) -> list[float]:
    """Ask for some seconds with so many clients; give every latency in seconds.

    Raises:
        SystemExit: if a question is refused.
    """
    latencies: list[float] = []
    refused: list[str] = []
    end = time.monotonic() + seconds

    def ask() -> None:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, timeout=120) as client:
            while time.monotonic() < end and not refused:
                began = time.perf_counter()
                reply = client.post(f"{url}/v1/rank", content=next_body(), headers=JSON)
                latencies.append(time.perf_counter() - began)
                if reply.status_code != 200:
                    refused.append(f"{reply.status_code} {reply.text[:200]}")

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise SystemExit(f"the service refused a question: {refused[0]}")
    return latencies


JSON = {"Content-Type": "application/json"}


def record(run: Run, name: str, latencies: list[float], seconds: float) -> None:
    """Keep the rate and the latencies of a load."""
    ordered = sorted(latencies)
    run.add(name, "requests/s", len(ordered) / seconds, lower_is_better=False)
    run.add(f"{name}: p50", "ms", 1e3 * ordered[len(ordered) // 2])
    run.add(f"{name}: p99", "ms", 1e3 * ordered[int(len(ordered) * 0.99)])


def measure_changes(run: Run, url: str, next_body: Callable[[], bytes], seconds: int) -> None:
    """Put answers one after another while eight clients ask."""
    over, puts = threading.Event(), []

    def change() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            answer: dict[str, Any] = {"title": f"Refund {number}", "text": f"Invoice {number}."}
            began = time.perf_counter()
            httpx.put(f"{url}/v1/answers/made", json=answer, timeout=60).raise_for_status()
            puts.append(time.perf_counter() - began)

    thread = threading.Thread(target=change)
    thread.start()
    latencies = load(url, next_body, 8, seconds)
    over.set()
    thread.join()
    record(run, "8 clients during changes", latencies, seconds)
    run.add("a change", "ms", *(1e3 * put for put in puts))


def measure_neighbour(run: Run, url: str, next_body: Callable[[], bytes], seconds: int) -> None:
    """Ask as one client while four others send the largest batches."""
    words = "client booking invoice refund calendar "
    texts = [(f"{i} {words}" * 1_500)[:BATCH_CHARACTERS] for i in range(BATCH_TEXTS)]
    body, over = json.dumps([{"text": text} for text in texts]).encode(), threading.Event()

    def ask_much() -> None:
        while not over.is_set():
            with suppress(httpx.HTTPError):
                httpx.post(f"{url}/v1/rank", content=body, headers=JSON, timeout=120)

    threads = [threading.Thread(target=ask_much, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    latencies = load(url, next_body, 1, seconds, address="127.0.0.2")
    over.set()
    record(run, "one client beside four greedy ones", latencies, seconds)


if __name__ == "__main__":
    typer.run(main)
