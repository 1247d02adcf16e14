"""The command line: one short typed function a command; the logic lives in the rooms."""

from __future__ import annotations

import logging
import sys

import typer

# Each adds its commands, in the order of `--help`.
# isort: off
from twinrank.cli import data, runs, rankers, service  # noqa: F401

# isort: on
from twinrank.cli.app import app
from twinrank.errors import TwinrankError


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


def _explain(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path, its permissions and free space"
    return str(error)
