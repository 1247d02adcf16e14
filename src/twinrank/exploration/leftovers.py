"""A check of mails and chats: what is quoted, signed or said by a program, and asks nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twinrank.data.cleaning import clean_chat, clean_mail
from twinrank.data.texts import shorten
from twinrank.exploration.findings import Check, Finding, Level, head_of_table
from twinrank.exploration.sample import MAX_ROWS, Subject

MUCH_LEFT = 0.02  # of the queries, from which importing again is worth it
MAX_EXAMPLE_CHARACTERS = 60
LEFTOVERS: tuple[tuple[str, str, Callable[[str, Counter[str]], str]], ...] = (
    ("mail", "quoted replies, signatures or auto-replies", clean_mail),
    ("chat", "lines of a chat program, or greetings of bots and agents", clean_chat),
)


def check_leftovers(subject: Subject) -> Check:
    """Which queries hold what `twinrank import` can cut?"""
    frame = subject.sample.frame.select("type", "text").rows()
    findings, tables = [], []
    for kind, names, clean in LEFTOVERS:
        pairs = [(type_, text, clean(text, Counter())) for type_, text in frame]
        cut = [
            (type_, "\n".join((Counter(text.split("\n")) - Counter(rest.split("\n"))).elements()))
            for type_, text, rest in pairs
            if rest != text
        ]
        if not cut:
            continue
        share = len(cut) / len(frame)
        level: Level = "mend" if share >= MUCH_LEFT else "know"
        example = shorten(cut[0][1], MAX_EXAMPLE_CHARACTERS)
        text = f"{len(cut):,} of {len(frame):,} queries ({share:.0%}) hold {names}: “{example}”."
        advice = f"Import them again with `--clean-{kind}`: a ranker learns from these lines, too."
        figures = {"queries": len(cut), "share": share}
        findings.append(Finding(f"{kind}s", level, text, advice, figures))
        rows = [[type_, shorten(lines)] for type_, lines in cut[:MAX_ROWS]]
        head = ["type", "what would be cut"]
        tables.append(head_of_table(f"By --clean-{kind}", [head, *rows], len(cut)))
    return Check("leftovers", "What asks nothing", findings, folded=tables)
