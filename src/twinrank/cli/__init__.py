"""The command line: one short typed function a command; the logic lives in the rooms."""

from __future__ import annotations

import logging
import os
import sys
from io import TextIOWrapper

# Each adds its commands, in the order of `--help`.
# isort: off
from twinrank.cli import (  # noqa: F401
    data_commands,
    training_commands,
    ranker_commands,
    service_commands,
)

# isort: on
from twinrank.cli.common import app, say
from twinrank.console import VisibleFormatter
from twinrank.errors import TwinrankError


def main() -> None:
    """Run a command; an error of the input is one clear line, and exit code 2."""
    try:
        _set_up_streams()
        app()
    except (TwinrankError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            reason = error.strerror or error
            say(f"{where}{reason}; check the path, its permissions and free space")
        else:
            say(str(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        say("stopped; run the same command again to go on")
        raise SystemExit(130) from None


def _set_up_streams() -> None:
    """Have the standard streams take any text, and log to stderr."""
    if sys.stdin is None:  # closed
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 (for good)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logs = logging.StreamHandler()
    logs.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(handlers=[logs], level=logging.WARNING)
    logging.getLogger("twinrank").setLevel(logging.INFO)
