"""The command line: one short typed function a command; the logic lives in the rooms."""

from __future__ import annotations

import sys

try:
    import logging
    import os
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
except KeyboardInterrupt:  # the imports take a tenth of a second, and `main` is not there yet
    sys.exit(130)


def main() -> None:
    """Run a command; an error of the input is one clear line, and exit code 2."""
    try:
        _open_streams()
        app()
    except (TwinrankError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        say(_explain(error))
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _open_streams() -> None:
    """Have the standard streams take any text, and exist even where they were closed."""
    while (free := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file that is opened becomes one
        pass
    os.close(free)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 (for good)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logs = logging.StreamHandler()
    logs.setFormatter(VisibleFormatter("%(message)s"))
    logging.basicConfig(handlers=[logs], level=logging.WARNING)
    logging.getLogger("twinrank").setLevel(logging.INFO)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; check the path, its permissions and free space"
    return str(error)
