"""What changing answers costs a service under load: those who change them, and those who ask.

Eight clients ask conversations (`wrk`, as in `serve.py`) for some seconds in which nothing changes,
and for as long again in which answers are put, one after another: those of the ranker, each time
with something new in every section, under new ids and in place of what they put before. The
service has a copy of the ranker. Run it as

    python benchmarks/changes.py RANKER DATA [--seconds 20] [--rounds 3] [--index PLACE]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from serve import Service, loaded, running
from twinrank import Dataset, Ranker

CLIENTS = 8
WARM_S = 5
NEW = 20  # answers that come, and are then put again and again


def main(
    ranker: Path,
    data: Path,
    seconds: Annotated[int, typer.Option(min=1, help="Of each measurement.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured.")] = 3,
    index: Annotated[str | None, typer.Option(help="As for `twinrank serve`.")] = None,
) -> None:
    """Print rankings a second and latencies while answers stay, and while they change."""
    if shutil.which("wrk") is None:
        raise SystemExit("no wrk: `apt-get install wrk`")
    queries = Dataset.load(data).split("test").frame
    texts = queries.filter(queries["type"] == queries["type"].min())["text"].to_list()
    table = Table(
        "answers", "rankings/s", "p50, ms", "p99, ms", "errors", "puts, p50 / p99 / max, s"
    )
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ranker, Path(folder, "ranker"))
        more = ["--index", index] if index else []
        command = [sys.executable, "-m", "twinrank.cli", "serve", str(copy), "--port", "8702"]
        service = Service("twinrank", [*command, *more], 8702, {"explain": False})
        bodies = changes(Ranker.load(copy))
        with running(service), ThreadPoolExecutor(1) as asking:
            loaded(service, "all", texts, CLIENTS, WARM_S)
            for _ in range(rounds):
                for name in ("stay", "change"):
                    asked = asking.submit(loaded, service, "all", texts, CLIENTS, seconds)
                    took = put(service, bodies, seconds) if name == "change" else []
                    m = asked.result()
                    figures = (f"{m.per_second:.1f}", f"{m.p50_ms:.0f}", f"{m.p99_ms:.0f}")
                    table.add_row(name, *figures, f"{m.errors}", told(took))
    Console().print(table)


def changes(ranker: Ranker) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ids and bodies of answers to put, without end, no text twice."""
    rows = ranker.answers.head(NEW).select("title", "text", "sections").to_dicts()
    for number in count():
        row = rows[number % len(rows)]
        sections = [{**part, "text": f"{number} {part['text']}"} for part in row["sections"]]
        body = {**row, "text": f"{number} {row['text']}", "sections": sections}
        yield f"new-{number % len(rows)}", body


def put(
    service: Service, answers: Iterator[tuple[str, dict[str, Any]]], seconds: float
) -> list[float]:
    """Put answers for some seconds; how many seconds each took."""
    took = []
    end = time.monotonic() + seconds
    with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as client:
        while time.monotonic() < end:
            id_, body = next(answers)
            begun = time.monotonic()
            client.put(f"/v1/answers/{id_}", json=body).raise_for_status()
            took.append(time.monotonic() - begun)
    return took


def told(took: list[float]) -> str:
    """How many there were, and how long they took."""
    if not took:
        return "-"
    median, late = np.quantile(took, [0.5, 0.99])
    return f"{len(took)}: {median:.2f} / {late:.2f} / {max(took):.2f}"


if __name__ == "__main__":
    typer.run(main)
