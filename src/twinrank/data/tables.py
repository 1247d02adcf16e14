"""Tables of answers, queries and labels (CSV, TSV, JSONL, Parquet), imported as a data set."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from twinrank.data.cast import cast_short
from twinrank.data.dataset import SPLITS, Dataset
from twinrank.data.files import ANSWERS, SECTIONS
from twinrank.data.import_checks import Check, answer_checks, pair_checks, query_checks
from twinrank.data.records import records
from twinrank.errors import DataError, Fault, TwinrankError

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 20_000
LINE = "\0line"  # no column of a table is called this
NEEDED = {  # of each group at least one
    "answer": (("answer_id",), ("answer_text", "answer_title", "answer_sections")),
    "query": (("query_text", "query_title"),),
    "label": (("label_query",), ("label_answer",)),
}
SPELLINGS = {"dev": "validation", "val": "validation", "valid": "validation"}


@dataclass(frozen=True)
class Columns:
    """What the columns of the tables are called, `|` standing between names to try.

    Capitals, spaces and hyphens do not matter: `answer_id` fits a column `Answer ID`. A table
    must have each column that is named otherwise than here.

    Attributes:
        answer_sections: lists of {"title", "text"} or of texts, in CSV as JSON.
        answer_section: title of a section, if an answer is spread over rows, one a section.
        query_id: without it, ids are made from the lines.
        query_title: goes before the text, on a line of its own.
        query_type: without it, all queries are of the type `query`.
        query_thread: without it, or where it is empty, a query is a thread of its own.
        query_answer: right answers, a list or with `separator` between; not read where there is
            a table of labels.
        query_split: train, validation (or dev, val, valid) or test; also of labels.
        label_score: zero or less means not right.
        separator: between right answers.
    """

    answer_id: str = "id|_id|answer_id"
    answer_title: str = "title"
    answer_text: str = "text|content|body"
    answer_url: str = "url"
    answer_sections: str = "sections"
    answer_section: str = "section|section_title"
    query_id: str = "id|_id|query_id"
    query_title: str = "title"
    query_text: str = "text|content|body"
    query_type: str = "type"
    query_thread: str = "thread|thread_id"
    query_answer: str = "answer|answer_id|answers"
    query_split: str = "split"
    label_query: str = "query|query_id"
    label_answer: str = "answer|answer_id|corpus_id"
    label_score: str = "score"
    label_split: str = "split"
    separator: str = ";"

    @classmethod
    def parse(cls, given: Sequence[str]) -> Columns:
        """From items like `query_text=body`.

        Raises:
            TwinrankError: if an item is not of that form, or names no such field.
        """
        named = dict(item.partition("=")[::2] for item in given)
        known = [field.name for field in fields(cls)]
        for field, name in named.items():
            if field not in known or not name:
                all_known = ", ".join(known)
                raise TwinrankError(f"{field}={name}: write FIELD=NAME, FIELD one of {all_known}")
        return cls(**named)


def import_tables(
    out: Path,
    *,
    queries: Path,
    answers: Path,
    labels: Path | None = None,
    columns: Columns = Columns(),
    cast_below: int | None = None,
    skip_faulty: bool = False,
) -> Dataset:
    """Make a data set of tables, and write it to a folder in BEIR's layout.

    Right answers stand in a column of the queries or in a table of labels. Where no split is
    given, all labels go to train: `split` divides them. Faults name a line of a text file, a row
    of a Parquet file.

    Args:
        out: folder to write; must not hold a data set.
        queries: table of queries; its suffix says what it is, as with the others.
        answers: table of answers.
        labels: table of pairs of a query and a right answer.
        columns: what their columns are called.
        cast_below: conversations of fewer characters become questions; see `cast_short`.
        skip_faulty: leave out rows that cannot be used, and log how many.

    Raises:
        DataError: with every fault of every table; nothing is written then.
    """
    if (out / ANSWERS).exists():
        raise DataError([Fault(out, None, "there is a data set already", "choose another folder")])
    faults: list[Fault] = []
    files = {"answer": answers, "query": queries} | ({"label": labels} if labels else {})
    if labels is not None:
        columns = replace(columns, query_answer="")
    found = {kind: _table(file, kind, columns, faults) for kind, file in files.items()}
    if any(fault.line is None for fault in faults) or any(t.is_empty() for t in found.values()):
        raise DataError(faults)
    answer_rows, query_rows = _answers(found["answer"]), _queries(found["query"])
    named = found["label"] if labels else _named_answers(query_rows, columns.separator)
    pairs = _pairs(named, query_rows, answer_rows)
    faults += _faults(answer_rows, answers, answer_checks())
    faults += _faults(query_rows, queries, query_checks())
    faults += _faults(pairs, labels or queries, pair_checks(answers, queries))
    if faults and not skip_faulty:
        order = list(files.values())
        raise DataError(sorted(faults, key=lambda fault: (order.index(fault.file), fault.line)))
    answer_rows = _without(answer_rows, answers, faults)
    query_rows = _without(query_rows, queries, faults)
    if answer_rows.is_empty() or query_rows.is_empty():
        raise DataError(faults)
    for file in files.values():
        if left_out := _faulty(file, faults):
            first = f"the first in line {left_out[0]}"
            log.warning("%s: %s rows left out, %s", file, f"{len(left_out):,}", first)
    pairs = _right(_without(pairs, labels or queries, faults), query_rows, answer_rows)
    dataset = Dataset(
        name=out.resolve().name,
        answers=answer_rows.select("id", "title", "text", "url", "sections"),
        queries=query_rows.select("id", "type", "thread", "text").lazy(),
        labels=pairs.select("query", "answer", "split"),
    )
    if cast_below is not None:
        dataset = cast_short(dataset, cast_below)
    dataset.save(out)
    return Dataset.load(out)


def _table(file: Path, kind: str, columns: Columns, faults: list[Fault]) -> pl.DataFrame:
    """The wanted columns of a table as text, empty cells null: line, and a column a field."""
    asked = {n: v.split("|") for n, v in asdict(columns).items() if n.startswith(f"{kind}_")}
    fitting = {_plain(name) for names in asked.values() for name in names}
    wanted: dict[str, bool] = {}
    parts, rows = [], []
    for line, record in records(file, faults):
        for name in record:
            if name not in wanted:
                wanted[name] = _plain(name) in fitting
        rows.append({LINE: line} | {k: _cell(v) for k, v in record.items() if wanted[k]})
        if len(rows) == ROWS_AT_ONCE:
            parts.append(_frame(rows, wanted))
            rows = []
    table = pl.concat([*parts, _frame(rows, wanted)], how="diagonal")
    if table.is_empty():
        if not any(fault.file == file for fault in faults):
            faults.append(Fault(file, None, "no rows to import", "check the file"))
        return table
    names = _resolve(file, kind, asked, list(wanted), faults)
    empty = pl.lit(None, dtype=pl.String)
    prefix = f"{kind}_"
    cells = {f.removeprefix(prefix): pl.col(name) if name else empty for f, name in names.items()}
    return table.select(pl.col(LINE).alias("line"), **cells)


def _frame(rows: list[dict[str, Any]], wanted: dict[str, bool]) -> pl.DataFrame:
    texts = {name: pl.String for name, is_wanted in wanted.items() if is_wanted}
    return pl.DataFrame(rows, schema={LINE: pl.UInt64, **texts})


def _cell(value: Any) -> str | None:  # noqa: ANN401 (a cell may be anything)
    """A cell as text: 12.0 as 12, since a column of integers with gaps comes as floats."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value is None or value != value:  # NaN is not itself
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _resolve(
    file: Path, kind: str, asked: dict[str, list[str]], there: list[str], faults: list[Fault]
) -> dict[str, str | None]:
    """The column of each field, or none."""
    names: dict[str, str | None] = {}
    usual = asdict(Columns())
    listed = f"the columns are {', '.join(there)}"
    own = {field for field, tried in asked.items() if "|".join(tried) not in ("", usual[field])}
    for field, tried in asked.items():
        fitting = [name for name in there if _plain(name) in map(_plain, tried)]
        if not fitting and field in own:
            what = f"no column {' or '.join(tried)}; {listed}"
            faults.append(Fault(file, None, what, f"correct the name of {field}"))
        if len(fitting) > 1:
            what = f"{' and '.join(fitting)} could both be {field}"
            faults.append(Fault(file, None, what, f"say which: {field}=NAME"))
        names[field] = fitting[0] if fitting else None
    for group in NEEDED[kind]:
        if not any(names[field] or field in own for field in group):
            what = f"no column fits {' or '.join(group)}; {listed}"
            faults.append(Fault(file, None, what, f"say which does: {group[0]}=NAME"))
    return names


def _answers(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of answers, each answer one row: line, id, title, text, url, sections, unreadable."""
    if rows["section"].null_count() < rows.height:
        part = pl.struct(title=pl.col("section").fill_null(""), text=pl.col("text").fill_null(""))
        return rows.group_by("id", maintain_order=True).agg(
            pl.col("line").first(),
            pl.col("title", "url").drop_nulls().first(),
            _joined("section", "text").str.join("\n").alias("text"),
            part.alias("sections"),
            unreadable=pl.lit(False),
        )
    sections = [_sections(cell) for cell in rows["sections"]]
    whole = [
        "\n".join(line for part in parts or [] for line in part.values() if line)
        for parts in sections
    ]
    return rows.with_columns(
        pl.coalesce("text", pl.Series(whole, dtype=pl.String)).alias("text"),
        pl.Series("sections", [parts or [] for parts in sections], dtype=SECTIONS),
        pl.Series("unreadable", [parts is None for parts in sections], dtype=pl.Boolean),
    )


def _sections(cell: str | None) -> list[dict[str, str]] | None:
    """The sections in a cell; none if it is not a list of objects or texts."""
    try:
        parts = json.loads(cell or "[]")
        if not isinstance(parts, list):
            return None
        texts = [{"text": part} if isinstance(part, str) else part for part in parts]
        named = [(p.get("title") or "", p.get("text") or p.get("content") or "") for p in texts]
        return [{"title": title.strip(), "text": text.strip()} for title, text in named]
    except (ValueError, TypeError, AttributeError):
        return None


def _queries(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of queries: line, id, text, type, thread, answer, split."""
    without_ids = rows["id"].null_count() == rows.height
    without_types = rows["type"].null_count() == rows.height
    return rows.with_columns(
        pl.format("q{}", "line").alias("id") if without_ids else pl.col("id"),
        _joined("title", "text").alias("text"),
        pl.lit("query").alias("type") if without_types else pl.col("type"),
    ).with_columns(pl.coalesce("thread", "id"))


def _joined(*names: str) -> pl.Expr:
    return pl.concat_str(names, separator="\n", ignore_nulls=True)


def _named_answers(queries: pl.DataFrame, separator: str) -> pl.DataFrame:
    """A row for each right answer that a query names: line, query, answer, score, split."""
    named = [_ids(cell, separator) for cell in queries["answer"]]
    rows = queries.select("line", "split", query="id", score=pl.lit(None, dtype=pl.String))
    rows = rows.with_columns(pl.Series("answer", named, dtype=pl.List(pl.String)))
    rows = rows.filter(pl.col("query").is_first_distinct()).drop_nulls("query")
    return rows.explode("answer").drop_nulls("answer")


def _ids(cell: str | None, separator: str) -> list[str]:
    cell = cell or ""
    try:
        parts = json.loads(cell) if cell.startswith("[") else cell.split(separator)
    except ValueError:
        parts = cell.split(separator)
    return list(dict.fromkeys(part for part in map(_cell, parts) if part))


def _pairs(rows: pl.DataFrame, queries: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """Rows of labels, with what there is to check and to keep.

    Gives line, query, answer, score (a number), scored (as given), split, thread (null for an
    unknown query), known (the answer) and, of the thread's first row, first_split, first_line.
    """
    of_query = queries.select("thread", query="id", query_split="split").unique(
        "query", keep="first"
    )
    rows = rows.join(of_query, on="query", how="left", maintain_order="left")
    split = pl.coalesce("split", "query_split").str.to_lowercase().replace(SPELLINGS)
    rows = rows.with_columns(
        split=split,
        scored="score",
        score=pl.col("score").cast(pl.Float64, strict=False),
        known=pl.col("answer").is_in(answers["id"].drop_nulls().implode()),
    )
    if rows["split"].null_count() == rows.height:
        rows = rows.with_columns(split=pl.lit(SPLITS[0]))
    of_thread = pl.col("split", "line").first().over("thread").name.prefix("first_")
    return rows.with_columns(of_thread)


def _faults(rows: pl.DataFrame, file: Path, checks: list[Check]) -> list[Fault]:
    return [
        Fault(file, line, what, mend)
        for wrong, said, mend in checks
        for line, what in rows.select("line", what=said, wrong=wrong)
        .filter("wrong")
        .select("line", "what")
        .iter_rows()
    ]


def _faulty(file: Path, faults: list[Fault]) -> list[int]:
    return sorted({fault.line for fault in faults if fault.file == file and fault.line})


def _without(rows: pl.DataFrame, file: Path, faults: list[Fault]) -> pl.DataFrame:
    lines = pl.Series(_faulty(file, faults), dtype=pl.UInt64)
    return rows.filter(~pl.col("line").is_in(lines.implode()))


def _right(pairs: pl.DataFrame, queries: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """The pairs that are labels: judged right, of queries and answers that stayed."""
    right = pairs.filter(pl.col("score").fill_null(1) > 0)
    if right.height < pairs.height:
        log.info("%s judgements of zero or less are no labels", f"{pairs.height - right.height:,}")
    kept = right.join(queries.select(query="id"), on="query", how="semi", maintain_order="left")
    kept = kept.join(answers.select(answer="id"), on="answer", how="semi", maintain_order="left")
    if kept.height < right.height:
        log.warning("%s labels fell away with them", f"{right.height - kept.height:,}")
    return kept
