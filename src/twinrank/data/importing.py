"""Tables of answers, queries and labels, and exports of help desks, imported as a data set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from twinrank.arguments import AnyPath, path_of
from twinrank.data.article_links import ArticleLinks
from twinrank.data.beir import SPELLINGS, SPLITS, check_place, place_to_write
from twinrank.data.cleaning import clean_queries
from twinrank.data.columns import Columns, Table, parse_cell, read_table
from twinrank.data.conversations import (
    CONVERSATION,
    QUESTION,
    is_conversation,
    read_messages,
    write_messages,
)
from twinrank.data.dataset import Dataset
from twinrank.data.exports import Export, ExportReader
from twinrank.data.help_desks import HELP_DESKS
from twinrank.data.markup import Marked, MarkupCounts, read_markup, strip_markup
from twinrank.data.records import Record, as_integer
from twinrank.data.text_files import find_form_fault
from twinrank.data.validation import (
    Numbered,
    Rows,
    check_judgements,
    check_rows,
    describe_outcomes,
)
from twinrank.errors import DataError, Fault, TwinrankError

log = logging.getLogger(__name__)

USUAL_COLUMNS = Columns()
UNPUBLISHED = [f"articles left out ({state})" for state in ("draft", "internal", "archived")]


def import_tables(
    out: AnyPath,
    *,
    answers: AnyPath,
    queries: AnyPath | None = None,
    labels: AnyPath | None = None,
    columns: Columns = USUAL_COLUMNS,
    clean: Collection[str] = (),
    cast_below: int | None = None,
    skip_faulty: bool = False,
    keep_markup: bool = False,
    fresh: bool = False,
) -> Dataset:
    """Make a data set of tables, and write it to a folder in BEIR's layout.

    Right answers stand in a column of the queries or in a table of labels, by id or by the URL of
    an answer. Where no split is given, all labels go to train: `split` divides them. Faults name a
    line of a text file, a row of any other.

    Args:
        out: folder to write; must not hold a data set, unless `fresh`.
        answers: table of answers; its suffix says what it is, as for all tables.
        queries: table of queries; without one, `bootstrap` makes some.
        labels: table of pairs of a query and a right answer.
        columns: what their columns are called.
        clean: of the queries: `mail`, `chat` and `redact`; see `clean_queries`.
        cast_below: conversations of fewer characters become questions; see `cast_short`.
        skip_faulty: leave out rows that cannot be used, and log how many.
        keep_markup: leave HTML and Markdown as they are.
        fresh: replace the data set in the folder, once the new one is whole.

    Raises:
        DataError: with every fault of every table; nothing is written then.
    """
    job = _Import(out, columns, keep_markup, fresh)
    file = path_of(answers, "answers")
    asked = None if queries is None else path_of(queries, "queries")
    check_files(file, asked, labels)
    tables = job.read_tables(labels, answer=file, query=asked)
    rows = check_rows("answer", job.read_answers(tables["answer"]), file, job.faults)
    for id in rows.lines:
        job.links.add(id, rows.usable[id]["url"] if id in rows.usable else None)
    dataset = job.make_dataset(rows, tables, None if asked else Export())
    return job.save(dataset, clean, cast_below=cast_below, skip_faulty=skip_faulty)


def import_exports(
    out: AnyPath,
    files: Sequence[AnyPath],
    *,
    source: str,
    queries: AnyPath | None = None,
    labels: AnyPath | None = None,
    columns: Columns = USUAL_COLUMNS,
    clean: Collection[str] = (),
    cast_below: int | None = None,
    skip_faulty: bool = False,
    keep_markup: bool = False,
    include_unpublished: bool = False,
    fresh: bool = False,
) -> Dataset:
    """Make a data set of what a help desk or a wiki exports, and write it to a folder.

    Args:
        out: as for `import_tables`.
        files: JSON as the public API of the source gives it, one page or many; or JSONL.
        source: one of `HELP_DESKS`.
        queries: table of queries to read instead of the export's tickets.
        labels: table of labels, instead of the links, macros and solutions in the export.
        columns: as for `import_tables`, as the rest.
        clean: see there.
        cast_below: see there.
        skip_faulty: see there.
        keep_markup: see there.
        include_unpublished: drafts, internal and archived articles are answers too.
        fresh: as for `import_tables`.

    Raises:
        DataError: with every fault of every file; nothing is written then.
    """
    if source not in HELP_DESKS:
        raise TwinrankError(f"source {source!r}: give one of {', '.join(HELP_DESKS)}")
    job = _Import(out, columns, keep_markup, fresh)
    paths = [path_of(file, "a file of the export") for file in files]
    if not paths:
        raise TwinrankError(f"an export of {source} takes files: give one or more")
    check_files(*paths, queries, labels)
    markup = None if keep_markup else job.markup
    reader = ExportReader(HELP_DESKS[source], markup, include_unpublished)
    export = reader.read(paths, job.faults)
    tables = job.read_tables(labels, query=path_of(queries, "queries") if queries else None)
    job.files = [*paths, *job.files]
    for what, count in export.met.items():
        mend = "; --include-unpublished keeps them" if what in UNPUBLISHED else ""
        log.warning("%s: %s%s", what, f"{count:,}", mend)
    if not export.answers:
        what = f"{source}: no articles that are published"
        raise DataError([*job.faults, Fault(paths[0], None, what, "see above")])
    rows = check_rows("answer", enumerate(export.answers, 1), paths[0], job.faults)
    job.links = export.links
    dataset = job.make_dataset(rows, tables, export if queries is None else None)
    return job.save(dataset, clean, cast_below=cast_below, skip_faulty=skip_faulty)


def check_files(*files: AnyPath | None) -> None:
    """Refuse files that are missing, all at once, before any is read.

    Raises:
        DataError: for these.
    """
    paths = [path_of(file, "a file") for file in files if file is not None]
    missing = [find_form_fault(path) for path in paths if not path.is_file()]
    if faults := [fault for fault in missing if fault]:
        raise DataError(faults)


def cast_short(dataset: Dataset, below: int) -> Dataset:
    """The same data with every conversation of fewer characters as a question.

    Some people write into a chat as into a search box. All splits are cast alike: training and
    measuring go by the same types. How many were cast is logged.

    Args:
        dataset: any.
        below: characters.

    Raises:
        DataError: if no query is of the type `conversation`.
    """
    if CONVERSATION not in dataset.types:
        what = f"no query is of type {CONVERSATION}; the types are {', '.join(dataset.types)}"
        file = Path(dataset.name) / "queries.jsonl"
        raise DataError([Fault(file, None, what, "leave cast_below out")])
    is_conversation = pl.col("type") == CONVERSATION
    is_short = is_conversation & (pl.col("text").str.len_chars() < below)
    total, short = dataset.queries.select(is_conversation.sum(), s=is_short.sum()).row(0)
    log.info(
        "%s of %s conversations have fewer than %d characters, and are questions now",
        *(f"{short:,}", f"{total:,}", below),
    )
    kind = pl.when(is_short).then(pl.lit(QUESTION)).otherwise(pl.col("type"))
    return replace(dataset, queries=dataset.queries.with_columns(type=kind), folder=None)


@dataclass
class _Import:
    """One import: where to, how, and what it met so far."""

    target: AnyPath
    columns: Columns
    keep_markup: bool
    fresh: bool = False
    faults: list[Fault] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    links: ArticleLinks = field(default_factory=ArticleLinks)
    markup: MarkupCounts = field(default_factory=MarkupCounts)
    notes: list[str] = field(default_factory=list)  # to say once all is sound

    def __post_init__(self) -> None:
        self.out = path_of(self.target, "out")
        check_place(self.out, fresh=self.fresh)

    def read_tables(self, labels: AnyPath | None, **paths: Path | None) -> dict[str, Table]:
        """Read tables by kind; answers named by queries count only without a table of labels."""
        files = {kind: file for kind, file in paths.items() if file}
        if labels is not None:
            files["label"] = path_of(labels, "labels")
            self.columns = replace(self.columns, query_answer="")
        self.files = [*files.values()]
        keep = self.keep_markup
        convert = {kind: partial(_read_text, keep_markup=keep) for kind in ("answer", "query")}
        tables = {
            kind: read_table(file, kind, self.columns, self.faults, convert.get(kind))
            for kind, file in files.items()
        }
        is_lost = any(fault.line is None for fault in self.faults)
        if is_lost or not all(table.rows for table in tables.values()):
            raise DataError(self.faults)
        self.notes += [table.describe_unread() for table in tables.values() if table.unread]
        return tables

    def read_answers(self, table: Table) -> Iterator[tuple[int, Record]]:
        """Give answers as BEIR has them, the rows of one answer's sections joined."""
        rows_of: dict[object, list[tuple[int, Record]]] = {}
        by_id = table.has("section")
        for line, cells in table.rows:
            rows_of.setdefault((by_id and cells.get("id")) or line, []).append((line, cells))
        for rows in rows_of.values():
            line, cells = rows[0]
            texts = [self.take("answers", cells.get("text")) for _, cells in rows]
            text: object = texts[0]
            sections = self.clean_sections(parse_cell(cells.get("sections")))
            if by_id:
                titles = [cells["section"] for _, cells in rows]
                sections = [
                    {"title": title, "text": part.text if isinstance(part, Marked) else part}
                    for title, part in zip(titles, texts, strict=True)
                ]
                cells = {name: next((c[name] for _, c in rows if c[name]), None) for name in cells}
                text = None
            elif isinstance(text, Marked):
                sections, text = sections or text.sections or None, text.text
            title = cells.get("title")
            if isinstance(title, str) and not self.keep_markup:
                title = strip_markup(title)
            metadata = _merge(cells["metadata"], url=cells.get("url"), sections=sections)
            text = text or _join_sections(sections)
            yield line, {"_id": cells.get("id"), "title": title, "text": text, "metadata": metadata}

    def read_queries(self, table: Table) -> Iterator[tuple[int, Record]]:
        """Give queries as BEIR has them; the title goes before the text."""
        has_ids, has_types = table.has("id"), _has(table, "type")
        for line, cells in table.rows:
            read = cells.get("text")
            kind = cells.get("type") or (read.type if isinstance(read, _Text) else None)
            cell = self.take("queries", read)
            text = cell.text if isinstance(cell, Marked) else cell
            if not has_types and not kind:
                kind = CONVERSATION if is_conversation(f"{text or ''}") else QUESTION
            parts = [cells.get("title"), text]
            odd = [part for part in parts if part and not isinstance(part, str)]  # no text
            text = odd[0] if odd else "\n".join(f"{part}" for part in parts if part)
            metadata = _merge(cells["metadata"], type=kind, thread=cells.get("thread"))
            name = cells.get("id") if has_ids else f"q{line}"
            name = as_integer(name) if isinstance(name, str) else name
            yield line, {"_id": name, "text": text, "metadata": metadata}

    def take(self, noun: str, cell: object) -> object:
        """Give what stood in a cell without its markup, and count it."""
        if not isinstance(cell, _Text):
            return cell
        self.markup.add(noun, cell.marked)
        return cell.marked

    def clean_sections(self, sections: object) -> object:
        """Take the markup out of sections that the data give."""
        if self.keep_markup or not isinstance(sections, list):
            return sections
        cleaned: list[object] = []
        for part in sections:
            if isinstance(part, str):
                part = read_markup(part).text
            elif isinstance(part, dict):
                texts = {name: value for name, value in part.items() if isinstance(value, str)}
                part = {**part, **{name: read_markup(text).text for name, text in texts.items()}}
            cleaned.append(part)
        return cleaned

    def make_dataset(
        self, answers: Rows, tables: dict[str, Table], export: Export | None = None
    ) -> Dataset:
        """Make a data set of the rows that can be used; what is wrong with the rest is a fault."""
        splits: dict[str, object] = {}
        if export:
            file, records = answers.file, [*enumerate(export.queries, 1)]
            queries = check_rows("query", records, file, self.faults)
            labels: Numbered = enumerate(export.labels, 1)
        else:
            asked = tables["query"]
            file, records = asked.file, [*self.read_queries(asked)]
            queries = check_rows("query", records, file, self.faults, needs_type=asked.has("type"))
            self.notes += _describe_guesses(asked, queries)
            rows = [*zip(records, asked.rows, strict=True)]
            splits = {f"{record['_id']}": cells.get("split") for (_, record), (_, cells) in rows}
            first = [p for p in rows if queries.lines.get(f"{p[0][1]['_id']}") == p[0][0]]
            labels = self.read_named_answers(first)
        if "label" in tables:
            file = tables["label"].file
            labels = self.read_labels(tables["label"], splits)
        labels = _set_splits(labels, file, self.faults)
        judged = [*check_judgements(labels, file, queries, answers, {})]
        return Dataset.of_rows(self.out.resolve().name, answers, queries, judged)

    def read_named_answers(
        self, rows: list[tuple[tuple[int, Record], tuple[int, Record]]]
    ) -> Iterator[tuple[int, Record]]:
        """Give a judgement for each right answer that a query names, with the query's split."""
        for (line, record), (_, cells) in rows:
            parsed = parse_cell(cells.get("answer"))
            if isinstance(parsed, str):
                parsed = self.links.split(parsed, self.columns.separator)
            names = [
                self.name_answer(name)
                for name in (parsed if isinstance(parsed, list) else [parsed])
            ]
            for position, name in enumerate(names):
                if name and name not in names[:position]:
                    judged = {"query": record["_id"], "answer": name, "score": 1}
                    yield line, {**judged, "split": cells.get("split")}

    def read_labels(self, table: Table, splits: dict[str, object]) -> Iterator[tuple[int, Record]]:
        """Give the rows of a table of labels: right without a score, in the query's split."""
        for line, cells in table.rows:
            split = cells.get("split") or splits.get(as_integer(f"{cells.get('query')}"))
            score = 1 if cells.get("score") is None else cells["score"]
            judged = {"query": cells.get("query"), "answer": self.name_answer(cells.get("answer"))}
            yield line, {**judged, "score": score, "split": split}

    def name_answer(self, name: object) -> object:
        """Give the id of the answer that an id or a URL names; if it is not there, the name."""
        if not isinstance(name, str | int) or isinstance(name, bool):
            return name
        text = as_integer(f"{name}".strip())
        return self.links.find(text) or text

    def save(
        self,
        dataset: Dataset,
        clean: Collection[str],
        *,
        cast_below: int | None,
        skip_faulty: bool,
    ) -> Dataset:
        """Write the data set, unless there are faults, and say what was done."""
        is_empty = dataset.answers.is_empty() or dataset.queries.is_empty()
        if self.faults and (is_empty or not skip_faulty):
            order = self.files.index
            raise DataError(sorted(self.faults, key=lambda fault: (order(fault.file), fault.line)))
        for sentence in describe_outcomes(self.faults):
            log.warning("%s", sentence)
        for sentence in (*self.notes, *self.markup.sentences()):
            log.info("%s", sentence)
        if clean and not dataset.queries.is_empty():
            dataset = clean_queries(dataset, clean)
        if cast_below is not None:
            dataset = cast_short(dataset, cast_below)
        with place_to_write(self.out, fresh=self.fresh) as folder:
            replace(dataset, left_out=()).save(folder)  # what is left out was said
        if dataset.queries.is_empty():
            log.warning("%s: no queries; `twinrank bootstrap` makes some of the answers", self.out)
        if clean:  # queries may have gone, and labels with them
            return replace(Dataset.load(self.out, needs_queries=False), left_out=dataset.left_out)
        return replace(dataset, folder=self.out)


def _has(table: Table, name: str) -> bool:
    return table.has(name) or table.has_in_metadata(name)


def _describe_guesses(table: Table, queries: Rows) -> list[str]:
    """Say what no column of the queries says, and what is taken in its place."""
    sentences = []
    if not _has(table, "type"):
        counts = Counter(cells["type"] for cells in queries.usable.values())
        sentences.append(
            f"{table.file}: no column of types: {counts[CONVERSATION]:,} conversations, by their "
            f"turns (User: ..., Agent: ...), and {counts[QUESTION]:,} questions; name a column of "
            "types by --column query_type=NAME"
        )
    if not _has(table, "thread"):
        sentences.append(
            f"{table.file}: no column of threads: each row is a thread of its own; join rows of "
            "one ticket by --column query_thread=NAME, so that no split parts them"
        )
    return sentences


class _Text(NamedTuple):
    """What stood in a cell: a text, or messages as a text and the type of query that they are."""

    marked: Marked
    type: str | None = None


def _read_text(value: object, is_markdown: bool, *, keep_markup: bool) -> object:
    """Read a text without its markup, or a list of messages; leave what is neither to the check."""

    def read(text: str) -> Marked:
        return Marked(text, [], "") if keep_markup else read_markup(text, is_markdown=is_markdown)

    messages = read_messages(value)
    if messages is not None:
        turns = [(role, read(text)) for role, text in messages]
        text = write_messages((role, turn.text) for role, turn in turns)
        kind = next((turn.kind for _, turn in turns if turn.kind), "")
        return _Text(Marked(text, [], kind), CONVERSATION if len(messages) > 1 else QUESTION)
    return _Text(read(value)) if isinstance(value, str) else value


def _merge(metadata: Record | None, **known: object) -> Record:
    """Put what a row's fields say into its metadata."""
    return {**(metadata or {}), **{name: v for name, v in known.items() if v is not None}}


def _join_sections(sections: object) -> str:
    """Join titles and texts of sections, a line each; what are none is left to the check."""
    lines: list[object] = []
    for part in sections if isinstance(sections, list) else []:
        if isinstance(part, dict):
            lines += [part.get("title"), part.get("text") or part.get("content")]
        else:
            lines.append(part)
    return "\n".join(f"{line}" for line in lines if line)


def _set_splits(judged: Numbered, file: Path, faults: list[Fault]) -> Iterator[tuple[int, Record]]:
    """Give the judgements with their splits; all in train where none has one."""
    rows = [*judged]
    has_splits = any(record["split"] for _, record in rows)
    for line, record in rows:
        name = f"{record['split'] or ''}".lower() if has_splits else SPLITS[0]
        name = SPELLINGS.get(name, name)
        if name in SPLITS:
            yield line, {**record, "split": name}
        else:
            what = f"'{record['split'] or ''}' is no split, and other rows have one"
            faults.append(Fault(file, line, what, f"give one of {', '.join(SPLITS)}"))
