"""Erase what people wrote: verdicts, and what rankers and learnings have of them."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twinrank.data.beir import QUERIES, find_rows
from twinrank.data.records import read_json_lines
from twinrank.errors import FeedbackError
from twinrank.feedback.database import Feedback, make_storable
from twinrank.feedback.verdicts import Verdict, feedback_id, text_key
from twinrank.ranking import forget_past, read_manifest, writing

Matches = Callable[[str], bool]


@dataclass(frozen=True)
class Forgotten:
    """Counts of what was erased, or would be, and notes on where such texts stay."""

    verdicts: int = 0
    past_queries: int = 0
    learnings: int = 0
    notes: tuple[str, ...] = ()

    def describe(self, *, dry_run: bool) -> str:
        """Return the counts in words."""
        done = "would be erased" if dry_run else "erased"
        head = (
            f"{done}: {self.verdicts:,} verdicts; {self.past_queries:,} past queries of the ranker "
            f"and the one before it; {self.learnings:,} folders of learnings"
        )
        return "\n".join([head, *self.notes])


def forget(
    path: Path,
    feedback: Feedback | None,
    *,
    text: str | None = None,
    pattern: str | None = None,
    key: str | None = None,
    before: datetime | None = None,
    dry_run: bool = False,
    wait: bool = True,
) -> Forgotten:
    """Erase what people wrote, by one of four criteria, wherever a ranker's learning put it.

    Verdicts go from the database; past queries, with their vectors and votes, from the ranker and
    from the one behind it, so that no rollback brings them back; and the state that `learn` left
    beside the ranker goes whole. A killed call can be repeated: verdicts, by which the rest is
    found, go last. By key and by date, a text stays if a verdict that stays has it, too.

    Args:
        path: folder of the ranker.
        feedback: the database, or None if there is none.
        text: a part of the texts to erase, spaces and case aside.
        pattern: a regular expression that the texts to erase match somewhere.
        key: of a verdict, or the id of a past query.
        before: erase verdicts that are older, and what was learned of them.
        dry_run: only count.
        wait: for a learning that is under way; else that is an error, and nothing is erased.

    Raises:
        TwinrankError: if not exactly one criterion is given and usable, or the ranker or the
            database cannot be changed.
    """
    if sum(criterion is not None for criterion in (text, pattern, key, before)) != 1:
        raise FeedbackError("give one of --text, --pattern, --key and --before")
    matches = _build_matcher(text, pattern)

    def selects(verdict: Verdict) -> bool:
        return verdict.at < before if before else names(verdict.key, verdict.text)

    def names(id_: str | None, words: str) -> bool:
        return matches(words) if matches else key in {id_, feedback_id(words)} - {None}

    verdicts = feedback.verdicts() if feedback else []
    going = [verdict for verdict in verdicts if selects(verdict)]
    staying = {text_key(verdict.text) for verdict in verdicts if not selects(verdict)}
    learned = {text_key(verdict.text) for verdict in going} - staying

    def forgets(id_: str | None, past: str) -> bool:
        return names(id_, past) or (matches is None and text_key(past) in learned)

    learnings, gone = 0, set[str]()
    if going or not before:
        learnings = clear_learnings(path, dry_run=dry_run, wait=wait)
        gone = forget_past(path, forgets, dry_run=dry_run)
    if feedback and not dry_run:  # also without keys: a call before may have ended half-way
        feedback.erase([verdict.key for verdict in going])
    texts = {verdict.text for verdict in going} | gone
    notes = _find_elsewhere(path, matches, {text_key(text) for text in texts})
    return Forgotten(len(going), len(gone), learnings, tuple(notes))


def expire(
    path: Path, feedback: Feedback, *, dry_run: bool = False, wait: bool = True
) -> Forgotten:
    """Erase verdicts that are older than the database keeps them, and what was learned of them.

    Raises:
        TwinrankError: as `forget` does.
    """
    before = datetime.now(UTC) - timedelta(days=feedback.retention_days)
    if not feedback.search(until=before.date(), limit=0)[1]:
        return Forgotten()
    return forget(path, feedback, before=before, dry_run=dry_run, wait=wait)


def _build_matcher(text: str | None, pattern: str | None) -> Matches | None:
    """Return a function that tells which texts to erase by their words, if that is asked for."""
    if text is not None:
        wanted = text_key(make_storable(text))
        if not wanted:
            raise FeedbackError("--text is empty; give what stands in the texts to erase")
        return lambda candidate: wanted in text_key(make_storable(candidate))
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise FeedbackError(f"--pattern {pattern!r} is no regular expression: {error}") from None
    return lambda candidate: expression.search(candidate) is not None


def _find_elsewhere(path: Path, matches: Matches | None, keys: set[str]) -> list[str]:
    """Return notes on such texts in the operator's own files: the data set, and pages."""
    notes, manifest = [], read_manifest(path)
    folder = manifest.find_folder("data", path)
    if folder and (file := find_rows(folder, QUERIES)).is_file():
        queries = [f"{record.get('text')}" for _, record, _ in read_json_lines(file, [])]
        is_such = matches or (lambda query: text_key(query) in keys)
        if count := sum(map(is_such, queries)):
            notes.append(f"{file}: {count:,} such queries stay; remove them before you train again")
    elif manifest.origin.folder:
        notes.append(f"{manifest.origin.folder}: the data set is not there; look in it yourself")
    for page in sorted(path.glob("*.html")):
        content = text_key(html.unescape(page.read_text(encoding="utf-8", errors="replace")))
        if any(key in content for key in keys):
            notes.append(f"{page}: shows such a text; delete it")
    return notes


def learning_folder(ranker: Path) -> Path:
    """Return the folder beside a ranker in which its learnings keep their state."""
    return ranker.resolve().with_name(f"{ranker.resolve().name}.learning")


def clear_learnings(ranker: Path, *, dry_run: bool = False, wait: bool = True) -> int:
    """Remove the state of a ranker's unfinished learnings, once none is under way; count them."""
    home = learning_folder(ranker)
    if not home.is_dir():
        return 0
    with nullcontext() if dry_run else writing(home, wait=wait):
        works = [folder for folder in home.iterdir() if folder.is_dir()]
        for folder in [] if dry_run else works:
            shutil.rmtree(folder)
    return len(works)
