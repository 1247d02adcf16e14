"""Commands for data sets: make one, divide it, look at it, plan for a larger one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrank.cli.common import (
    AsJson,
    Data,
    Device,
    EncoderName,
    FileOption,
    FolderOption,
    MaxTokens,
    OpenPage,
    Ray,
    RayWorkers,
    RecipeName,
    Seed,
    Strict,
    app,
    check_workers,
    feature_store,
    open_page,
    say,
    show,
)

if TYPE_CHECKING:
    from twinrank.data import Dataset, Description

PANEL = "Data"
CleanMail = Annotated[
    bool, typer.Option("--clean-mail", help="Cut quotes and signatures; leave auto-replies out.")
]
CleanChat = Annotated[
    bool, typer.Option("--clean-chat", help="Cut what the chat program and bots say to everybody.")
]
Export = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="With --from: the export.")
]
Source = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="Whose export the files are: zendesk, intercom, freshdesk, zammad, discourse or "
        "confluence. Or public data without files: ir_datasets:ID, hf:ID.",
    ),
]
QueriesTable = Annotated[
    Path | None, FileOption(help="Table of queries: CSV, JSON, JSONL, Excel or Parquet.")
]
LabelsTable = Annotated[
    Path | None, FileOption(help="Table of right answers, if the queries do not name them.")
]
ColumnNames = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=NAME", help="A column's name: query_text=body; repeat."),
]
Redact = Annotated[
    bool,
    typer.Option("--redact", help="Replace e-mail addresses, phone and other numbers of people."),
]
CastBelow = Annotated[
    int | None, typer.Option(min=1, help="Make questions of conversations with fewer characters.")
]
IncludeUnpublished = Annotated[
    bool, typer.Option("--include-unpublished", help="Drafts and internal articles too.")
]
KeepMarkup = Annotated[
    bool, typer.Option("--keep-markup", help="Leave HTML and Markdown as they are.")
]
SkipFaulty = Annotated[
    bool, typer.Option("--skip-faulty", help="Leave out rows that cannot be used.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Import anew, in place of the data set that is there.")
]


def _show_description(description: Description, *, json: bool) -> None:
    from twinrank.cli.dataset_tables import dataset_tables

    show(vars(description) if json else dataset_tables(description))


def _import(
    out: Path,
    source: str | None,
    files: list[Path],
    answers: Path | None,
    options: dict[str, Any],
    how: dict[str, Any],
) -> Dataset:
    """Import from where the options say; refuse those that do not go together."""
    from twinrank.data import import_collection, import_exports, import_tables

    if source and answers:
        raise typer.BadParameter("--from gives the answers: leave --answers out")
    if source and ":" in source:
        if files or any(options.values()):
            raise typer.BadParameter("public data takes no files and no options")
        return import_collection(out, source, fresh=how["fresh"])
    if source:
        return import_exports(out, files, source=source, **options, **how)
    if files or options.pop("include_unpublished") or not answers:
        raise typer.BadParameter("give --answers and --queries, or --from and the export's files")
    if not options["queries"] and any(options[n] for n in ("labels", "cast_below", "clean")):
        raise typer.BadParameter("without --queries there is nothing to label, cast or clean")
    return import_tables(out, answers=answers, **options, **how)


@app.command("import", rich_help_panel=PANEL)
def import_(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder for the data set.")],
    files: Export = None,
    from_: Source = None,
    queries: QueriesTable = None,
    answers: Annotated[Path | None, FileOption(help="Table of answers.")] = None,
    labels: LabelsTable = None,
    column: ColumnNames = None,
    separator: Annotated[str, typer.Option(help="Between several right answers.")] = ";",
    clean_mail: CleanMail = False,
    clean_chat: CleanChat = False,
    redact: Redact = False,
    cast_below: CastBelow = None,
    include_unpublished: IncludeUnpublished = False,
    keep_markup: KeepMarkup = False,
    skip_faulty: SkipFaulty = False,
    fresh: Fresh = False,
    json: AsJson = False,
) -> None:
    """Make a data set of tables of answers and queries, or of what a help desk exports.

    Columns are found by their usual names, such as id, title, text or content, type, answer.
    HTML and Markdown become text, their headings sections. Without a column that says the split,
    all labels go to train: divide them with `split`.

    Fields of --column: answer_id, answer_title, answer_text, answer_url, answer_sections,
    answer_section, query_id, query_title, query_text, query_type, query_thread, query_answer,
    query_split, label_query, label_answer, label_score, label_split.

    Example: `twinrank import data/mine --answers articles.csv --queries tickets.xlsx`

    Example: `twinrank import data/mine --from zendesk articles.json tickets.json`

    Example: `twinrank import data/scifact --from hf:mteb/scifact`
    """
    from twinrank.data import Columns
    from twinrank.data import describe as describe_data

    if not separator:
        raise typer.BadParameter("--separator: give one or more characters")
    columns = Columns.parse(column or [])
    if separator != Columns.separator:
        columns = replace(columns, separator=separator)
    steps = {"mail": clean_mail, "chat": clean_chat, "redact": redact}
    options: dict[str, Any] = {
        "queries": queries,
        "labels": labels,
        "clean": [step for step, asked in steps.items() if asked],
        "cast_below": cast_below,
        "skip_faulty": skip_faulty,
        "keep_markup": keep_markup,
        "include_unpublished": include_unpublished,
    }
    how = {"columns": columns, "fresh": fresh}
    dataset = _import(out, from_, files or [], answers, options, how)
    _show_description(describe_data(dataset), json=json)


@app.command(rich_help_panel=PANEL)
def bootstrap(
    data: Data,
    out: Annotated[Path, FolderOption(help="Folder for the data set; may be DATA itself.")],
    model: Annotated[
        str | None, typer.Option(help="A language model that writes questions too.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Its address, as OpenAI's API has it; default: OpenAI.")
    ] = None,
    recipe: RecipeName = "even",
    seed: Seed = 0,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Make questions of the articles, to train on where nobody has labelled a query yet.

    They are titles, headings and passages, and what a language model writes of each article if
    you name one; those stay that lead the recipe's untrained encoder back to their article. They
    are of the type `synthetic`, and are made anew each time. Then `train OUT`.

    Example: `twinrank bootstrap data/mine --out data/started`

    Example: `twinrank bootstrap data/mine --out data/started --model llama3.2 --endpoint
    http://localhost:11434/v1`
    """
    if endpoint and not model:
        raise typer.BadParameter("--endpoint: name the model, too, by --model")

    from twinrank.data import Dataset
    from twinrank.encoding import FeatureStore
    from twinrank.extras import check_installed
    from twinrank.recipe import Recipe
    from twinrank.reports.terminal import fill_table
    from twinrank.training import LanguageModel
    from twinrank.training import bootstrap as make_questions

    if model:
        check_installed("language models", "bootstrap", "openai")
    writer = LanguageModel(model, endpoint, out / "model-replies.jsonl") if model else None
    started = make_questions(
        Dataset.load(data, strict=strict, needs_queries=False),
        recipe=Recipe.load(recipe),
        model=writer,
        seed=seed,
        store=FeatureStore(),
        device=device,
    )
    started.dataset.save(out)
    counts = {"made": started.made, "used": started.used}
    if json:
        show(counts)
        return
    rows = [[name, f"{n:,}", f"{started.used.get(name, 0):,}"] for name, n in started.made.items()]
    total = [f"{sum(column.values()):,}" for column in counts.values()]
    head = ["made of", "questions", "lead back to their article"]
    show(fill_table("Synthetic questions:", [head, *rows, ["all", *total]]))
    say(f"written: {out}; now: twinrank train {out} --out runs/started")


@app.command(rich_help_panel=PANEL)
def split(
    data: Data,
    out: Annotated[Path, FolderOption(help="Folder for the divided data set; may be DATA itself.")],
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of the threads.")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the threads.")] = 0.15,
    seed: Seed = 0,
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Divide the labels into train, validation and test; no thread falls in two of them.

    Example: `twinrank split data/mine --out data/mine --test 0.2`
    """
    from twinrank.data import Dataset
    from twinrank.data import describe as describe_data
    from twinrank.data import split as divided

    dataset = Dataset.load(data, strict=strict)
    dataset = divided(dataset, validation=validation, test=test, seed=seed)
    if out.resolve() == data.resolve():
        dataset.save_labels(out)  # the rest stays as somebody wrote it
    else:
        dataset.save(out)
    _show_description(describe_data(replace(dataset, name=out.resolve().name)), json=json)


@app.command(rich_help_panel=PANEL)
def describe(
    data: Data,
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Show what a data set holds: counts, balance of types, and what to beware of.

    Example: `twinrank describe examples/help-centre`
    """
    from twinrank.data import Dataset
    from twinrank.data import describe as describe_data

    _show_description(describe_data(Dataset.load(data, strict=strict)), json=json)


@app.command(rich_help_panel=PANEL)
def explore(
    data: Data,
    out: Annotated[
        Path | None, FileOption(help="The page; default runs/DATA/explore.html.")
    ] = None,
    encoder: EncoderName = "all-MiniLM-L6-v2",
    max_tokens: MaxTokens = 128,
    open_: OpenPage = False,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Look at a data set before training: a page of findings, each with what to do about it.

    Balance of types, common and unused answers, what the encoder's limit cuts, labels that look
    wrong, near twins, the raw features in the plane, words that mark a type.

    Example: `twinrank explore examples/help-centre --open`
    """
    from twinrank.data import Dataset
    from twinrank.encoding import Encoder, FeatureStore
    from twinrank.exploration import explore as explored
    from twinrank.files import write_file
    from twinrank.reports.exploration_report import exploration_page, findings_table
    from twinrank.reports.page import check_installed

    check_installed()  # now, not when all is computed
    dataset = Dataset.load(data, strict=strict)
    reader = Encoder(encoder, max_tokens=max_tokens, device=device)
    exploration = explored(dataset, reader, FeatureStore())
    file = out or Path("runs") / dataset.name / "explore.html"
    write_file(file, exploration_page(exploration))
    findings = exploration.findings
    show([finding.as_dict() for finding in findings] if json else findings_table(findings))
    say(f"written: {file}")
    if open_:
        open_page(file)


@app.command(rich_help_panel=PANEL)
def encode(
    data: Data,
    recipe: RecipeName = "even",
    ray: Ray = None,
    workers: RayWorkers = None,
    device: Device = "auto",
    strict: Strict = False,
    json: AsJson = False,
) -> None:
    """Encode what a recipe reads of a data set; later commands find it in the feature store.

    Features are stored every few seconds: run the same command again after a kill, and only what
    is missing is encoded.

    Example: `twinrank encode examples/help-centre --recipe even`

    Example: `twinrank encode data/mine --ray 10.0.0.5:6379`
    """
    from twinrank.data import Dataset
    from twinrank.errors import TwinrankError
    from twinrank.experiments.runs import encode as encoded
    from twinrank.ranking import encoder_of
    from twinrank.recipe import Recipe

    check_workers(workers, ray)
    chosen = Recipe.load(recipe)
    if not chosen.encoder or chosen.tuning:
        reason = "tunes an encoder of its own" if chosen.tuning else "takes no encoder"
        raise TwinrankError(f"{chosen.name} {reason}: there is nothing to encode ahead of a run")
    dataset = Dataset.load(data, strict=strict)
    encoders = [encoder_of(chosen, device, name=n) for n in (None, *chosen.encoder.others)]
    with feature_store(ray, device=device, workers=workers) as store:
        before = [store.count_texts(encoder) for encoder in encoders]
        encoded(dataset, chosen, store=store, device=device)
        after = [store.count_texts(encoder) for encoder in encoders]
    summaries = [
        {
            "encoder": encoder.name,
            "max_tokens": encoder.max_tokens,
            "precision": encoder.precision,
            "new": stored - start,
            "stored": stored,
        }
        for encoder, start, stored in zip(encoders, before, after, strict=True)
    ]
    line = "{encoder}, {max_tokens} tokens, {precision}: {new:,} texts encoded, {stored:,} stored"
    lines = "\n".join(line.format(**summary) for summary in summaries)
    show({"encoders": summaries} if json else lines)


@app.command(rich_help_panel=PANEL)
def plan(
    answers: Annotated[
        float | None, typer.Option(help="How many: 1e8; default: those of --data.")
    ] = None,
    queries: Annotated[
        float | None, typer.Option(help="Labelled, to train on; default: those of --data.")
    ] = None,
    qps: Annotated[float, typer.Option(help="Questions a second to rank.")] = 0.0,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Machines with one, such as h200.")
    ] = None,
    cpu: Annotated[
        int | None, typer.Option(min=1, help="Machines with so many cores; default: as here.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="Beside the cores; default: assumed.")
    ] = None,
    within: Annotated[float, typer.Option(metavar="HOURS", help="In which to encode.")] = 24.0,
    recipe: RecipeName = "even",
    data: Annotated[
        Path | None, typer.Option(help="Data set whose texts are like those planned for.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Estimate what a size takes that is not at hand: memory, disk, hours, machines.

    Times of a processor come from constants that were measured on one core, those of a GPU from
    its published peak and an assumed share of it. What the figures rest on is said below.

    Example: `twinrank plan --answers 1e8 --queries 1e9 --qps 5000 --gpu h200`

    Example: `twinrank plan --data examples/help-centre --answers 1e5 --cpu 16 --recipe residual`
    """
    import os

    from twinrank.data import Dataset
    from twinrank.planning import build_workload, find_machine
    from twinrank.planning import plan as estimate
    from twinrank.recipe import Recipe
    from twinrank.reports.plan_report import plan_table

    if gpu and cpu:
        raise typer.BadParameter("give --gpu or --cpu, not both")
    machine = find_machine(gpu=gpu, cpu=cpu or os.cpu_count() or 1, memory_gb=memory)
    texts = Dataset.load(data) if data else None
    chosen = Recipe.load(recipe)
    workload = build_workload(chosen, answers=answers, queries=queries, qps=qps, data=texts)
    estimated = estimate(workload, machine, within_hours=within)
    show(estimated.as_dict() if json else plan_table(estimated))
