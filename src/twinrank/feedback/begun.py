"""What a learning that was begun keeps to go on from after a kill: its verdicts, and its run."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from pydantic import TypeAdapter

from twinrank.data import Dataset
from twinrank.feedback.verdicts import Verdict
from twinrank.files import write_file
from twinrank.ranking import CURRENT, Ranker, writing

RUN, VERDICTS = "run", "verdicts.json"
KEPT = TypeAdapter(tuple[Verdict, ...])

log = logging.getLogger(__name__)


def home_of(ranker: Path) -> Path:
    """Give the folder beside a ranker in which its learnings work."""
    return ranker.resolve().with_name(f"{ranker.resolve().name}.learning")


def clear_begun(ranker: Path, *, dry_run: bool = False, wait: bool = True) -> int:
    """Remove what learnings of a ranker left to go on from, once none is under way.

    Returns:
        How many there were.

    Raises:
        RankerError: if one is under way, and this is not to wait for it.
    """
    home = home_of(ranker)
    if not home.is_dir():
        return 0
    with nullcontext() if dry_run else writing(home, wait=wait):
        works = [work for work in home.iterdir() if work.is_dir()]
        for work in [] if dry_run else works:
            shutil.rmtree(work)
    return len(works)


def folder_of(home: Path, old: Ranker, base: Dataset, hold_back: float) -> Path:
    """The folder of this very learning; those of others are removed."""
    answers = hashlib.sha256(old.answers.write_ndjson().encode()).hexdigest()
    same = [base.fingerprint, answers, old.recipe.values(), old.origin.seed, hold_back]
    work = home / hashlib.sha256(json.dumps(same).encode()).hexdigest()[:12]
    for other in home.iterdir():
        if other.is_dir() and other != work:
            shutil.rmtree(other)
    work.mkdir(exist_ok=True)
    return work


def begun_with(work: Path, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """The verdicts of a training that was begun and not finished, or those given, kept for it.

    Else a service that goes on collecting would make every killed one start over.
    """
    file, run = work / VERDICTS, work / RUN
    if file.exists():
        kept = KEPT.validate_json(file.read_bytes())
        before, now = ({verdict.key for verdict in some} for some in (kept, verdicts))
        unfinished = run.exists() and not (run / CURRENT).exists()
        if unfinished and before != now:
            said = (
                "%s: going on with %d verdicts; "
                "%d that came since, and %d that were taken back, wait for the next time"
            )
            log.warning(said, work.parent, len(before), len(now - before), len(before - now))
        if unfinished or before == now:
            return kept
    if run.exists():
        shutil.rmtree(run)
    write_file(file, KEPT.dump_json(tuple(verdicts)), private=True)
    return verdicts
