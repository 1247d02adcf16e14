"""Commands that use a ranker: rank, measure, look into it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrank.arguments import ASK_BELOW, ExportTool
from twinrank.cli.common import (
    AsJson,
    Conditions,
    DataOfRun,
    Device,
    FileOption,
    FolderOption,
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

if TYPE_CHECKING:
    from twinrank.evaluation import Evaluation

PANEL = "Rankers"
WITHOUT_RULES = "without its rules"
RUN_DEPTH = 1_000  # answers of a query in a run, as TREC has it


@app.command(rich_help_panel=PANEL)
def rank(
    ranker: RankerFolder,
    text: Annotated[
        str | None,
        typer.Argument(
            help="A question or conversation (with a dash first: after `--`); default: stdin."
        ),
    ] = None,
    file: Annotated[
        Path | None, FileOption(help="Rank every line of a JSONL file with a `text` field.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many answers.")] = 5,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Give none if the first is less likely right.")
    ] = 0.0,
    ask_below: Annotated[
        float, typer.Option(min=0, max=1, help="Ask back if it is less likely right; 0: never.")
    ] = ASK_BELOW,
    where: Conditions = None,
    why: Annotated[
        bool, typer.Option("--why", help="Show each signal's share, and words.")
    ] = False,
    index: RankIndex = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Rank the answers for one text, for stdin (read whole), or for each line of a file.

    Where the first answer is not likely enough, it names two or three to choose from.

    Example: `twinrank rank runs/first "it wont let me in again" --why --min-confidence 0.3`

    Example: `twinrank rank runs/first "refund" --where locale=da --where brand=acme,globex`
    """
    if text is not None and file:
        raise typer.BadParameter("give a text or --file, not both")
    texts = _read_texts(text, file)  # before what takes seconds to import

    from twinrank.ranking import CANDIDATES, Filter, Ranker
    from twinrank.reports.terminal import options_table, ranking_table

    wanted = Filter.parse(where or ())
    loaded = Ranker.load(ranker, device=device, index=index)
    loaded.check_min_confidence(min_confidence)
    printed = []
    rankings = loaded.rank(texts, max(k, CANDIDATES), where=wanted)
    for query, ranking in zip(texts, rankings, strict=True):
        ask = loaded.clarify(ranking, ask_below)
        withheld = bool(ranking) and (ranking[0].confidence or 0) < min_confidence
        answers = [] if withheld else ranking[:k]
        if json:
            rows = [answer.as_dict() for answer in answers]
            printed.append({"query": query, "answers": rows, "ask": [asdict(o) for o in ask]})
            continue
        words = loaded.leading_words(query, [answer.id for answer in answers]) if why else []
        show(ranking_table(answers, query, why=why, words=words, is_filtered=bool(where)))
        if ask:
            show(options_table(ask))
    if json:
        show(printed)


def _read_texts(text: str | None, file: Path | None) -> list[str]:
    """Read the texts to rank, of which none is empty."""
    if file:
        from twinrank.data.records import read_texts

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
    places: Annotated[
        list[Path],
        typer.Argument(metavar="RANKER DATA", help="Ranker; data set. With --from-run DATA alone."),
    ],
    split: Split = "test",
    run: Annotated[
        Path | None, FileOption(help="Write the ranker's rankings, 1,000 deep, as a TREC run.")
    ] = None,
    from_run: Annotated[
        Path | None, FileOption(help="Measure the TREC run of another system, beside the ranker.")
    ] = None,
    ignore_identical_ids: Annotated[
        bool,
        typer.Option("--ignore-identical-ids", help="Never rank the answer with the query's id."),
    ] = False,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Measure a ranker on a split: per query type, overall, at its worst, with intervals.

    A ranker that saw a validation split also knows how likely its first answer is right: then
    how true that is, and what share would be answered, how well, if it were silent below, or
    asked back. One with rules (pins and synonyms) is measured with them, and without.

    Example: `twinrank evaluate runs/first examples/help-centre --split test`

    Example: `twinrank evaluate runs/first data/mine --from-run search-engine.trec`
    """
    *rankers, data = places
    if len(rankers) > 1 or (run and not rankers) or not (rankers or from_run):
        raise typer.BadParameter(
            "give RANKER DATA; with --from-run and no --run, DATA alone will do"
        )

    from twinrank.data import Dataset, read_run, write_run
    from twinrank.encoding import FeatureStore
    from twinrank.evaluation import evaluate as measured
    from twinrank.evaluation import evaluate_run
    from twinrank.ranking import Ranker

    rankings = read_run(from_run) if from_run else None
    dataset = Dataset.load(data, strict=strict)
    settings: dict[str, Any] = {"split": split, "ignore_identical_ids": ignore_identical_ids}
    evaluations: dict[str, Evaluation] = {}
    for path in rankers:
        loaded = Ranker.load(path, store=FeatureStore(), device=device)
        depth = RUN_DEPTH if run else 0
        evaluation = measured(loaded, dataset, depth=depth, with_rules=True, **settings)
        if run and evaluation.run is not None:
            write_run(run, evaluation.run)
            say(f"written: {run}")
        evaluations[str(path)] = evaluation
        if loaded.rules:
            evaluations[WITHOUT_RULES] = measured(loaded, dataset, **settings)
    if rankings is not None:
        evaluations[str(from_run)] = evaluate_run(rankings, dataset, **settings)
    _show_evaluations(evaluations, split, json=json)


def _show_evaluations(evaluations: dict[str, Evaluation], split: str, *, json: bool) -> None:
    """Show a ranker, also without its rules, or a run; of two also the tests of the difference."""
    from twinrank.evaluation import compare_pairs
    from twinrank.reports.terminal import (
        asking_table,
        confidence_table,
        difference_rows,
        evaluation_table,
        fill_table,
        sum_up,
    )

    first, *others = ((Path(name).name, evaluation) for name, evaluation in evaluations.items())
    warn_of_few(first[1].counts["types"], split)
    differences = compare_pairs(
        (first, named) if named[0] == WITHOUT_RULES else (named, first) for named in others
    )
    if json:
        values, *rest = (
            evaluation.as_dict() | {"published": evaluation.published.as_dict()}
            for evaluation in evaluations.values()
        )
        names = ["without_rules" if name == WITHOUT_RULES else "run" for name, _ in others]
        beyond = {"differences": differences} if others else {}
        show(values | dict(zip(names, rest, strict=True)) | beyond)
        return
    for name, evaluation in evaluations.items():
        show(evaluation_table(evaluation, f"{name}, {split}\n{sum_up(evaluation)}"))
        if name == WITHOUT_RULES:
            continue
        show(evaluation_table(evaluation.published, "As BEIR and MTEB measure:"))
        if evaluation.confidence:
            show(confidence_table(evaluation))
            show(asking_table(evaluation))
    if differences:
        show(fill_table("Paired tests over threads:", difference_rows(differences, "arm")))


@app.command(rich_help_panel=PANEL)
def package(
    ranker: RankerFolder,
    out: Annotated[Path, typer.Option(help="A new folder.")],
) -> None:
    """Write a ranker with its encoder converted, to be served where torch is not installed.

    It ranks as before, on a CPU. `pip install 'twinrank[serve]'` is all that it needs.

    Example: `twinrank package runs/first --out deploy/first`
    """
    from twinrank.sharing.package import package as write_package

    write_package(ranker, out)
    say(f"written: {out}; now: twinrank serve {out}")


@app.command(rich_help_panel=PANEL)
def export(
    ranker: RankerFolder,
    to: Annotated[
        ExportTool,
        typer.Option(help="The tool that reads it: sentence-transformers, onnx or openvino."),
    ],
    out: Annotated[Path, FolderOption(help="New folder.")],
) -> None:
    """Write a ranker's encoder and towers, with its answers' vectors, for another tool.

    They are the dense signal alone; README.md in the folder says how to rank by it, and what it
    lacks. For a TREC run: `twinrank evaluate RANKER DATA --run FILE`.

    Example: `twinrank export runs/first --to sentence-transformers --out first-encoder`
    """
    from twinrank.ranking import Ranker
    from twinrank.sharing.export import export as write

    limits = write(Ranker.load(ranker), to, out)
    say(f"written: {out}")
    for limit in limits:
        say(f"not in it: {limit}")


@app.command(rich_help_panel=PANEL)
def push(
    ranker: RankerFolder,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make it private, if it is new.")
    ] = False,
    with_queries: Annotated[
        bool, typer.Option("--with-queries", help="Push texts of past queries, and rules, too.")
    ] = False,
) -> None:
    """Push a ranker to the Hugging Face hub, or to that of $HF_ENDPOINT.

    What others will be able to read is said first. The texts of past queries stay here: a ranker
    ranks the same without them. `Ranker.from_hub` opens it.

    Example: `twinrank push runs/first acme/support-ranker --private`
    """
    from twinrank.sharing.hub import push as send

    say(f"pushed: {send(ranker, name, private=private, with_queries=with_queries)}")


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
    from twinrank.files import write_file
    from twinrank.reports.run_report import run_page

    file = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    examined = examine(runs, data=data, split=split, store=FeatureStore(), device=device)
    write_file(file, run_page(examined))
    say(f"written: {file}")
    if json:
        show(examined.as_dict())
    if open_:
        open_page(file)
