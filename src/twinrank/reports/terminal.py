"""Evaluations, comparisons and rankings as aligned tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from twinrank.encoding import CachedNetwork, StoreEntry
from twinrank.evaluation import METRICS, Evaluation
from twinrank.experiments import Comparison, Entry
from twinrank.files import write_file
from twinrank.ranking import RankedAnswer, Ranker
from twinrank.ranking.model_card import markdown, markdown_table

TYPES_SHOWN = 4  # more types than this are summed up as the worst and the gap


def evaluation_table(evaluation: Evaluation, title: str) -> Table:
    """Every metric, overall and by type, with its 95 % interval."""
    table = aligned(title)
    table.add_column("")
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
        label = Text(name).append(f"\n{count:,} queries", style="dim")
        table.add_row(label, *cells, end_section=name == "overall")
    if len(evaluation.types) > 1:
        table.add_section()
        table.add_row("worst type", *(figure(evaluation.worst[m]) for m in METRICS))
        table.add_row("gap", *(figure(evaluation.gap[m]) for m in METRICS))
    return table


def confidence_table(evaluation: Evaluation) -> Table:
    """Share of queries answered and accuracy@1 of those, by how sure a first answer must be."""
    found = evaluation.confidence
    table = aligned("Answered, and right first, if silent below a confidence:")
    table.add_column("")
    for name in found:
        table.add_column(Text(name), justify="right")
    for points in zip(*(calibration.curve for calibration in found.values()), strict=True):
        cells = [
            f"{p.coverage:4.0%}  {'-' if p.accuracy is None else figure(p.accuracy):>5}"
            for p in points
        ]
        table.add_row(f"{points[0].min_confidence:.1f}", *cells)
    table.add_section()
    table.add_row("calibration error", *(figure(c.error) for c in found.values()))
    return table


def quality_table(ranker: Ranker, path: Path) -> Table | Text:
    """What a run has left: the ranker, and what it reached on validation."""
    quality = ranker.origin.quality
    title = f"{path}: {ranker.recipe.name}, {ranker.answers.height:,} answers"
    if quality is None:
        return Text(f"{title}; nothing was trained")
    table = aligned(f"{title}; on the validation split:")
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
    return [write_file(path, text) for path, text in texts.items()]


def comparison_table(comparison: Comparison) -> Table:
    """A row a recipe: top-3 accuracy by type and MAP@10; spreads over seeds; intervals below."""
    table = aligned(_caption(comparison))
    for i, name in enumerate(_comparison_head(comparison)):
        if i == 0:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for entry in comparison.entries:
        cells = [
            Text(value).append(f"\n{around}", style="dim") if around else Text(value)
            for value, around in _comparison_cells(entry, comparison)
        ]
        table.add_row(Text(entry.recipe.name), *cells)
    return table


def comparison_markdown(comparison: Comparison) -> str:
    """The same table in Markdown."""
    rows = [_comparison_head(comparison)]
    for entry in comparison.entries:
        cells = [f"{v} ({a})" if a else v for v, a in _comparison_cells(entry, comparison)]
        rows.append([entry.recipe.name, *cells])
    return f"{markdown(_caption(comparison))}\n\n{markdown_table(rows)}\n"


def ranking_table(
    answers: Sequence[RankedAnswer], query: str, *, why: bool = False
) -> Table | Text:
    """One query's answers, best first; why: with what each channel gave to the score."""
    first = query.strip().splitlines()[0]
    title = Text(first if len(first) < 80 else first[:79] + "…", style="italic")
    if not answers:
        return title.append("\nno answer is likely enough to be right\n", style="bold")
    if answers[0].confidence is not None:
        title.append(f"\nthe first is right with probability {answers[0].confidence:.2f}")
    table = aligned(title)
    table.add_column("", justify="right")
    parts = list(answers[0].parts or {}) if why else []
    if why and not parts:
        title.append("\none channel alone gave the score")
    for name in ("score", *parts):
        table.add_column(name, justify="right")
    table.add_column("id", no_wrap=True)
    table.add_column("title")
    for answer in answers:
        given = [f"{answer.parts[name]:.2f}" for name in parts] if answer.parts else []
        cells = (str(answer.rank), f"{answer.score:.2f}", *given)
        table.add_row(*cells, Text(answer.id), Text(answer.title))
    return table


def cache_table(entries: Sequence[StoreEntry], root: Path) -> Table:
    """What the feature store holds, an encoder a row."""
    table = aligned(f"{root}: features of {len(entries)} encoders")
    for name in ("encoder", "tokens", "precision"):
        table.add_column(name)
    for name in ("texts", "MB"):
        table.add_column(name, justify="right")
    table.add_column("last use (UTC)")
    table.add_column("fingerprint")
    for entry in entries:
        size, used = f"{entry.bytes / 1e6:,.1f}", f"{entry.last_use:%Y-%m-%d %H:%M}"
        row = (entry.name, str(entry.max_tokens), entry.precision, f"{entry.texts:,}", size, used)
        table.add_row(*map(Text, (*row, entry.fingerprint[:12])))
    return table


def networks_table(networks: Sequence[CachedNetwork]) -> Table:
    """The encoders whose models are kept, converted for OpenVINO; one a row."""
    table = aligned(f"models of {len(networks)} encoders, converted for OpenVINO")
    table.add_column("fingerprint")
    table.add_column("MB", justify="right")
    for network in networks:
        table.add_row(Text(network.identity[:12]), f"{network.bytes / 1e6:,.1f}")
    return table


def figure(value: float) -> str:
    """Three decimals, without the zero that says nothing: .123, 1.234."""
    return f"{value:.3f}".removeprefix("0")


def interval(bounds: tuple[float, float] | None) -> str:
    """A 95 % interval: .120-.140, 2.33-3.11."""
    if bounds is None:
        return ""
    return "-".join(figure(b) if b < 1 else f"{b:.2f}" for b in bounds)


def _comparison_head(comparison: Comparison) -> list[str]:
    shown, parity = _types_shown(comparison)
    gap, worst = (["gap"], ["worst"]) if parity else ([], [])
    return ["recipe", "top-3", *shown, *gap, "MAP@10", *worst]


def _types_shown(comparison: Comparison) -> tuple[list[str], bool]:
    """The types with a column of their own, and whether there are several to be even over."""
    types = list(comparison.entries[0].mean.types)
    return (types if 1 < len(types) <= TYPES_SHOWN else []), len(types) > 1


def _comparison_cells(entry: Entry, comparison: Comparison) -> list[tuple[str, str]]:
    """Figure with spread, and interval, of each column but the first."""
    shown, parity = _types_shown(comparison)
    mean = entry.mean

    def cell(metric: str, kind: str | None = None) -> tuple[str, str]:
        figures = mean.types[kind] if kind else mean.overall
        around = mean.intervals["types"][kind] if kind else mean.intervals["overall"]
        return _with_spread(figures[metric], entry.spread(metric, kind)), interval(around[metric])

    row = [cell("accuracy@3"), *(cell("accuracy@3", kind) for kind in shown)]
    row += [(figure(mean.gap["accuracy@3"]), "")] if parity else []
    row += [cell("map@10")]
    return row + ([(figure(mean.worst["map@10"]), "")] if parity else [])


def _with_spread(value: float, spread: float | None) -> str:
    return figure(value) + (f"±{figure(spread)}" if spread is not None else "")


def _caption(comparison: Comparison) -> str:
    counts = comparison.entries[0].mean.counts
    by_type = ", ".join(f"{count:,} {kind}" for kind, count in counts["types"].items())
    seeds = max(len(entry.seeds) for entry in comparison.entries)
    spread = f"mean ± standard deviation over {seeds} seeds; " if seeds > 1 else ""
    return (
        f"{comparison.data}, {comparison.split} split: {counts['overall']:,} queries ({by_type}). "
        f"Top-3 accuracy and MAP@10: {spread}95 % bootstrap intervals over threads."
    )


def _label(metric: str) -> str:
    return metric.replace("accuracy", "acc").replace("map", "MAP")


def aligned(title: str | Text) -> Table:
    """A table in the style of the house, still without columns."""
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
