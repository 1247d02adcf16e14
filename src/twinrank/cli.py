"""The command line: one short typed function a command; the logic lives in the rooms."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twinrank import __version__
from twinrank.errors import DataError, TwinrankError

if TYPE_CHECKING:
    from rich.console import RenderableType

FAULTS_SHOWN = 20

app = typer.Typer(
    help="Train, measure and serve a document ranker for every kind of query alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Data = Annotated[Path, typer.Argument(help="Data set: a folder in BEIR's layout.")]
RankerFolder = Annotated[Path, typer.Argument(metavar="RANKER", help="Folder of a ranker.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Track = Annotated[
    str | None,
    typer.Option(help="Tell a tracker of every epoch: tensorboard, wandb or mlflow."),
]
Split = Annotated[str, typer.Option(help="Split to measure on: train, validation or test.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("import")
def import_(
    out: Annotated[Path, typer.Argument(help="Folder for the data set.")],
    queries: Annotated[Path, typer.Option(help="Table of queries: CSV, TSV, JSONL or Parquet.")],
    answers: Annotated[Path, typer.Option(help="Table of answers.")],
    labels: Annotated[
        Path | None, typer.Option(help="Table of right answers, if the queries do not name them.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=NAME", help="A column's name: query_text=body; repeat."),
    ] = None,
    separator: Annotated[str, typer.Option(help="Between several right answers.")] = ";",
    cast_below: Annotated[
        int | None,
        typer.Option(min=1, help="Make questions of conversations with fewer characters."),
    ] = None,
    skip_faulty: Annotated[
        bool, typer.Option("--skip-faulty", help="Leave out rows that cannot be used.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Make a data set of tables of answers and queries.

    Columns are found by their usual names, such as id, title, text or content, type, answer.
    Without a column that says the split, all labels go to train: divide them with `split`.

    Example: `twinrank import data/mine --answers articles.csv --queries tickets.csv`
    """
    from twinrank.data import Columns, import_tables
    from twinrank.data import describe as described

    named = Columns.parse([*(column or []), f"separator={separator}"])
    dataset = import_tables(
        out,
        queries=queries,
        answers=answers,
        labels=labels,
        columns=named,
        cast_below=cast_below,
        skip_faulty=skip_faulty,
    )
    description = described(dataset)
    _print(description.as_dict() if json else description.tables())


@app.command()
def split(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the divided data set; may be DATA itself.")],
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of the threads.")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the threads.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Another seed divides otherwise.")] = 0,
    json: AsJson = False,
) -> None:
    """Divide the labels into train, validation and test; no thread falls in two of them.

    Example: `twinrank split data/mine --out data/mine --test 0.2`
    """
    from twinrank.data import Dataset
    from twinrank.data import describe as described
    from twinrank.data import split as divided

    divided(Dataset.load(data), validation=validation, test=test, seed=seed).save(out)
    description = described(Dataset.load(out))
    _print(description.as_dict() if json else description.tables())


@app.command()
def describe(
    data: Data,
    encoder: Annotated[
        str, typer.Option(help="Whose tokens to count; `none` counts none.")
    ] = "all-MiniLM-L6-v2",
    max_tokens: Annotated[int, typer.Option(min=8, help="Where the encoder cuts.")] = 128,
    json: AsJson = False,
) -> None:
    """Show what a data set holds: counts, balance of types, lengths, and what to beware of.

    Example: `twinrank describe examples/help-centre`
    """
    from twinrank.data import Dataset
    from twinrank.data import describe as described
    from twinrank.encode import Encoder

    count = None if encoder == "none" else Encoder(encoder, max_tokens=max_tokens).count_tokens
    description = described(Dataset.load(data), count, max_tokens)
    _print(description.as_dict() if json else description.tables())


@app.command()
def explore(
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="The page; default runs/DATA/explore.html.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Whose features to look at.")] = "all-MiniLM-L6-v2",
    max_tokens: Annotated[int, typer.Option(min=8, help="Where the encoder cuts.")] = 128,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Look at a data set before training: a page of findings, each with what to do about it.

    Balance of types, common and unused answers, what the encoder's limit cuts, labels that look
    wrong, near twins, the raw features in the plane, words that mark a type.

    Example: `twinrank explore examples/help-centre --open`
    """
    from twinrank.data import Dataset
    from twinrank.encode import Encoder, FeatureStore
    from twinrank.exploration import explore as explored
    from twinrank.exploration import findings
    from twinrank.report import check_installed, findings_table, write_exploration

    check_installed()  # now, not when all is computed
    dataset = Dataset.load(data)
    reader = Encoder(encoder, max_tokens=max_tokens, device=device)
    found = explored(dataset, reader, FeatureStore())
    file = write_exploration(out or Path("runs") / dataset.name / "explore.html", found)
    listed = findings(found)
    _print([finding.as_dict() for finding in listed] if json else findings_table(listed))
    typer.echo(f"written: {file}", err=True)
    if open_:
        typer.launch(str(file))


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the run; it becomes the ranker.")],
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")] = "even",
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on from what OUT holds, or start over.")
    ] = True,
    track: Track = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Carry out a recipe: encode what is new, fit the towers, leave a ranker.

    Run the same command again after a kill and it goes on from the last epoch.

    Example: `twinrank train examples/help-centre --recipe even --out runs/first`
    """
    from twinrank.data import Dataset
    from twinrank.encode import FeatureStore
    from twinrank.experiment import check_tracker, fit, tracking
    from twinrank.recipe import Recipe
    from twinrank.report import quality_table
    from twinrank.train import is_main

    check_tracker(track)
    chosen = Recipe.load(recipe)
    dataset = Dataset.load(data)
    with tracking(track, dataset, chosen, seed=seed, out=out) as tracker:
        ranker = fit(
            dataset,
            chosen,
            seed=seed,
            out=out,
            store=FeatureStore(),
            resume=resume,
            on_record=tracker.epoch,
            device=device,
        )
        tracker.reached(ranker.origin.quality)
    summary = {"ranker": str(out), "recipe": chosen.name, **ranker.origin.model_dump()}
    if is_main():  # of several that tuned together
        _print(summary if json else quality_table(ranker, out))


@app.command()
def evaluate(
    ranker: RankerFolder,
    data: Data,
    split: Split = "test",
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Measure a ranker on a split: per query type, overall, at its worst, with intervals.

    A ranker that saw a validation split also knows how likely its first answer is right: then
    how true that is, and what share would be answered, how well, if it were silent below.

    Example: `twinrank evaluate runs/first examples/help-centre --split test`
    """
    from twinrank.data import Dataset
    from twinrank.encode import FeatureStore
    from twinrank.evaluation import evaluate as measured
    from twinrank.report import confidence_table, evaluation_table
    from twinrank.search import Ranker

    loaded = Ranker.load(ranker, store=FeatureStore(), device=device)
    evaluation = measured(loaded, Dataset.load(data), split=split)
    _print(evaluation.as_dict() if json else evaluation_table(evaluation, f"{ranker}, {split}"))
    if evaluation.confidence and not json:
        _print(confidence_table(evaluation))


@app.command()
def rank(
    ranker: RankerFolder,
    text: Annotated[
        str | None, typer.Argument(help="A question or a conversation; left out: read from stdin.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Rank every line of a JSONL file with a `text` field.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many answers.")] = 5,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Give none if the first is less likely right.")
    ] = 0.0,
    why: Annotated[
        bool, typer.Option("--why", help="Show what each channel gave to the score.")
    ] = False,
    index: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Rank by an index, where `index --to` put it."),
    ] = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Rank the answers for one text, for stdin (read whole), or for each line of a file.

    Example: `twinrank rank runs/first "it wont let me in again" --why --min-confidence 0.3`
    """
    from twinrank.data import read_texts
    from twinrank.report import ranking_table
    from twinrank.search import Ranker

    if text is not None and file:
        raise typer.BadParameter("give a text or --file, not both")
    texts = read_texts(file) if file else [sys.stdin.read() if text is None else text]
    loaded = Ranker.load(ranker, device=device, index=index)
    rankings = loaded.rank(texts, k, min_confidence=min_confidence)
    if json:
        pairs = zip(texts, rankings, strict=True)
        _print([{"query": t, "answers": [a.as_dict() for a in answers]} for t, answers in pairs])
        return
    for query, answers in zip(texts, rankings, strict=True):
        _print(ranking_table(answers, query, why=why))


@app.command()
def index(
    ranker: RankerFolder,
    to: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="`local`, a folder, a Milvus Lite file FILE.db, or a Milvus server http://HOST:PORT.",
        ),
    ] = "local",
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on from what is there, or replace it."),
    ] = True,
    json: AsJson = False,
) -> None:
    """Put the vectors of a ranker's answers into an index, and check that they are there.

    `local` is the folder `index` in RANKER. Behind a Milvus place, `#NAME` names a collection
    (default `twinrank`); $MILVUS_TOKEN is its token. Run the same command again after a kill, or
    when answers have changed: it adds what is missing and removes what is gone.

    Example: `twinrank index runs/first --to answers.db`
    """
    from twinrank.search import Ranker

    loaded = Ranker.load(ranker)
    indexed = loaded.build_index(to, home=ranker, fresh=not resume, progress="Indexing")
    _print(indexed.as_dict() if json else str(indexed))


@app.command()
def compare(
    data: Data,
    recipes: Annotated[
        str | None, typer.Option(help="Names or TOML files, with commas between.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="A set of recipes with a page that explains them: handover.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many seeds for each recipe; 3, or 5 in a study.")
    ] = None,
    split: Split = "test",
    out: Annotated[
        Path | None, typer.Option(help="Folder for runs and tables; default runs/DATA.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at once; default: one for each core.")
    ] = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Encode once, train all, and put the recipes side by side in one table.

    Runs that OUT holds already are not done again. The table is also written there, as
    comparison.json and comparison.md; a study writes its tables, figures and page to OUT/STUDY.

    Example: `twinrank compare examples/help-centre --recipes bm25,zero-shot,even --seeds 3`

    Example: `twinrank compare examples/help-centre --study handover`
    """
    from twinrank.data import Dataset
    from twinrank.encode import FeatureStore
    from twinrank.experiment import compare as compared
    from twinrank.experiment import results, run_study, study_named
    from twinrank.recipe import Recipe
    from twinrank.report import (
        check_installed,
        comparison_table,
        study_tables,
        write_comparison,
        write_study,
    )

    if not recipes and not study:
        raise typer.BadParameter("give --recipes, or --study, or both")
    plan = study_named(study) if study else None
    if plan:
        check_installed()  # now, not when the runs are done
    chosen = [Recipe.load(name.strip()) for name in (recipes or "").split(",") if name.strip()]
    dataset = Dataset.load(data)
    home = out or Path("runs") / dataset.name
    store = FeatureStore()
    if plan:
        studied = run_study(
            plan,
            dataset,
            added=chosen,
            seeds=seeds or 5,
            split=split,
            out=home,
            store=store,
            device=device,
            workers=workers,
        )
        found = results(studied)
        written = write_study(found, studied.views, home / plan.name)
        _print(found if json else study_tables(found))
    else:
        comparison = compared(
            dataset,
            chosen,
            seeds=seeds or 3,
            split=split,
            out=home,
            store=store,
            device=device,
            workers=workers,
        )
        written = write_comparison(comparison, home)
        _print(comparison.as_dict() if json else comparison_table(comparison))
    for path in written:
        typer.echo(f"written: {path}", err=True)


@app.command()
def sweep(
    data: Data,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")] = "even",
    ranges: Annotated[
        Path | None,
        typer.Option(help="TOML with ranges; default: dropout, learning rate, batch, decay."),
    ] = None,
    objective: Annotated[
        Literal["loss", "worst-type"],
        typer.Option(help="Validation loss, or MAP@10 of the worst type."),
    ] = "loss",
    trials: Annotated[int, typer.Option(min=1, help="How many in all, over all calls.")] = 40,
    sampler: Annotated[
        Literal["tpe", "gp"], typer.Option(help="Parzen estimators, or a Gaussian process.")
    ] = "tpe",
    seed: Annotated[int, typer.Option(help="Of the search, and of every training.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default runs/DATA/sweeps/RECIPE-DIGEST.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database to share; default: SQLite in OUT."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at once; default: one for each core.")
    ] = None,
    track: Track = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Search for the values of a recipe that are best on validation, by Bayesian search.

    Run the same command again after a kill, or on another machine with the same --storage, and
    it takes part: at most the trials under way are lost. Writes best.toml, sweep.json and a page.

    Example: `twinrank sweep examples/help-centre --recipe residual --trials 40`
    """
    from twinrank.data import Dataset
    from twinrank.encode import FeatureStore
    from twinrank.experiment import check_tracker
    from twinrank.experiment.sweep import Ranges, Search
    from twinrank.experiment.sweep import sweep as swept
    from twinrank.recipe import Recipe
    from twinrank.report.sweep import sweep_table, write_sweep

    check_tracker(track)
    chosen = Recipe.load(recipe)
    dataset = Dataset.load(data)
    search = Search(dataset, chosen, Ranges.load(ranges, chosen), objective, seed)
    home = out or Path("runs") / dataset.name / "sweeps" / search.name
    found = swept(
        search,
        trials=trials,
        out=home,
        storage=storage,
        sampler=sampler,
        store=FeatureStore(),
        track=track,
        device=device,
        workers=workers,
    )
    written = write_sweep(found, home)
    _print(found.as_dict() if json else sweep_table(found))
    for path in written:
        typer.echo(f"written: {path}", err=True)


@app.command()
def serve(
    ranker: RankerFolder,
    host: Annotated[str, typer.Option(help="Address; beyond this machine it needs --keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that rank.")] = 1,
    index: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Rank by an answer index; see `twinrank index`."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(help="File of keys: `read KEY` or `write KEY` a line.")
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database of feedback; default: RANKER.feedback.db."),
    ] = None,
    rate: Annotated[
        int | None,
        typer.Option(min=1, help="Requests a minute by key or address; 6000 beyond this machine."),
    ] = None,
    log_texts: Annotated[bool, typer.Option("--log-texts", help="Log what is asked.")] = False,
    device: Device = "auto",
) -> None:
    """Serve a ranker: HTTP API, web page, feedback; follows the folder when the ranker changes.

    Pages at / and /admin, the API's description at /docs, Prometheus' figures at /metrics.

    Example: `twinrank serve runs/first --port 8000`
    """
    from twinrank.extras import check_installed

    check_installed("services", "serve", "fastapi", "uvicorn", "sqlalchemy", "limits")
    from twinrank.serve.server import serve as served
    from twinrank.serve.settings import RATE_BEYOND, Settings

    settings = Settings(
        ranker=ranker.resolve(),
        host=host,
        port=port,
        workers=workers,
        index=index,
        keys=keys and keys.resolve(),
        feedback=feedback or f"{ranker.resolve()}.feedback.db",
        rate=rate,
        log_texts=log_texts,
        device=device,
    )
    if rate is None and not settings.loopback:
        settings = settings.model_copy(update={"rate": RATE_BEYOND})
    served(settings, lambda address: typer.echo(f"serving {ranker} at {address}", err=True))


@app.command()
def geometry(
    rankers: Annotated[list[Path], typer.Argument(metavar="RANKER...", help="Folders of rankers.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Data set; default: where the first ranker was trained from."),
    ] = None,
    split: Split = "test",
    page: Annotated[
        Path | None, typer.Option(help="Write an HTML page with the centroids in the plane.")
    ] = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Show what rankers' spaces look like: what lies near what, and how types mix.

    Example: `twinrank geometry runs/first --page geometry.html`
    """
    from twinrank.data import Dataset
    from twinrank.encode import FeatureStore
    from twinrank.evaluation import centroid_views
    from twinrank.evaluation import geometry as measured
    from twinrank.report import geometry_table, write_geometry
    from twinrank.search import Ranker

    store = FeatureStore()
    loaded = {str(path): Ranker.load(path, store=store, device=device) for path in rankers}
    dataset = Dataset.load(data) if data else next(iter(loaded.values())).origin.dataset()
    spaces = [(name, measured(ranker, dataset, split=split)) for name, ranker in loaded.items()]
    if page:
        views = [(n, centroid_views(ranker, dataset, split=split)) for n, ranker in loaded.items()]
        write_geometry(page, spaces, views)
        typer.echo(f"written: {page}", err=True)
    _print({name: g.as_dict() for name, g in spaces} if json else geometry_table(spaces))


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; they are rankers too.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Data set; default: what the runs were trained on.")
    ] = None,
    split: Split = "test",
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; default: report.html in RUN, or here if there are several."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Write one page about a run, or several side by side: what they reach, where they fail.

    Quality for each type with intervals, tests of differences from the first run, learning curves,
    confidence, the answers mistaken for each other, the worst misses, geometry, model cards.

    Example: `twinrank report runs/first --open`

    Example: `twinrank report runs/first runs/second --split validation --out report.html`
    """
    import webbrowser

    from twinrank.encode import FeatureStore
    from twinrank.experiment import examine
    from twinrank.report import check_installed

    check_installed()  # now, not when all is measured
    from twinrank.report.run_page import write_report

    file = out or (runs[0] if len(runs) == 1 else Path()) / "report.html"
    examined = examine(runs, data=data, split=split, store=FeatureStore(), device=device)
    write_report(examined, file)
    typer.echo(f"written: {file}", err=True)
    if json:
        _print(examined.as_dict())
    if open_ and not webbrowser.open(file.resolve().as_uri()):
        typer.echo(f"no browser could be started; open {file} yourself", err=True)


@app.command()
def learn(
    ranker: RankerFolder,
    feedback: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database of feedback; default: RANKER.feedback.db."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data set; default: what the ranker was trained on.")
    ] = None,
    hold_back: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the feedback to measure on.")
    ] = 0.2,
    margin: Annotated[
        float, typer.Option(min=0, help="MAP@10 that a type may lose on the test split.")
    ] = 0.02,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compare, and leave the ranker as it is.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Put the ranker that was replaced in place again.")
    ] = False,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Train a ranker anew with what people said of it, and replace it if that is not worse.

    Old and new are compared for every type on the test split, which is a gate here and nothing
    else, and on feedback that was held back. A service that runs takes the new ranker up.

    Example: `twinrank learn runs/first --dry-run`

    Example: `twinrank learn runs/first --feedback postgresql://twinrank@db/feedback`
    """
    from contextlib import closing

    from twinrank.encode import FeatureStore
    from twinrank.experiment import learn as learned
    from twinrank.experiment import roll_back
    from twinrank.extras import check_installed
    from twinrank.report import learning_table

    if rollback:
        former = roll_back(ranker, store=FeatureStore(), device=device)
        summary = {"ranker": str(ranker), **former.origin.model_dump()}
        done = f"{ranker}: the ranker that was replaced is in place again, the other is kept"
        _print(summary if json else done)
        return
    check_installed("databases of feedback", "serve", "sqlalchemy")
    from twinrank.serve.feedback import Feedback

    url = feedback or f"{ranker.resolve()}.feedback.db"
    with closing(Feedback.open(url, create=False)) as opened:
        verdicts = opened.verdicts()
    learning = learned(
        ranker,
        verdicts,
        data=data,
        hold_back=hold_back,
        margin=margin,
        dry_run=dry_run,
        store=FeatureStore(),
        device=device,
    )
    _print(learning.as_dict() if json else learning_table(learning))


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is stored.")] = False,
    encoder: Annotated[
        str | None, typer.Option(help="With --clear: only the one whose fingerprint begins so.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --clear: do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Show what is stored of each encoder, and what computes it here; or clear it.

    Stored are features of texts, models converted for OpenVINO, and which backend a probe found
    faster. All of it is in `$TWINRANK_CACHE`, by default `~/.cache/twinrank/features`.

    Example: `twinrank cache`
    """
    from twinrank.encode import FeatureStore, clear_cache, kept_networks
    from twinrank.report import cache_table, networks_table

    store = FeatureStore()
    entries, networks = store.entries(), kept_networks()
    if clear:
        whose = f"of {encoder}" if encoder else "of all encoders"
        if not yes:
            typer.confirm(f"Remove what is stored {whose} from {store.root}?", abort=True)
        freed = clear_cache(store, encoder)
        _print({"freed_bytes": freed} if json else f"{freed / 1e6:,.1f} MB freed")
        return
    if json:
        features = [entry.as_dict() for entry in entries]
        _print({"features": features, "networks": [network.as_dict() for network in networks]})
        return
    _print(cache_table(entries, store.root))
    if networks:
        _print(networks_table(networks))


def _print(what: RenderableType | dict[str, Any] | list[Any]) -> None:
    """JSON for programs, anything else for people."""
    import json as _json

    from rich.console import Console

    if isinstance(what, dict | list):
        typer.echo(_json.dumps(what, indent=2, ensure_ascii=False))
    else:
        Console().print(what)


def _explain(error: Exception) -> str:
    if isinstance(error, DataError):
        shown = [str(fault) for fault in error.faults[:FAULTS_SHOWN]]
        more = len(error.faults) - len(shown)
        return "\n".join([*shown, *([f"... and {more:,} more faults"] if more else [])])
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path, its permissions and free space"
    return str(error)


def main() -> None:
    """Run a command; an error of the input is one clear line, and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("twinrank").setLevel(logging.INFO)
    try:
        app()
    except (TwinrankError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(_explain(error), err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
