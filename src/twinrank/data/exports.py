"""Exports of help desks, read by the table of `help_desks`: articles, tickets, and labels."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from twinrank.data.article_links import ARTICLE_ID, REPLACEMENT, ArticleLinks
from twinrank.data.conversations import AGENT, CONVERSATION, QUESTION, USER, write_messages
from twinrank.data.help_desks import (
    ANSWER,
    MACRO,
    MESSAGE,
    PUBLIC,
    QUERY,
    SET,
    TRANSLATION,
    HelpDesk,
    Rule,
)
from twinrank.data.markup import MarkupCounts, read_markup, strip_markup
from twinrank.data.records import Record, read_values
from twinrank.errors import Fault

READ_FIELDS = {  # of the table, those that are no metadata
    *("id", "of", "title", "text", "url", "author", "at", "requester", "macro", "number")
}
MAX_SECONDS = 2**35  # since 1970: some thousand years
MIN_MACRO_WORDS = 4  # from which a macro's text is known again in a message


class Macro(NamedTuple):
    """A canned reply: its words, and the answers that it links to."""

    id: str
    words: str
    answers: list[str]


@dataclass
class Thing:
    """An object of an export, the field it stands under, and the article or ticket it stands in."""

    record: Record
    key: str
    owner: str


@dataclass
class Export:
    """What an export holds, as records of BEIR, and what became of the rest.

    Attributes:
        answers: articles, one for each language.
        queries: tickets, or topics.
        labels: query, answer, score and split (none), from links, macros and solutions.
        links: to the articles, for tables that name them.
        met: how many things were met that are not among them, by what they are.
    """

    answers: list[Record] = field(default_factory=list)
    queries: list[Record] = field(default_factory=list)
    labels: list[Record] = field(default_factory=list)
    links: ArticleLinks = field(default_factory=ArticleLinks)
    met: Counter[str] = field(default_factory=Counter)


@dataclass
class ExportReader:
    """Reads the files of one export, all of them before any is made sense of.

    Attributes:
        desk: whose export it is.
        markup: counts of HTML; none leaves it as it is.
        with_unpublished: drafts, internal and archived articles are answers too.
    """

    desk: HelpDesk
    markup: MarkupCounts | None
    with_unpublished: bool = False
    things: dict[str, list[Thing]] = field(default_factory=dict)
    by_id: dict[str, dict[str, Record]] = field(default_factory=dict)
    export: Export = field(default_factory=Export)
    macros: list[Macro] = field(default_factory=list)
    base_url: str = ""

    def read(self, files: list[Path], faults: list[Fault]) -> Export:
        """Read articles, tickets and labels."""
        for file in files:
            before = sum(map(len, self.things.values()))
            known = len(faults)
            number = re.search(r"\d+", file.name)  # a page of comments may not say whose they are
            for value in read_values(file, faults):
                self._sort(value, number[0] if number else "")
            if sum(map(len, self.things.values())) == before and len(faults) == known:
                what = "holds nothing that this help desk's API documents"
                mend = f"compare it with {self.desk.documentation}, or leave it out"
                faults.append(Fault(file, None, what, mend))
        self._read_answers()
        self._read_queries()
        return self.export

    def _sort(self, value: object, owner: str) -> None:
        """Put every object in a value with those of its kind."""
        stack = [(value, "", owner)]
        while stack:
            value, key, owner = stack.pop()
            if isinstance(value, list):
                stack += [(item, key, owner) for item in reversed(value)]
            if not isinstance(value, dict):
                continue
            kind = next((name for name, k in self.desk.kinds.items() if _fits(value, k.needs)), "")
            if kind:
                self.things.setdefault(kind, []).append(Thing(value, key, owner))
                self.by_id.setdefault(kind, {}).setdefault(f"{value.get('id')}", value)
            links = value.get("_links")
            if isinstance(links, dict) and isinstance(links.get("base"), str):
                self.base_url = links["base"]
            if kind in (ANSWER, QUERY):
                owner = f"{value.get('id')}"
            owner = f"{value.get('ticket_id') or owner}"
            below = [(item, name, owner) for name, item in value.items()]
            stack += [part for part in reversed(below) if isinstance(part[0], dict | list)]

    def _get(self, thing: Thing, kind: str, name: str) -> Any:  # noqa: ANN401 (any JSON)
        """Read one of our fields of an object."""
        path = self.desk.kinds[kind].fields.get(name, "")
        return thing.key if path == "@key" else read_path(thing.record, path, self.by_id)

    def _state(self, record: Record, rules: tuple[Rule, ...]) -> str:
        """Find the first state that fits a record; empty if none does."""
        for state, path, values in rules:
            value = read_path(record, path, self.by_id)
            if value not in (None, False, "", []) if values is SET else value in values:
                return state
        return ""

    def _metadata(self, thing: Thing, kind: str) -> Record:
        names = self.desk.kinds[kind].fields.keys() - READ_FIELDS
        values = {name: self._get(thing, kind, name) for name in sorted(names)}
        return {
            name: _as_date(value) if name.endswith("_at") else value
            for name, value in values.items()
            if value not in (None, "", [])
        }

    def _clean(self, noun: str, text: object) -> tuple[str, list[dict[str, str]]]:
        """Make plain text of a body, with its sections."""
        plain = text if isinstance(text, str) else ""
        if self.markup is None:
            return plain.strip(), []
        marked = read_markup(plain)
        if noun:
            self.markup.add(noun, marked)
        return marked.text.strip(), marked.sections

    def _read_answers(self) -> None:
        """Make answers of the articles: one for each language in which an article is published."""
        parts: dict[str, dict[str, list[tuple[Thing, str]]]] = {}  # by article and language
        bases: dict[str, Thing] = {}
        for kind, name in ((ANSWER, "id"), (TRANSLATION, "of")):
            for thing in self.things.get(kind, []):
                article = str(self._get(thing, kind, name) or thing.owner)
                locale = f"{self._get(thing, kind, 'locale') or ''}"
                if kind == ANSWER:
                    bases.setdefault(article, thing)
                parts.setdefault(article, {}).setdefault(locale, []).append((thing, kind))
        for article, languages in parts.items():
            if "" in languages and len(languages) > 1:  # what all languages have in common
                common = languages.pop("")
                languages = {name: common + things for name, things in languages.items()}
            base = bases.get(article)
            made = [self._make_answer(article, name, a, base) for name, a in languages.items()]
            usable = [answer for answer in made if answer]
            for answer in usable:
                locale = f"{answer['metadata'].get('locale', '')}"
                answer["_id"] = f"{article}-{locale}" if len(usable) > 1 else article
                url = answer["metadata"].get("url")
                self.export.links.add(answer["_id"], url, article=article, locale=locale)
            self.export.answers += usable

    def _make_answer(
        self, article: str, locale: str, things: list[tuple[Thing, str]], base: Thing | None
    ) -> Record | None:
        """Make an answer of an article in a language; none if it is left out."""
        common = base.record if base else {}
        state = self._state({**common, **things[-1][0].record}, self.desk.states)
        if state not in ("", PUBLIC) and not self.with_unpublished:
            self.export.met[f"articles left out ({state})"] += 1
            return None
        values = self._metadata(base, ANSWER) if base else {}
        for thing, kind in things:  # a translation says more than the article
            new = {name: self._get(thing, kind, name) for name in ("title", "text", "url")}
            new |= self._metadata(thing, kind)
            values |= {name: value for name, value in new.items() if value not in (None, "", [])}
        text, sections = self._clean("answers", values.pop("text", ""))
        title = strip_markup(f"{values.pop('title', '')}").strip()
        if not text and not title:
            self.export.met["articles left out (without a title and a text)"] += 1
            return None
        if f"{values.get('url', '')}".startswith("/"):
            values["url"] = self.base_url + values["url"]
        metadata = {**values, "visibility": state or PUBLIC, "sections": sections}
        metadata |= {"locale": locale} if locale else {}
        return {"_id": article, "title": title, "text": text, "metadata": metadata}

    def _read_queries(self) -> None:
        """Make queries of the tickets, and labels of what agents sent."""
        tickets = {f"{t.record.get('id')}": t for t in self.things.get(QUERY, [])}
        messages: dict[str, dict[str, Thing]] = {name: {} for name in tickets}
        for thing in self.things.get(MESSAGE, []):
            ticket = f"{self._get(thing, MESSAGE, 'of') or thing.owner}"
            name = f"{self._get(thing, MESSAGE, 'id') or len(messages.get(ticket, ()))}"
            if ticket in messages:
                messages[ticket].setdefault(name, thing)
            else:
                self.export.met["messages left out (of tickets that are not there)"] += 1
        for thing in self.things.get(MACRO, []):
            text, answers = self.export.links.take_out(_join(self._get(thing, MACRO, "text")))
            words = _words(self._clean("", text.replace(REPLACEMENT, ""))[0])
            words = words if words.count(" ") >= MIN_MACRO_WORDS - 1 else ""
            self.macros.append(Macro(f"{thing.record.get('id')}", words, answers))
        uses: dict[str, list[Any]] = {}
        for use in self.things.get("use", []):
            ticket = f"{self._get(use, 'use', 'of') or use.owner}"
            uses.setdefault(ticket, []).append(self._get(use, "use", "macro"))
        if self.desk.accepted:
            self._read_solutions(tickets, messages)
        for name, thing in tickets.items():
            used = [*uses.get(name, []), self._get(thing, QUERY, "macro")]
            self._read_ticket(name, thing, [*messages[name].values()], used)
        if self.export.links.unknown:
            what = "links of agents to articles that are not among the answers"
            self.export.met[what] = self.export.links.unknown

    def _read_solutions(
        self, tickets: dict[str, Thing], messages: dict[str, dict[str, Thing]]
    ) -> None:
        """Make answers of the messages that solved a topic, and of topics that others lead to."""
        linked: set[str] = set()
        for name, ticket in tickets.items():
            number = read_path(ticket.record, self.desk.accepted, self.by_id)
            for key, thing in messages[name].items():
                is_accepted = thing.record.get("accepted_answer") is True
                if is_accepted or self._get(thing, MESSAGE, "number") == number is not None:
                    if self._add_topic(name, ticket, thing):
                        before = [*messages[name]][: [*messages[name]].index(key)]
                        messages[name] = {known: messages[name][known] for known in before}
                    break
            for thing in [*messages[name].values()][1:]:
                text = unquote(f"{self._get(thing, MESSAGE, 'text') or ''}")
                linked |= {i for match in ARTICLE_ID.finditer(text) for i in match.groups() if i}
        for name in sorted(linked & tickets.keys() - self.export.links.ids):
            if self._add_topic(name, tickets[name], next(iter(messages[name].values()), None)):
                del tickets[name]

    def _add_topic(self, name: str, topic: Thing, message: Thing | None) -> bool:
        """Make an answer of a message, with its topic's title and id; say whether it is one."""
        state = self._state(topic.record, self.desk.states)
        if state and not self.with_unpublished:
            self.export.met[f"articles left out ({state})"] += 1
            return False
        text, sections = self._clean("answers", message and self._get(message, MESSAGE, "text"))
        metadata = {**self._metadata(topic, QUERY), "visibility": state or PUBLIC}
        title = strip_markup(f"{self._get(topic, QUERY, 'title')}")
        answer = {"_id": name, "title": title, "text": text}
        self.export.answers.append({**answer, "metadata": {**metadata, "sections": sections}})
        self.export.links.add(name)
        return True

    def _read_ticket(
        self, name: str, ticket: Thing, messages: list[Thing], used: list[Any]
    ) -> None:
        """Make a query of a ticket with its messages, and labels of what solved it."""
        times = [f"{self._get(message, MESSAGE, 'at') or ''}" for message in messages]
        if all(times):
            order = sorted(range(len(times)), key=times.__getitem__)
            messages = [messages[index] for index in order]
        solved = {name: None} if self.desk.accepted and name in self.export.links.ids else {}
        title = "" if solved else strip_markup(f"{self._get(ticket, QUERY, 'title') or ''}").strip()
        turns: list[tuple[str, str]] = []
        requester = self._get(ticket, QUERY, "requester")
        if requester is None and messages:
            requester = self._get(messages[0], MESSAGE, "author")
        for message in messages:
            if state := self._state(message.record, self.desk.notes):
                noun = "internal" if state == "note" else "of the system"
                self.export.met[f"messages left out ({noun})"] += 1
                continue
            text = f"{self._get(message, MESSAGE, 'text') or ''}"
            is_asker = self._get(message, MESSAGE, "author") == requester
            role = self._state(message.record, self.desk.roles) or (USER if is_asker else AGENT)
            if role == AGENT:
                text, names = self.export.links.take_out(text)
                solved |= dict.fromkeys(names)
                used.append(self._get(message, MESSAGE, "macro"))
            turns.append((role, self._clean("messages", text)[0]))
        turns = [(role, text) for role, text in turns if text]
        described, _ = self._clean("messages", self._get(ticket, QUERY, "text"))
        if described and not (turns and _words(turns[0][1])[:200] == _words(described)[:200]):
            turns.insert(0, (USER, described))
        if title and not (turns and _words(title) in _words(turns[0][1])):
            first = turns[0] if turns else (USER, "")
            turns[:1] = [(first[0], f"{title}\n{first[1]}".strip())]
        if not turns:
            self.export.met["tickets left out (without a text)"] += 1
            return
        sent = [_words(text) for role, text in turns if role == AGENT]
        for macro in self.macros:
            is_sent = macro.words and any(macro.words in text for text in sent)
            if is_sent or macro.id in map(str, used):
                solved |= dict.fromkeys(macro.answers)
        is_chat = len(turns) > 1
        metadata = {**self._metadata(ticket, QUERY), "type": CONVERSATION if is_chat else QUESTION}
        text = write_messages(turns) if is_chat else turns[0][1]
        self.export.queries.append({"_id": name, "text": text, "metadata": metadata})
        labels = ({"query": name, "answer": a, "score": 1, "split": None} for a in solved)
        self.export.labels += labels


def read_path(record: Record, path: str, by_id: dict[str, dict[str, Record]]) -> Any:  # noqa: ANN401
    """Read the value at a path of the table; none if there is nothing."""
    for option in path.split("|"):
        value: Any = record
        for step in option.split("."):
            name, _, kind = step.partition(">")
            value = _follow(value, name)
            if kind and value is not None:
                objects = by_id.get(kind, {})
                known = [
                    objects.get(f"{id}") for id in (value if isinstance(value, list) else [value])
                ]
                value = known if isinstance(value, list) else known[0]
        if value not in (None, "", []):
            return value
    return None


def _follow(value: object, name: str) -> Any:  # noqa: ANN401 (any JSON)
    """Go one step into an object, or into each of a list."""
    if isinstance(value, list):
        return [item[name] for item in value if isinstance(item, dict) and item.get(name)]
    return value.get(name) if isinstance(value, dict) else None


@cache
def _parse_needs(needs: str) -> tuple[tuple[list[str], list[str]], ...]:
    """Take apart what an object needs: names of which it has one, and values of the first."""
    items = [need.partition("=") for need in needs.split()]
    return tuple(
        (name.split("|"), values.split(",") if values else []) for name, _, values in items
    )


def _fits(record: Record, needs: str) -> bool:
    return all(
        record.get(names[0]) in values if values else any(name in record for name in names)
        for names, values in _parse_needs(needs)
    )


def _as_date(value: object) -> object:
    """Write seconds since 1970, as Intercom has them, as a date."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MAX_SECONDS:
        return datetime.fromtimestamp(value, UTC).isoformat()
    return value


def _join(value: object) -> str:
    """Join the texts in a value, such as the actions of a macro."""
    if isinstance(value, dict | list):
        return "\n".join(map(_join, value.values() if isinstance(value, dict) else value))
    return value if isinstance(value, str) else ""


def _words(text: str) -> str:
    """Give the words of a text alone, to compare texts whose signs differ."""
    return " ".join(re.findall(r"\w+", text.lower()))
