"""What one client, a dead worker or a locked database can take from all others: trials, a table.

Each trial starts a service of its own (no keys, loopback), does the harm, and asks meanwhile what a
neighbour gets. The neighbour asks from another address (127.0.0.2). Run it as

    python benchmarks/denial.py RANKER [--only headers,silent]

To see what an older version does, put its `src` on PYTHONPATH.
"""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

STARTED_WITHIN_S = 300
HARM_S = 15
QUESTION = {"text": "it wont let me in again", "k": 5}
SWAGGER = "/static/swagger/swagger-ui-bundle.js"


class Service:
    """A running service: its process, port, and ranker folder."""

    def __init__(self, process: subprocess.Popen[str], port: int, folder: Path) -> None:
        self.process, self.port, self.folder = process, port, folder
        self.address = f"http://127.0.0.1:{port}"

    @property
    def worker(self) -> psutil.Process:
        """Its process that ranks."""
        every = psutil.Process(self.process.pid).children()
        return next(each for each in every if "spawn_main" in " ".join(each.cmdline()))

    def get(self, path: str, timeout: float = 30) -> str:
        """A status, or what went wrong, and the seconds that took."""
        began = time.perf_counter()
        try:
            said = f"{httpx.get(f'{self.address}{path}', timeout=timeout).status_code}"
        except httpx.HTTPError as error:
            said = type(error).__name__
        return f"{said} ({time.perf_counter() - began:.2f} s)"

    def connect(self) -> socket.socket:
        """A connection on which nothing was sent."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def waits(self, seconds: float) -> list[float]:
        """The milliseconds that a neighbour waits for each of its questions, sorted."""
        found, end = [], time.monotonic() + seconds
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as client:
            while time.monotonic() < end:
                began = time.perf_counter()
                reply = client.post(f"{self.address}/v1/rank", json=QUESTION, timeout=60)
                took = time.perf_counter() - began
                found.append(1e3 * took if reply.status_code == 200 else float("inf"))
                time.sleep(0.02)
        return sorted(found)


@contextmanager
def served(ranker: Path, files: int | None = None) -> Iterator[Service]:
    """A service of a copy of the ranker, that has answered."""
    with tempfile.TemporaryDirectory() as home, socket.create_server(("127.0.0.1", 0)) as free:
        folder = shutil.copytree(ranker, Path(home) / "ranker")
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "twinrank.cli", "serve", str(folder), "--port", f"{port}"]
        if files:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True)
        service, end = Service(process, port, folder), time.monotonic() + STARTED_WITHIN_S
        try:
            while not service.get("/readyz").startswith("200"):
                if time.monotonic() > end:
                    raise SystemExit("the service does not answer")
                time.sleep(0.2)
            service.waits(2)
            yield service
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                for each in (*psutil.Process(process.pid).children(recursive=True), process):
                    each.kill()


@contextmanager
def harmed(harm: Callable[[], object], clients: int) -> Iterator[None]:
    """Some clients do harm, over and over."""
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            with suppress(httpx.HTTPError):
                harm()

    threads = [threading.Thread(target=go_on, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    yield
    over.set()


def spread(waits: list[float]) -> str:
    """The median, the 99th of a hundred, and the largest."""
    if not waits:
        return "no answer"
    high = waits[min(len(waits) - 1, int(len(waits) * 0.99))]
    return f"p50 {statistics.median(waits):.0f}, p99 {high:.0f}, max {waits[-1]:.0f} ms"


def send_headers(ranker: Path) -> str:
    """300 MB of headers on one connection."""
    with served(ranker) as service, service.connect() as client:
        before, sent, reply = service.worker.memory_info().rss, 0, b""
        client.settimeout(20)
        with suppress(OSError):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            for number in range(300):
                client.sendall(b"X-%d: " % number + b"x" * 1_000_000 + b"\r\n")
                sent += 1
            client.sendall(b"\r\n")
        with suppress(OSError):
            reply = client.recv(100)
        more = (service.worker.memory_info().rss - before) / 1e6
        return f"{reply[9:12].decode() or 'cut'} after {sent} MB, {more:+.0f} MB of memory"


def keep_silent(ranker: Path) -> str:
    """1,100 silent connections, where 1,024 files may be open."""
    with served(ranker, 1024) as service, ExitStack() as stack:
        silent = []
        for _ in range(1_100):
            with suppress(OSError):
                silent.append(stack.enter_context(service.connect()))
        time.sleep(1)
        said = [service.get("/healthz", 5) for _ in range(10)]
        time.sleep(14)
        still = 0
        for each in silent:
            each.setblocking(False)
            try:
                still += bool(each.recv(1))
            except BlockingIOError:
                still += 1
            except OSError:
                pass
        good = sum(each.startswith("200") for each in said)
        return f"healthz {good} of 10; open after 15 s: {still} of {len(silent)}"


def kill_workers(ranker: Path) -> str:
    """Ten kills of the one worker, at any moment."""
    noticed = []
    with served(ranker) as service:
        for turn in range(10):
            time.sleep(0.13 * turn)
            gone = service.worker
            began = time.monotonic()
            gone.kill()
            while True:
                with suppress(StopIteration, psutil.NoSuchProcess):
                    if service.worker.pid != gone.pid:
                        break
                time.sleep(0.01)
            noticed.append(time.monotonic() - began)
            if turn % 2:  # else the next is killed while it starts
                service.get("/readyz", 120)
    return f"another was started after {min(noticed):.2f} to {max(noticed):.2f} s"


def ask_much(ranker: Path) -> str:
    """Four clients with the largest batches."""
    texts = [(f"{i} client booking invoice refund " * 1_500)[:50_000] for i in range(64)]
    body = json.dumps([{"text": text} for text in texts])
    header = {"Content-Type": "application/json"}
    with served(ranker) as service:
        alone = service.waits(5)
        post = f"{service.address}/v1/rank"
        with harmed(lambda: httpx.post(post, content=body, headers=header, timeout=120), 4):
            time.sleep(2)
            found = service.waits(HARM_S)
        return f"{spread(found)} (alone {spread(alone)})"


def put_much(ranker: Path) -> str:
    """A PUT of 500 sections of 7,000 characters."""
    words = "client booking invoice refund calendar "
    sections = [{"title": f"{i}", "text": (f"{i} {words}" * 200)[:7_000]} for i in range(500)]
    with served(ranker) as service:
        said: list[str] = []

        def put() -> None:
            began = time.monotonic()
            body = {"title": "Long", "sections": sections}
            reply = httpx.put(f"{service.address}/v1/answers/long", json=body, timeout=120)
            said.append(f"{reply.status_code} after {time.monotonic() - began:.0f} s")

        thread = threading.Thread(target=put)
        thread.start()
        found = []
        while thread.is_alive():
            found += service.waits(1)
        return f"{spread(sorted(found))}; PUT {said[0]}"


def lock_database(ranker: Path) -> str:
    """Another process holds the write lock, and 40 verdicts wait."""
    with served(ranker) as service:
        other = sqlite3.connect(f"{service.folder}.feedback.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        def press() -> None:
            body = {"key": f"{time.time_ns()}", "text": "hello", "right": False}
            httpx.post(f"{service.address}/v1/feedback", json=body, timeout=60)

        with harmed(press, 40):
            time.sleep(1)
            said = [f"{path} {service.get(path)}" for path in ("/metrics", "/v1/stats", "/readyz")]
            other.execute("ROLLBACK")
            return ", ".join(said)


def fetch_files(ranker: Path) -> str:
    """16 clients fetch the largest static file, compressed."""
    with served(ranker) as service:
        alone = service.waits(5)
        with harmed(lambda: httpx.get(f"{service.address}{SWAGGER}", timeout=60), 16):
            time.sleep(1)
            return f"{spread(service.waits(HARM_S))} (alone {spread(alone)})"


TRIALS: dict[str, Callable[[Path], str]] = {
    "2 headers": send_headers,
    "2b silent": keep_silent,
    "3 kills": kill_workers,
    "6 batches": ask_much,
    "6 put": put_much,
    "7 locked": lock_database,
    "11 files": fetch_files,
}


def main(
    ranker: Path,
    only: Annotated[str, typer.Option(help="Trials, by parts of their names.")] = "",
) -> None:
    """Print what became of each trial."""
    table = Table("trial", "what", "got")
    for name, trial in TRIALS.items():
        if not only or any(part in name for part in only.split(",")):
            found = trial(ranker)
            table.add_row(name, (trial.__doc__ or "").rstrip("."), found)
            print(name, found, file=sys.stderr)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
