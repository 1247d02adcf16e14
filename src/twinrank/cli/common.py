"""The program: what all commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from twinrank import __version__
from twinrank.console import PlainConsole, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twinrank.encoding import FeatureStore


class Commands(TyperGroup):
    """The commands; a text that begins with a dash is told from an option."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer's, which has its own click)
        """Invoke the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if type(error).__name__ == "NoSuchOption":
                mend = "a text or a path that begins so comes last, after `--`"
                error.message = f"{error.message}; {mend}"  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    cls=Commands,
    help="Train, measure and serve a document ranker for every kind of query alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

FileOption = partial(typer.Option, dir_okay=False)
FolderOption = partial(typer.Option, file_okay=False)
Data = Annotated[Path, typer.Argument(help="Data set: a folder in BEIR's layout.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse data of which anything would be left out.")
]
RankerFolder = Annotated[Path, typer.Argument(metavar="RANKER", help="Folder of a ranker.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Track = Annotated[
    str | None,
    typer.Option(help="Tell a tracker of every epoch: tensorboard, wandb or mlflow."),
]
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Ray cluster: host:port, auto, or local to try it."),
]
FeedbackUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Database of feedback; default: RANKER.feedback.db."),
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
