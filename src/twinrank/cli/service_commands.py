"""Commands around a service: the index, the service, gaps in the answers, forgetting."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from twinrank.arguments import GAP_BELOW
from twinrank.cli.common import (
    AsJson,
    Conditions,
    Device,
    DryRun,
    FeedbackUrl,
    RankerFolder,
    RankIndex,
    Ray,
    app,
    default_feedback,
    say,
    show,
)
from twinrank.errors import TwinrankError
from twinrank.extras import check_installed

PANEL = "Service"
Host = Annotated[str, typer.Option(help="Address; beyond this machine it needs --keys.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
KeysFile = Annotated[
    Path | None,
    typer.Option(help="File of keys: `read|feedback|write KEY [NAME] [FIELD=VALUE ...]` a line."),
]
Rate = Annotated[
    int | None,
    typer.Option(min=1, help="Requests a minute by key or address; 6000 beyond this machine."),
]
RestoreDays = Annotated[
    float, typer.Option(min=0, help="How long a deleted answer can be restored.")
]
Shadow = Annotated[
    Path | None,
    typer.Option(metavar="RANKER", help="Another ranker, compared with this one, unseen."),
]
Interleave = Annotated[
    bool, typer.Option("--interleave", help="Show answers of both rankers, picked in turn.")
]
Origins = Annotated[
    list[str] | None,
    typer.Option(metavar="URL", help="Another site whose pages may call the API; repeatable."),
]
KeepFeedbackDays = Annotated[
    int | None,
    typer.Option(min=1, max=36_500, help="Erase verdicts so old; default: as before, or 365."),
]
ShowPastQueries = Annotated[
    bool,
    typer.Option(
        "--show-past-queries", help="Show the texts of past queries to all without a filter."
    ),
]
LogTexts = Annotated[bool, typer.Option("--log-texts", help="Log what is asked.")]
LogAddresses = Annotated[bool, typer.Option("--log-addresses", help="Log the address of who asks.")]
Redact = Annotated[
    bool,
    typer.Option(
        "--redact", help="Replace e-mail addresses and numbers of people in what is asked."
    ),
]


@app.command(rich_help_panel=PANEL)
def index(
    ranker: RankerFolder,
    to: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="`local`, postgresql://USER@HOST/DATABASE, a Milvus Lite file FILE.db, or a "
            "Milvus server http://HOST:PORT.",
        ),
    ] = "local",
    resume: Annotated[
        bool,
        typer.Option("--resume/--fresh", help="Go on from what is there, or make it anew beside."),
    ] = True,
    json: AsJson = False,
) -> None:
    """Put the vectors of a ranker's answers into an index, and check that they are there.

    `local` is a FAISS file in the ranker's folder. Behind another place, `#NAME` names the tables
    or collections (default `twinrank`), and `?shards=N&replicas=N&consistency=LEVEL` says how a
    Milvus server holds and searches them; $MILVUS_TOKEN is its token. Run the same command again
    after a kill, or when answers have changed: it adds what is missing and removes what is gone.
    With `--fresh` readers keep the index that is there until the new one is whole.

    Example: `twinrank index runs/first --to answers.db`

    Example: `twinrank index runs/first --to 'http://milvus:19530?shards=2&replicas=2'`
    """
    from twinrank.ranking import index_folder

    indexed = index_folder(ranker, to, fresh=not resume, progress="Indexing")
    show(indexed.as_dict() if json else str(indexed))


@app.command(rich_help_panel=PANEL)
def serve(
    ranker: RankerFolder,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that rank.")] = 1,
    ray: Ray = None,
    index: RankIndex = None,
    keys: KeysFile = None,
    feedback: FeedbackUrl = None,
    where: Conditions = None,
    rate: Rate = None,
    restore_days: RestoreDays = 7.0,
    origin: Origins = None,
    keep_feedback_days: KeepFeedbackDays = None,
    show_past_queries: ShowPastQueries = False,
    log_texts: LogTexts = False,
    log_addresses: LogAddresses = False,
    redact: Redact = False,
    shadow: Shadow = None,
    interleave: Interleave = False,
    device: Device = "auto",
) -> None:
    """Serve a ranker: API, pages at /, /admin and /docs, /metrics; follow changes of its folder.

    Example: `twinrank serve runs/first --port 8000`

    Example: `twinrank serve /shared/first --ray auto --workers 8 --feedback postgresql://twinrank@db/feedback`
    """
    check_installed("services", "serve", "fastapi", "uvicorn", "sqlalchemy", "limits")
    from twinrank.service import server
    from twinrank.service.settings import Settings

    settings = Settings(
        ranker=ranker.resolve(),
        host=host,
        port=port,
        workers=workers,
        index=index,
        keys=keys and keys.resolve(),
        feedback=feedback or default_feedback(ranker),
        where=tuple(where or ()),
        rate=rate,
        restore_days=restore_days,
        origins=tuple(origin or ()),
        log_texts=log_texts,
        log_addresses=log_addresses,
        redact=redact,
        show_past_queries=show_past_queries,
        keep_feedback_days=keep_feedback_days,
        shadow=shadow and shadow.resolve(),
        interleave=interleave,
        device=device,
    )
    if ray:
        check_installed("services on clusters", "cluster", "ray", "grpc_reflection")
        from twinrank.cluster.serving import serve_on_cluster

        serve_on_cluster(settings, ray, say)
    else:
        server.serve(settings, say)


@app.command(rich_help_panel=PANEL)
def forget(
    ranker: RankerFolder,
    text: Annotated[
        str | None, typer.Option(help="What stands in the texts; spaces and case do not count.")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="A regular expression that is found in the texts.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Key of a verdict, or id of a past query.")
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Verdicts that are older than this day (UTC)."),
    ] = None,
    feedback: FeedbackUrl = None,
    dry_run: DryRun = False,
    json: AsJson = False,
) -> None:
    """Erase what people wrote: verdicts, and what the ranker and the one before it learned of them.

    A service that runs takes the changed ranker up; a rollback brings nothing back.

    Example: `twinrank forget runs/first --text jane@example.org --dry-run`

    Example: `twinrank forget runs/first --before 2026-01-31`
    """
    check_installed("databases of feedback", "serve", "sqlalchemy")
    from twinrank.feedback import forget as forgetting
    from twinrank.feedback.database import Feedback

    asked: dict[str, Any] = {"text": text, "pattern": pattern, "key": key}
    asked["before"] = before and before.replace(tzinfo=UTC)
    url = feedback or default_feedback(ranker)
    exists = feedback is not None or Path(url).exists()
    database = closing(Feedback.open(url, create=False)) if exists else nullcontext()
    with database as opened:
        forgotten = forgetting.forget(ranker, opened, **asked, dry_run=dry_run)
    show(vars(forgotten) if json else forgotten.describe(dry_run=dry_run))


@app.command(rich_help_panel=PANEL)
def gaps(
    ranker: RankerFolder,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Queries too: a data set, of which those without a label, or JSONL with `text`.",
        ),
    ] = None,
    below: Annotated[
        float, typer.Option(min=0, max=1, help="A first answer less likely right is a bad one.")
    ] = GAP_BELOW,
    k: Annotated[int, typer.Option("-k", min=1, help="How many topics.")] = 10,
    feedback: FeedbackUrl = None,
    device: Device = "auto",
    json: AsJson = False,
) -> None:
    """Find topics that people ask about and that are answered badly: which article to write next.

    Reads the verdicts of the feedback database, if it is there. A query is answered badly if none
    of its verdicts names a right answer, or, where it has no verdict, by the ranker's confidence.

    Example: `twinrank gaps runs/first`

    Example: `twinrank gaps runs/first --queries tickets.jsonl --below 0.3`
    """
    url = feedback or default_feedback(ranker)
    has_verdicts = feedback is not None or Path(url).exists()
    if not (has_verdicts or queries):
        raise TwinrankError(f"{url}: no verdicts yet; serve the ranker, or give --queries PATH")
    if has_verdicts:
        check_installed("databases of feedback", "serve", "sqlalchemy")

    import polars as pl

    from twinrank.encoding import FeatureStore
    from twinrank.feedback.gaps import find_gaps, read_queries
    from twinrank.feedback.labels import judge_texts
    from twinrank.ranking import Ranker
    from twinrank.reports.gaps_report import gaps_table

    asked = [read_queries(queries)] if queries else []
    if has_verdicts:
        from twinrank.feedback.database import Feedback

        with closing(Feedback.open(url, create=False)) as opened:
            asked.append(judge_texts(opened.verdicts()))
    loaded = Ranker.load(ranker, store=FeatureStore(), device=device)
    answered = find_gaps(loaded, pl.concat(asked), k, below=below)
    show(answered.model_dump() if json else gaps_table(answered))


@app.command(rich_help_panel=PANEL)
def mcp(
    url: Annotated[str, typer.Argument(help="Address of a running service.")],
) -> None:
    """Give a language model the tool `find_answers`: an MCP server on standard input and output.

    The key of a service that has keys is in $TWINRANK_KEY.

    Example: `twinrank mcp http://127.0.0.1:8000`
    """
    check_installed("tools for language models", "mcp", "mcp", "httpx")
    from twinrank.client import AsyncClient
    from twinrank.client.mcp_server import build_server

    build_server(AsyncClient(url, os.environ.get("TWINRANK_KEY"))).run()
