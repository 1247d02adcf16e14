"""What twinrank does beside its peers: ratios, and what changed since the last run.

Each race is held in several passes; a pass is a process of its own, in which ours and the peer take
turns. What a pass has measured is on disk at once: kill it at any moment and run it again, and what
is done is kept. A whole run is compared with the last one on the same kind of machine and the same
data: a change is only called one where its interval excludes chance (see races/ratio.py). Run it as

    python benchmarks/run.py [DATA] [--only encode,rank] [--passes 5] [--seconds 4] [--fresh]

It leaves bench.json and bench.html in runs/bench/DATE, and the page as runs/bench/bench.html too.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from filelock import FileLock
from rich.console import Console

from races.kept import Held, about, before, begin, keep, place, whole
from races.others import used_by_others
from races.page import bench_page, bench_table
from races.race import NotHereError, Unit, turns_of
from races.results import results
from twinrank.data import Dataset
from twinrank.errors import TwinrankError
from twinrank.files import write_file
from twinrank.reports.page import check_installed

if TYPE_CHECKING:
    from races.setting import Setting

HELP_CENTRE = Path(__file__).parents[1] / "examples" / "help-centre"
OUT = Path("runs/bench")

log = logging.getLogger("bench")


def main(
    data: Annotated[Path, typer.Argument(help="Data set; else the bundled one.")] = HELP_CENTRE,
    only: Annotated[str, typer.Option(help="Races whose names begin so; all if empty.")] = "",
    passes: Annotated[int, typer.Option(min=2, help="Processes that measure all.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Of each race in a pass, about.")] = 4,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not go on where one ended.")] = False,
    out: Annotated[Path, typer.Option(help="The folder of all runs.")] = OUT,
) -> None:
    """Measure, write JSON and a page, and print a table."""
    from races.all import units

    check_installed()  # now, not when all is measured
    dataset = Dataset.load(data)
    chosen = named(units(dataset.types), only)
    known = f"{dataset.name} {dataset.fingerprint}"
    plan = about(known, [unit.name for unit in chosen], passes, seconds)
    folder = begin(out, plan, fresh=fresh)
    failed = [
        number
        for number in range(passes)
        if not all(place(folder, number, unit.name).exists() for unit in chosen)
        and not carried_out(one_pass, data, folder, number, [u.name for u in chosen], seconds)
    ]
    if failed:
        sys.exit("some races failed, as said above; run it again: what is done is kept")
    now = whole(folder)
    found = results(chosen, now, before(out, now))
    text = bench_page(found)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(bench_table(found))
    for file in (folder / "bench.html", out / "bench.html"):
        write_file(file, text)
    console.print(f"{folder / 'bench.json'}, {out / 'bench.html'}", soft_wrap=True)


def named(units: Sequence[Unit], only: str) -> list[Unit]:
    """Those whose names begin with one of the words between commas, or all."""
    words = tuple(word.strip() for word in only.split(",") if word.strip())
    chosen = [unit for unit in units if not words or unit.name.startswith(words)]
    idle = [word for word in words if not any(unit.name.startswith(word) for unit in units)]
    if idle:
        names = ", ".join(unit.name for unit in units)
        raise typer.BadParameter(f"no race begins with {idle[0]!r}; there are {names}")
    return chosen


def carried_out(work: Callable[..., None], *args: object) -> bool:
    """Whether work in a process of its own ended well."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=args)
    process.start()
    process.join()
    return process.exitcode == 0


def one_pass(data: Path, folder: Path, number: int, names: Sequence[str], seconds: float) -> None:
    """Hold the races that this pass still lacks; exit with 1 if any failed.

    Args:
        data: the folder of the data set.
        folder: of the run.
        number: of the pass.
        names: of the races.
        seconds: of each, about.
    """
    from races.all import units
    from races.setting import Setting

    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    chosen = [unit for unit in units(Dataset.load(data).types) if unit.name in names]
    with tempfile.TemporaryDirectory() as scratch, FileLock(folder / ".lock"):
        hold(chosen, Setting(data, number, Path(scratch), ExitStack()), folder, seconds)


def hold(units: Sequence[Unit], setting: Setting, folder: Path, seconds: float) -> None:
    """Hold each race that has no file yet, in order; a fault of one does not stop the others.

    Raises:
        SystemExit: in the end, if there was a fault.
    """
    failed = False
    for unit in units:
        file = place(folder, setting.number, unit.name)
        if file.exists():
            continue
        if (parent := multiprocessing.parent_process()) and not parent.is_alive():
            sys.exit("stopped: the process that began this is gone")
        log.info("pass %d: %s", setting.number, unit.title)
        others = used_by_others()
        try:
            with ExitStack() as setting.open:
                held = Held(tuple(turns_of(unit.prepare(setting), seconds)))
        except NotHereError as error:
            held = Held(missing=str(error))
        except Exception:  # of a library we measure against, too
            log.error("%s failed:\n%s", unit.name, traceback.format_exc())
            failed = True
            continue
        keep(file, held, others())
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except TwinrankError as error:
        sys.exit(f"{error}")
