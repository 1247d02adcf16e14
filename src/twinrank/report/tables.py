"""Evaluations, comparisons and rankings as aligned tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from twinrank.encode.store import StoreEntry
from twinrank.evaluate import METRICS, Evaluation
from twinrank.experiment import Comparison, Entry
from twinrank.search import RankedAnswer, Ranker

TYPES_SHOWN = 4  # more types than this are summed up as the worst and the gap


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """Every metric, overall and by type, with its 95 % interval."""
    table = _table(title)
    table.add_column("")
    table.add_column("queries", justify="right")
    for metric in METRICS:
        table.add_column(_label(metric), justify="right")
    rows = {"overall": (evaluation.overall, evaluation.counts["overall"])}
    rows |= {k: (f, evaluation.counts["types"][k]) for k, f in evaluation.types.items()}
    for name, (figures, count) in rows.items():
        intervals = evaluation.intervals
        around = intervals["overall"] if name == "overall" else intervals["types"][name]
        cells = [
            Text(figure(figures[m])).append("\n" + interval(around[m]), style="dim")
            for m in METRICS
        ]
        table.add_row(name, f"{count:,}", *cells, end_section=name == "overall")
    if len(evaluation.types) > 1:
        table.add_section()
        table.add_row("worst type", "", *(figure(evaluation.worst[m]) for m in METRICS))
        table.add_row("gap", "", *(figure(evaluation.gap[m]) for m in METRICS))
    return table


def quality_table(ranker: Ranker, path: Path) -> Table:
    """What a run has left: the ranker, and what it reached on validation."""
    quality = ranker.origin.quality
    title = f"{path}: {ranker.recipe.name}, {ranker.answers.height:,} answers"
    if quality is None:
        return _table(f"{title}; nothing was trained")
    table = _table(f"{title}; on the validation split:")
    table.add_column("")
    for metric in METRICS:
        table.add_column(_label(metric), justify="right")
    for name, figures in {"overall": quality, **quality["types"]}.items():
        table.add_row(name, *(figure(figures[m]) for m in METRICS))
    return table


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison as comparison.json and comparison.md; give their paths."""
    texts = {
        folder / "comparison.json": json.dumps(comparison.as_dict(), indent=2) + "\n",
        folder / "comparison.md": comparison_markdown(comparison),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return list(texts)


def comparison_table(comparison: Comparison) -> Table:
    """A row a recipe: accuracy@3 and MAP@10, overall and by type, mean and spread over seeds."""
    head, rows = _comparison_cells(comparison)
    table = _table(_caption(comparison))
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def comparison_markdown(comparison: Comparison) -> str:
    """The same table in Markdown."""
    head, rows = _comparison_cells(comparison)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{_caption(comparison)}\n\n{body}\n"


def ranking_table(answers: Sequence[RankedAnswer], query: str) -> Table:
    """One query's answers, best first."""
    first = query.strip().splitlines()[0]
    table = _table(Text(first if len(first) < 80 else first[:79] + "…", style="italic"))
    table.add_column("", justify="right")
    table.add_column("score", justify="right")
    table.add_column("id", no_wrap=True)
    table.add_column("title")
    for answer in answers:
        score = f"{answer.score:.2f}"
        table.add_row(str(answer.rank), score, Text(answer.id), Text(answer.title))
    return table


def cache_table(entries: Sequence[StoreEntry], root: Path) -> Table:
    """What the feature store holds, an encoder a row."""
    table = _table(f"{root}: features of {len(entries)} encoders")
    for name in ("encoder", "tokens", "precision"):
        table.add_column(name)
    for name in ("texts", "MB"):
        table.add_column(name, justify="right")
    table.add_column("last use (UTC)")
    table.add_column("fingerprint", overflow="fold")
    for entry in entries:
        size, used = f"{entry.bytes / 1e6:,.1f}", f"{entry.last_use:%Y-%m-%d %H:%M}"
        row = (entry.name, str(entry.max_tokens), entry.precision, f"{entry.texts:,}", size, used)
        table.add_row(*map(Text, (*row, entry.fingerprint)))
    return table


def figure(value: float) -> str:
    """Three decimals, without the zero that says nothing: .123, 1.234."""
    return f"{value:.3f}".removeprefix("0")


def interval(bounds: tuple[float, float] | None) -> str:
    """A 95 % interval: .120-.140."""
    return "" if bounds is None else f"{figure(bounds[0])}-{figure(bounds[1])}"


def _comparison_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    types = list(comparison.entries[0].mean.types)
    shown = types if 1 < len(types) <= TYPES_SHOWN else []
    parity = ["worst", "gap"] if len(types) > 1 else []
    head = ["recipe", "seeds", "top-3", "95 %", *shown, *parity, "MAP@10", "95 %", *parity]
    return head, [_comparison_row(entry, shown, bool(parity)) for entry in comparison.entries]


def _comparison_row(entry: Entry, shown: Sequence[str], parity: bool) -> list[str]:
    mean, row = entry.mean, [entry.recipe.name, str(len(entry.seeds))]
    for metric, kinds in (("accuracy@3", shown), ("map@10", ())):
        row += [_with_spread(mean.overall[metric], entry.spread(metric))]
        row += [interval(mean.intervals["overall"][metric])]
        row += [_with_spread(mean.types[k][metric], entry.spread(metric, k)) for k in kinds]
        row += [figure(mean.worst[metric]), figure(mean.gap[metric])] if parity else []
    return row


def _with_spread(value: float, spread: float | None) -> str:
    return figure(value) + (f" ±{figure(spread)}" if spread is not None else "      ")


def _caption(comparison: Comparison) -> str:
    counts = comparison.entries[0].mean.counts
    by_type = ", ".join(f"{count:,} {kind}" for kind, count in counts["types"].items())
    return (
        f"{comparison.data}, {comparison.split} split: {counts['overall']:,} queries ({by_type}); "
        "mean ± standard deviation over seeds, 95 % bootstrap intervals over threads"
    )


def _label(metric: str) -> str:
    return metric.replace("accuracy", "acc").replace("map", "MAP")


def _table(title: str | Text) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
