"""How fast sentences are chosen: articles that are too long, read within 128 tokens.

Articles are made of a data set's: each has a title, and as many lines as one of them, drawn from
the lines of all. Every fiftieth word is made up, so that the vocabulary grows as that of real
articles does. Run it as

    python benchmarks/text_selection.py DATA [--articles 100000] [--budget 128] [--out FILE]
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from twinrank.data import Dataset, Readable, readable_answers, split_sentences
from twinrank.data.text_selection import Idf, Selection
from twinrank.encoding import Encoder

MADE_UP = 50
Result = TypeVar("Result")


def main(
    data: Path,
    articles: Annotated[int, typer.Option(min=1, help="How many to make.")] = 100_000,
    budget: Annotated[int, typer.Option(min=3, help="Tokens the encoder reads.")] = 128,
    encoder: Annotated[str, typer.Option(help="Whose tokens to count.")] = "all-MiniLM-L6-v2",
    language: Annotated[str, typer.Option(help="Of sentences.")] = "english",
    out: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Print wall and processor seconds of each step, and of two parts of the second, alone."""
    made = _made(readable_answers(Dataset.load(data).answers), articles)
    count = Encoder(encoder, max_tokens=budget).count_tokens
    whole = [text.whole for text in made]
    idf, weighing = _timed(lambda: Idf.of(whole))
    read, choosing = _timed(lambda: Selection(idf, language, count, budget)(made))
    _, splitting = _timed(lambda: [split_sentences(text.sections[0], language) for text in made])
    tokens, counting = _timed(lambda: count(read))
    if tokens.max() > budget:
        over = int((tokens > budget).sum())
        raise SystemExit(f"{over:,} articles are read with more than {budget} tokens")
    steps = {
        "words weighed": weighing,
        "sentences chosen": choosing,
        "both": tuple(a + b for a, b in zip(weighing, choosing, strict=True)),
        "sentences split, alone": splitting,
        "tokens read counted, alone": counting,
    }
    figures = {
        "articles": articles,
        "characters": float(np.mean([len(text) for text in whole])),
        "too long": float(np.mean([a != b for a, b in zip(read, whole, strict=True)])),
        "tokens read": float(tokens.mean()),
        "cores": len(os.sched_getaffinity(0)),
    }
    if out:
        seconds = {
            name: dict(zip(("wall", "cpu"), pair, strict=True)) for name, pair in steps.items()
        }
        out.write_text(
            json.dumps({**figures, "seconds": seconds}, indent=2) + "\n", encoding="utf-8"
        )
    table = Table("step", title=", ".join(f"{name} {v:,.4g}" for name, v in figures.items()))
    table.add_column("wall", justify="right")
    table.add_column("processor", justify="right")
    for name, pair in steps.items():
        table.add_row(name, *(f"{value:.1f} s" for value in pair))
    Console().print(table)


def _timed(step: Callable[[], Result]) -> tuple[Result, tuple[float, ...]]:
    """What a step gives, and its wall and processor seconds."""
    began = time.perf_counter(), time.process_time()
    result = step()
    return result, (time.perf_counter() - began[0], time.process_time() - began[1])


def _made(articles: Sequence[Readable], number: int) -> list[Readable]:
    rng = np.random.default_rng(0)
    lines = [line for text in articles for line in text.sections[0].splitlines() if line]
    lengths = [text.sections[0].count("\n") + 1 for text in articles]
    made = []
    for _ in range(number):
        drawn = rng.integers(0, len(lines), rng.choice(lengths))
        words = " ".join(lines[line] + "\n" for line in drawn).split(" ")
        for place in range(rng.integers(MADE_UP), len(words), MADE_UP):
            words[place] = f"{rng.integers(2**40):x}"
        body = " ".join(words)
        title = articles[int(rng.integers(len(articles)))].title
        made.append(Readable(f"{title} {body}", title, (body,)))
    return made


if __name__ == "__main__":
    typer.run(main)
