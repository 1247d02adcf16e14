"""Commands that use a ranker: rank, measure, look into it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from twinrank.cli.common import (
    AsJson,
    Data,
    DataOfRun,
    Device,
    FileOption,
    OpenPage,
    RankerFolder,
    RankIndex,
    Split,
    Strict,
    app,
    open_page,
    say,
    show,
    warn_of_few,
)
from twinrank.errors import TwinrankError

PANEL = "Rankers"


@app.command(rich_help_panel=PANEL)
def rank(
    ranker: RankerFolder,
    text: Annotated[
        str | None,
        typer.Argument(
            help="A question or a conversation; left out: read from stdin. One that begins with a "
            "dash comes last, after `--`."
        ),
    ] = None,
    file: Annotated[
        Path | None, FileOption(help="Rank every line of a JSONL file with a `text` field.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many answers.")] = 5,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Give none if the first is less likely right.")
    ] = 0.0,
    why: Annotated[
        bool, typer.Option("--why", help="Show what each channel gave to the score.")
    ] = False,
    index: RankIndex = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Rank the answers for one text, for stdin (read whole), or for each line of a file.

    Example: `twinrank rank runs/first "it wont let me in again" --why --min-confidence 0.3`
    """
    if text is not None and file:
        raise typer.BadParameter("give a text or --file, not both")
    texts = _read_texts(text, file)  # before what takes seconds to import

    from twinrank.ranking import Ranker
    from twinrank.reports.terminal import ranking_table

    loaded = Ranker.load(ranker, device=device, index=index)
    rankings = loaded.rank(texts, k, min_confidence=min_confidence)
    if json:
        pairs = zip(texts, rankings, strict=True)
        show([{"query": t, "answers": [a.as_dict() for a in answers]} for t, answers in pairs])
        return
    for query, answers in zip(texts, rankings, strict=True):
        show(ranking_table(answers, query, why=why))


def _read_texts(text: str | None, file: Path | None) -> list[str]:
    """Read the texts to rank, of which none is empty."""
    if file:
        from twinrank.data import read_texts

        return read_texts(file)
    if text is None:
        try:
            text = sys.stdin.read().removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise TwinrankError("stdin is not UTF-8; convert it, as by `iconv -t UTF-8`") from None
    if not text.strip():
        raise TwinrankError("the text is empty; give it some words")
    return [text]


@app.command(rich_help_panel=PANEL)
def evaluate(
    ranker: RankerFolder,
    data: Data,
    split: Split = "test",
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Measure a ranker on a split: per query type, overall, at its worst, with intervals.

    A ranker that saw a validation split also knows how likely its first answer is right: then
    how true that is, and what share would be answered, how well, if it were silent below.

    Example: `twinrank evaluate runs/first examples/help-centre --split test`
    """
    from twinrank.data import Dataset
    from twinrank.encoding import FeatureStore
    from twinrank.evaluation import evaluate as measured
    from twinrank.ranking import Ranker
    from twinrank.reports.terminal import confidence_table, evaluation_table

    loaded = Ranker.load(ranker, store=FeatureStore(), device=device)
    evaluation = measured(loaded, Dataset.load(data, strict=strict), split=split)
    warn_of_few(evaluation.counts["types"], split)
    show(evaluation.as_dict() if json else evaluation_table(evaluation, f"{ranker}, {split}"))
    if evaluation.confidence and not json:
        show(confidence_table(evaluation))


@app.command(rich_help_panel=PANEL)
def geometry(
    rankers: Annotated[list[Path], typer.Argument(metavar="RANKER...", help="Folders of rankers.")],
    data: DataOfRun = None,
    split: Split = "test",
    page: Annotated[
        Path | None, FileOption(help="Write an HTML page with the centroids in the plane.")
    ] = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Show what rankers' spaces look like: what lies near what, and how types mix.

    Example: `twinrank geometry runs/first --page geometry.html`
    """
    from twinrank.data import Dataset
    from twinrank.encoding import FeatureStore
    from twinrank.evaluation import centroid_views
    from twinrank.evaluation import geometry as measured
    from twinrank.ranking import Ranker
    from twinrank.reports.geometry_report import geometry_table, write_geometry

    store = FeatureStore()
    loaded = {str(path): Ranker.load(path, store=store, device=device) for path in rankers}
    dataset = Dataset.load(data) if data else next(iter(loaded.values())).origin.dataset()
    spaces = [(name, measured(ranker, dataset, split=split)) for name, ranker in loaded.items()]
    if page:
        views = [(n, centroid_views(ranker, dataset, split=split)) for n, ranker in loaded.items()]
        write_geometry(page, spaces, views)
        say(f"written: {page}")
    show({name: g.as_dict() for name, g in spaces} if json else geometry_table(spaces))


@app.command(rich_help_panel=PANEL)
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; they are rankers too.")
    ],
    data: DataOfRun = None,
    split: Split = "test",
    out: Annotated[
        Path | None, FileOption(help="HTML file; default: report.html in RUN, here for several.")
    ] = None,
    open_: OpenPage = False,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Write one page about a run, or several side by side: what they reach, where they fail.

    Quality for each type with intervals, tests of differences from the first run, learning curves,
    confidence, the answers mistaken for each other, the worst misses, geometry, model cards.

    Example: `twinrank report runs/first --open`

    Example: `twinrank report runs/first runs/second --split validation --out report.html`
    """
    from twinrank.encoding import FeatureStore
    from twinrank.experiments import examine
    from twinrank.reports.page import check_installed

    check_installed()  # now, not when all is measured
    from twinrank.reports.run_report import write_report

    file = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    examined = examine(runs, data=data, split=split, store=FeatureStore(), device=device)
    write_report(examined, file)
    say(f"written: {file}")
    if json:
        show(examined.as_dict())
    if open_:
        open_page(file)
