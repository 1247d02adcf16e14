"""Erasing what people wrote: verdicts, what rankers learned of them, what learning left of them."""

from __future__ import annotations

import asyncio
import html
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twinrank.data.files import QUERIES
from twinrank.data.records import read_json_lines
from twinrank.errors import FeedbackError, TwinrankError
from twinrank.feedback.begun import clear_begun
from twinrank.feedback.database import Feedback
from twinrank.feedback.tables import plain
from twinrank.feedback.verdicts import Verdict, feedback_id, text_key
from twinrank.ranking import forget_past, read_manifest

EVERY_S = 3600.0
Holds = Callable[[str], bool]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forgotten:
    """What was erased, or would be.

    Attributes:
        verdicts: of the database.
        past_queries: different texts, of the ranker and of the one that `learn` keeps behind it.
        learnings: what an unfinished or a dry `learn` left to go on from.
        notes: what else is to be known, a line each.
    """

    verdicts: int
    past_queries: int
    learnings: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give plain JSON values."""
        return asdict(self)

    def said(self, *, dry_run: bool) -> str:
        """Say it in words."""
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
    from the one that is kept behind it, so that no rollback brings them back; and what `learn`
    left beside the ranker goes whole. A killed call is made again: verdicts, by which the rest is
    found, go last.

    Args:
        path: folder of the ranker.
        feedback: the database; none if there is none.
        text: what stands in the texts to erase, spaces and case aside.
        pattern: a regular expression that is found in the texts to erase.
        key: of a verdict, or the id of a past query.
        before: verdicts that are older, and what was learned of them.
        dry_run: only count.
        wait: for a learning that is under way; else that is an error, and nothing is erased.

    By key and by date, texts stay that another verdict has, which stays.

    Raises:
        FeedbackError: if not just one criterion is given, the text is empty, the pattern is none,
            or the database cannot be changed.
        RankerError: if it is no ranker, or a learning is under way and not waited for.
    """
    holds = _holds(text, pattern)
    if (holds is None) + (key is None) + (before is None) != 2:
        raise FeedbackError("give one of --text, --pattern, --key and --before")
    verdicts = feedback.verdicts() if feedback else []

    def goes(verdict: Verdict) -> bool:
        if holds:
            return holds(verdict.text)
        if before:
            return verdict.at < before
        return key in (verdict.key, feedback_id(verdict.text))

    going = [verdict for verdict in verdicts if goes(verdict)]
    staying = {text_key(verdict.text) for verdict in verdicts if not goes(verdict)}
    learned = {text_key(verdict.text) for verdict in going} - staying

    def forgets(id_: str | None, past: str) -> bool:
        if holds:
            return holds(past)
        named = key is not None and key in (id_, feedback_id(past))
        return named or text_key(past) in learned

    if before and not going:
        return Forgotten(0, 0, 0)
    learnings = clear_begun(path, dry_run=dry_run, wait=wait)
    gone = forget_past(path, forgets, dry_run=dry_run)
    if feedback and going and not dry_run:
        feedback.erase([verdict.key for verdict in going])
    texts = {verdict.text for verdict in going} | gone
    return Forgotten(len(going), len(gone), learnings, tuple(_elsewhere(path, holds, texts)))


def expire(
    path: Path, feedback: Feedback, *, dry_run: bool = False, wait: bool = True
) -> Forgotten:
    """Erase verdicts that are older than the database keeps them, and what was learned of them.

    Raises:
        TwinrankError: as `forget` does.
    """
    before = datetime.now(UTC) - timedelta(days=feedback.kept_days)
    if not feedback.search(until=before.date(), limit=0)[1]:
        return Forgotten(0, 0, 0)
    return forget(path, feedback, before=before, dry_run=dry_run, wait=wait)


async def expire_regularly(path: Path, feedback: Feedback) -> None:
    """Erase what is too old now, and every hour; never returns."""
    while True:
        try:
            gone = await asyncio.to_thread(expire, path, feedback, wait=False)
            if gone.verdicts:
                log.info("%d verdicts erased, which were too old", gone.verdicts)
        except (TwinrankError, OSError) as error:
            log.error("verdicts that are too old are not erased yet: %s", error)
        await asyncio.sleep(EVERY_S)


def _holds(text: str | None, pattern: str | None) -> Holds | None:
    """What finds the texts to erase by what stands in them; none if that is no criterion."""
    if text is not None and pattern is not None:
        raise FeedbackError("give one of --text, --pattern, --key and --before")
    if text is not None:
        wanted = text_key(plain(text))
        if not wanted:
            raise FeedbackError("--text is empty; give what stands in the texts to erase")
        return lambda some: wanted in text_key(plain(some))
    if pattern is None:
        return None
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise FeedbackError(f"--pattern {pattern!r} is no regular expression: {error}") from None
    return lambda some: found.search(some) is not None


def _elsewhere(path: Path, holds: Holds | None, texts: set[str]) -> list[str]:
    """Where such texts stay, because that is the operator's: the data set, and pages."""
    notes = []
    keys = {text_key(text) for text in texts}
    data = read_manifest(path).origin.folder
    file = Path(data or "") / QUERIES
    if data and file.is_file():
        queries = [f"{record.get('text')}" for _, record, _ in read_json_lines(file, [])]
        if count := sum(holds(text) if holds else text_key(text) in keys for text in queries):
            notes.append(f"{file}: {count:,} such queries stay; remove them before you train again")
    elif data:
        notes.append(f"{data}: the data set is not there; look in it yourself")
    for page in sorted(path.glob("*.html")):
        shown = text_key(html.unescape(page.read_text(encoding="utf-8", errors="replace")))
        if any(key in shown for key in keys):
            notes.append(f"{page}: shows such a text; delete it")
    return notes
