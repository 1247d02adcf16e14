"""The program: what all commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrank import __version__
from twinrank.console import PlainConsole, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twinrank.encoding import FeatureStore


app = typer.Typer(
    help="Train, measure and serve a document ranker for every kind of query alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

FileOption = partial(typer.Option, dir_okay=False)
FolderOption = partial(typer.Option, file_okay=False)
Data = Annotated[Path, typer.Argument(help="Data set: a folder in BEIR's layout.")]
DataOfRun = Annotated[
    Path | None, typer.Option(help="Data set; default: what the ranker was trained on.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse data of which anything would be left out.")
]
RankerFolder = Annotated[Path, typer.Argument(metavar="RANKER", help="Folder of a ranker.")]
RecipeName = Annotated[str, typer.Option(help="Name of a recipe, or a TOML file.")]
EncoderName = Annotated[str, typer.Option(help="Name or folder of an encoder.")]
MaxTokens = Annotated[int, typer.Option(min=8, help="Where the encoder cuts.")]
Split = Annotated[str, typer.Option(help="Split to measure on: train, validation or test.")]
Seed = Annotated[int, typer.Option(help="Decides everything random.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
OpenPage = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Track = Annotated[
    str | None,
    typer.Option(help="Tell a tracker of every epoch: tensorboard, wandb or mlflow."),
]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Ray cluster: host:port, auto, or local to try it."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes at once; default: one for each core.")
]
RayWorkers = Annotated[
    int | None, typer.Option(min=1, help="With --ray: processes; default: one for each core.")
]
RankIndex = Annotated[
    str | None, typer.Option(metavar="PLACE", help="Rank by an answer index; see `twinrank index`.")
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=VALUE,...",
        help="Only answers whose metadata have one of the values; repeatable, for more fields.",
    ),
]
FeedbackUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Database of feedback; default: RANKER.feedback.db."),
]


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


def check_workers(workers: int | None, ray: str | None) -> None:
    """Refuse --workers where there is no cluster whose workers they could be."""
    if workers and not ray:
        raise typer.BadParameter("--workers are those of a cluster: give --ray too")


def open_page(file: Path) -> None:
    """Show a page in the browser."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        say(f"no browser could be started; open {file} yourself")


def default_feedback(ranker: Path) -> str:
    """Return the database of feedback beside a ranker."""
    return f"{ranker.resolve()}.feedback.db"


def warn_of_few(counts: Mapping[str, int], split: str) -> None:
    """Say on stderr which types have so few queries that the gap and the worst type say little."""
    from twinrank.data.statistics import FEW

    few = [f"{kind} has {count:,}" for kind, count in counts.items() if count < FEW]
    if few and len(counts) > 1:
        typer.echo(
            f"beware of the gap and the worst type: with fewer than {FEW} queries in {split} a "
            f"type's figures say little, and {', '.join(few)}",
            err=True,
        )


def show(what: RenderableType | dict[str, Any] | list[Any]) -> None:
    """JSON for programs, anything else for people; a line of text as it is, however long."""
    import json as _json

    if isinstance(what, dict | list):
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        ascii_only = encoding.lower().replace("-", "") != "utf8"  # JSON is UTF-8, or ASCII
        say(_json.dumps(what, indent=2, ensure_ascii=ascii_only), err=False)
    elif isinstance(what, str):
        say(what, err=False)
    else:
        PlainConsole().print_tables(what)


def say(line: str, *, err: bool = True) -> None:
    """Print a line on stderr, or on stdout."""
    typer.echo(visible(line), err=err)


@contextmanager
def feature_store(
    ray: str | None, *, device: str, workers: int | None = None
) -> Iterator[FeatureStore]:
    """The feature store; what is new is encoded here, or by a cluster, joined as long as this."""
    from twinrank.encoding import FeatureStore

    if ray is None:
        yield FeatureStore()
        return
    from twinrank.cluster import connected, encode_on_cluster

    with connected(ray):
        yield FeatureStore(batches=partial(encode_on_cluster, workers=workers, device=device))
