"""Mails and chats without what asks nothing: quotes, signatures, auto-replies, greetings."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import polars as pl

from twinrank.data import mail_patterns as patterns
from twinrank.data.dataset import Dataset
from twinrank.errors import DataError, Fault, TwinrankError
from twinrank.extras import check_installed

log = logging.getLogger(__name__)

STEPS = ("mail", "chat", "redact")

AUTO_REPLIES, WHOLE = "auto-replies", "whole"  # what is counted
MIN_WORDS_LEFT = 3  # with fewer a turn stays whole
WORD = re.compile(r"[^\W\d_]{2,}")
MAX_INTRODUCTION_LINES, MAX_INTRODUCTION_CHARACTERS = 3, 400
MAX_HEADER_LINES, MIN_HEADERS = 6, 2  # below the sender's line
MAX_SIGNATURE_LINES, MAX_SIGNATURE_LINE_CHARACTERS = 12, 100
MAX_LINES_BELOW_THANKS = 3
MAX_AUTO_REPLY_CHARACTERS, MAX_LEAD_CHARACTERS = 1_500, 300
MAX_CHAT_LINE_CHARACTERS, MAX_OFFER_CHARACTERS = 300, 160


def clean_mail(text: str, counts: Counter[str]) -> str:
    """Take quoted replies, signatures and auto-replies out of a mail, or of each turn of a ticket.

    A turn of which fewer than three words would be left stays whole.

    Args:
        text: of a query.
        counts: of `AUTO_REPLIES` and of turns that stay `WHOLE`; added to.

    Returns:
        the rest; nothing if all of it is auto-replies.
    """
    turns, is_changed = [], False
    for head, body in _split_turns(text):
        if is_auto_reply(body):
            counts[AUTO_REPLIES] += 1
            is_changed = True
            continue
        lines = body.split("\n")
        rest = _cut_signature(lines if patterns.FORWARDED.match(body) else _cut_quotes(lines))
        if len(rest) < len(lines) and len(WORD.findall("\n".join(rest))) < MIN_WORDS_LEFT:
            counts[WHOLE] += 1
            rest = lines
        is_changed |= len(rest) < len(lines)
        turns.append(head + "\n".join(rest))
    return "\n".join(turns).strip() if is_changed else text


def is_auto_reply(text: str) -> bool:
    """Say whether a machine wrote a mail: by its subject, or since its writer is away."""
    if patterns.AUTO_SUBJECT.match(text):
        return True
    if len(text) > MAX_AUTO_REPLY_CHARACTERS or "?" in text:
        return False
    lead = text[:MAX_LEAD_CHARACTERS]
    if patterns.AWAY.search(lead) and patterns.ANSWERS_LATER.search(text):
        return True
    return patterns.AUTOMATIC.search(lead) is not None


def clean_chat(text: str, counts: Counter[str]) -> str:
    """Take the program's lines, and greetings of bots and agents, out of a chat.

    What a customer says stays. A text of which fewer than three words would be left stays whole.

    Args:
        text: of a query.
        counts: of texts that stay `WHOLE`; added to.
    """
    turns, is_changed = [], False
    for head, body in _split_turns(text):
        role = patterns.TURN.match(head)
        is_asker = bool(role and role["asker"])
        lines = body.split("\n")
        rest = [
            line
            for number, line in enumerate(lines)
            if (is_asker and number == 0)
            or not _is_greeting(line, is_agent=bool(head) and not is_asker)
        ]
        is_changed |= len(rest) < len(lines)
        if any(line.strip() for line in rest):
            turns.append(head + "\n".join(rest).strip())
    if not is_changed:
        return text
    cleaned = "\n".join(turns)
    if len(WORD.findall(cleaned)) < MIN_WORDS_LEFT:
        counts[WHOLE] += 1
        return text
    return cleaned


def clean_queries(dataset: Dataset, steps: Collection[str]) -> Dataset:
    """Give the data with cleaned or redacted queries; what was done is logged, and in `left_out`.

    Args:
        dataset: any.
        steps: `mail` (see `clean_mail`), `chat` (see `clean_chat`), `redact` (see `redact_text`;
            metadata are redacted too, and ids, types and threads are not).

    Raises:
        TwinrankError: if a step is not known, or the libraries of `redact` are missing.
        DataError: if nothing is left.
    """
    if unknown := {*steps} - {*STEPS}:
        names, known = ", ".join(sorted(unknown)), ", ".join(STEPS)
        raise TwinrankError(f"no way to clean is called {names}; give {known}")
    queries, done = dataset.queries, Counter[str]()
    sentences: list[str] = []
    before = queries["text"].to_list()
    if "mail" in steps or "chat" in steps:
        texts = [clean_mail(text, done) if "mail" in steps else text for text in before]
        texts = [clean_chat(text, done) if "chat" in steps else text for text in texts]
        sentences += _describe_cleaning(before, texts, done)
        queries = queries.with_columns(text=pl.Series(texts, dtype=pl.String))
        queries = queries.filter(pl.col("text") != "")
    if "redact" in steps:
        queries, sentence = _redact(queries)
        sentences.append(sentence)
    if queries.is_empty():
        what = "all queries are auto-replies"
        raise DataError([Fault(Path(dataset.name), None, what, "import without --clean-mail")])
    for sentence in sentences:
        log.warning("%s", sentence)
    is_there = pl.col("query").is_in(queries["id"].implode())
    return replace(
        dataset,
        queries=queries,
        labels=dataset.labels.filter(is_there),
        judgements=dataset.judgements.filter(is_there),
        folder=None,
        left_out=(*dataset.left_out, *sentences),
    )


def _redact(queries: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Redact texts and metadata of queries, and say what was replaced."""
    check_installed("redactions", "helpdesk", "phonenumbers", "stdnum")
    from twinrank.data.redaction import redact_fields, redact_text

    counts: Counter[str] = Counter()
    redacted = queries.with_columns(
        pl.Series(name, [redact(cell, counts) for cell in queries[name]], dtype=pl.String)
        for name, redact in (("text", redact_text), ("metadata", redact_fields))
    )
    changed = (redacted != queries).max_horizontal().sum()
    kinds = ", ".join(f"[{kind}] {count:,}" for kind, count in counts.most_common()) or "nothing"
    return redacted, f"redacted: {changed:,} of {queries.height:,} queries; {kinds}"


def _describe_cleaning(texts: list[str], cleaned: list[str], counts: Counter[str]) -> list[str]:
    """Say what cleaning did, a sentence for each thing that happened."""
    changed = [(a, b) for a, b in zip(texts, cleaned, strict=True) if a != b and b]
    characters = sum(len(a) - len(b) for a, b in changed)
    left_out = cleaned.count("")
    turns = counts[AUTO_REPLIES] - left_out
    sentences = [
        f"cleaned: {len(changed):,} of {len(texts):,} queries, {characters:,} characters cut"
    ]
    if left_out:
        sentences.append(f"auto-replies left out, with their labels: {left_out:,}")
    if turns > 0:
        sentences.append(f"auto-replies cut out of other queries: {turns:,}")
    if counts[WHOLE]:
        sentences.append(f"texts that stay whole, since nothing would be left: {counts[WHOLE]:,}")
    return sentences


def _split_turns(text: str) -> list[tuple[str, str]]:
    """Split a conversation into turns, each its `Role: ` and the rest; a mail is one without."""
    spans = [match.span() for match in patterns.TURN.finditer(text)]
    if not spans:
        return [("", text)]
    ends = [*(begin - 1 for begin, _ in spans[1:]), len(text)]  # without the line feed between
    turns = [(text[a:b], text[b:end]) for (a, b), end in zip(spans, ends, strict=True)]
    before = text[: spans[0][0]].rstrip("\n")
    return [("", before), *turns] if before.strip() else turns


def _cut_quotes(lines: list[str]) -> list[str]:
    """Leave out quoted replies: marked lines, and all below the head of a quote without marks."""
    is_marked = [*(line.lstrip().startswith(">") for line in lines), False]
    rest: list[str] = []
    row = 0
    while row < len(lines):
        if not lines[row]:
            rest.append("")
            row += 1
            continue
        head = lines[row : row + 1 + MAX_HEADER_LINES]
        if patterns.SEPARATOR.fullmatch(lines[row]) or _is_head_of_mail(head):
            break
        below = row + _measure_introduction(lines[row : row + MAX_INTRODUCTION_LINES])
        is_introduced = below > row
        while is_introduced and below < len(lines) and not lines[below].strip():
            below += 1
        if is_introduced and not is_marked[below]:
            break
        if not is_introduced and not (is_marked[row] and is_marked[row + 1]):
            rest.append(lines[row])
            row += 1
            continue
        row = below
        while row < len(lines) and (is_marked[row] or not lines[row].strip()):
            row += 1
    return _strip_end(rest) if len(rest) < len(lines) else lines


def _is_head_of_mail(lines: list[str]) -> bool:
    """Say whether lines begin with the head that Outlook writes above a quote."""
    if not patterns.SENDER.match(lines[0]):
        return False
    return sum(map(bool, map(patterns.HEADER.match, lines))) >= MIN_HEADERS


def _measure_introduction(lines: list[str]) -> int:
    """Count the lines of `On ... wrote:` with which these begin; 0 if they do not."""
    text = ""
    for count, line in enumerate(lines, 1):
        text = f"{text} {line.strip(' >*')}".strip()
        if len(text) > MAX_INTRODUCTION_CHARACTERS or not line.strip():
            return 0
        if text.endswith(":") and patterns.INTRODUCTION.fullmatch(text):
            return count
    return 0


def _cut_signature(lines: list[str]) -> list[str]:
    """Leave out a signature: all from the closing on, if what follows is no text."""
    rows = [row for row, line in enumerate(lines) if line.strip()]
    for row in rows[-MAX_SIGNATURE_LINES:]:
        line, below = lines[row], [lines[later] for later in rows if later > row]
        if len(line) > MAX_SIGNATURE_LINE_CHARACTERS:
            continue
        forms = (patterns.DELIMITER, patterns.IS_CLOSING, patterns.SENT_FROM)
        is_closing = any(form.fullmatch(line) for form in forms)
        is_thanks = (
            patterns.IS_THANKS.fullmatch(line) is not None
            and len(below) <= MAX_LINES_BELOW_THANKS
            and all(patterns.IS_NAME.fullmatch(name) for name in below)
        )
        if (is_closing or is_thanks) and _is_signature(below):
            return _strip_end(lines[:row])
    return lines


def _is_signature(lines: list[str]) -> bool:
    """Say whether lines are short and ask nothing, up to a notice of confidentiality."""
    for line in lines:
        if patterns.DISCLAIMER.search(line):
            return True
        if len(line) > MAX_SIGNATURE_LINE_CHARACTERS or patterns.MORE_TO_SAY.search(line):
            return False
    return True


def _strip_end(lines: list[str]) -> list[str]:
    """Leave out blank lines and rules at the end."""
    end = len(lines)
    while end and not lines[end - 1].strip(patterns.RULE):
        end -= 1
    return lines[:end]


def _is_greeting(line: str, *, is_agent: bool) -> bool:
    """Say whether a line of a chat is the program's, or a greeting of a bot or an agent."""
    if len(line) > MAX_CHAT_LINE_CHARACTERS:
        return False
    if patterns.SYSTEM_LINE.fullmatch(line):
        return True
    bot = patterns.BOT.search(line)
    if bot and (is_agent or bot["sure"] or patterns.OFFER.search(line)):
        return True
    return (
        is_agent and len(line) <= MAX_OFFER_CHARACTERS and patterns.OFFER.search(line) is not None
    )
