"""Public data sets by their ids in ir_datasets or on Hugging Face, imported as a data set."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from twinrank.arguments import AnyPath, path_of
from twinrank.data.beir import QREL_COLUMNS, SPELLINGS, SPLITS, check_place, place_to_write
from twinrank.data.dataset import Dataset
from twinrank.data.records import Record
from twinrank.data.validation import Judgement, check_judgements, check_rows, describe_outcomes
from twinrank.errors import DataError, Fault, TwinrankError, first_line
from twinrank.extras import check_installed

log = logging.getLogger(__name__)

CORPUS, QUERIES, QRELS = "corpus", "queries", ("qrels", "default")  # configurations, as MTEB's


@dataclass(frozen=True)
class _Collection:
    """The records of a collection, as BEIR has them; judgements by split."""

    answers: Iterable[Record]
    queries: Iterable[Record]
    judgements: dict[str, Iterable[Record]]


def import_collection(out: AnyPath, name: str, *, fresh: bool = False) -> Dataset:
    """Make a data set of a public one, and write it to a folder in BEIR's layout.

    What cannot be used is left out and logged, as `Dataset.load` does.

    Args:
        out: folder to write; must not hold a data set, unless `fresh`.
        name: `ir_datasets:ID`, such as `ir_datasets:beir/scifact/test`, or `hf:ID`, such as
            `hf:mteb/scifact`, on Hugging Face in the layout of BEIR or MTEB. An ID of ir_datasets
            without judgements, such as `beir/scifact`, stands for its splits.
        fresh: replace the data set in the folder, once the new one is whole.

    Raises:
        TwinrankError: if there is no such collection, or it cannot be had.
        DataError: if none of it can be used, or the folder is not free.
    """
    out = path_of(out, "out")
    check_place(out, fresh=fresh)
    source, _, id_ = name.partition(":")
    readers = {"ir_datasets": _read_ir_datasets, "hf": _read_hugging_face}
    if source not in readers or not id_:
        raise TwinrankError(f"{name}: give ir_datasets:ID or hf:ID, such as hf:mteb/scifact")
    collection = readers[source](id_)
    faults: list[Fault] = []
    file = Path(name)
    answers = check_rows("answer", enumerate(collection.answers, 1), file / CORPUS, faults)
    queries = check_rows("query", enumerate(collection.queries, 1), file / QUERIES, faults)
    threads: dict[str, tuple[Path, int, str]] = {}
    judged: list[Judgement] = []
    for split, records in collection.judgements.items():
        rows = ((row, record | {"split": split}) for row, record in enumerate(records, 1))
        judged += check_judgements(rows, file / split, queries, answers, threads)
    if not (answers.usable and queries.usable):
        empty = Fault(file, None, "no answers or no queries", "check the name")
        raise DataError(faults or [empty])
    for sentence in describe_outcomes(faults):
        log.warning("%s", sentence)
    dataset = Dataset.of_rows(out.resolve().name, answers, queries, judged)
    with place_to_write(out, fresh=fresh) as folder:
        replace(dataset, left_out=()).save(folder)  # what is left out was said
    return Dataset.load(out)


def _read_ir_datasets(id_: str) -> _Collection:
    """Read a collection of ir_datasets, with the splits below it if it has no judgements."""
    check_installed("Data sets of ir_datasets", "collections", "ir_datasets")
    import ir_datasets

    parts: dict[str, Any] = {}
    for name in (id_, *(f"{id_}/{word}" for word in (*SPLITS, *SPELLINGS))):
        try:
            part = ir_datasets.load(name)
        except KeyError:
            continue
        if part.has_qrels():
            word = name.rpartition("/")[2]
            split = SPELLINGS.get(word, word)
            parts.setdefault(split if split in SPLITS else SPLITS[-1], part)
        if name == id_ and parts:
            break
    if not parts or not all(part.has_docs() and part.has_queries() for part in parts.values()):
        raise TwinrankError(
            f"ir_datasets:{id_}: no collection with documents, queries and judgements; see "
            "https://ir-datasets.com for the names"
        )
    first, *_ = parts.values()
    queries = (query for part in parts.values() for query in part.queries_iter())
    return _Collection(
        answers=(_as_record(document, "doc_id") for document in first.docs_iter()),
        queries=({q["_id"]: q for q in (_as_record(q, "query_id") for q in queries)}).values(),
        judgements={split: _read_qrels(part) for split, part in parts.items()},
    )


def _read_qrels(part: Any) -> Iterator[Record]:  # noqa: ANN401 (of ir_datasets, untyped)
    for qrel in part.qrels_iter():
        yield {"query": qrel.query_id, "answer": qrel.doc_id, "score": qrel.relevance}


def _as_record(row: Any, id_field: str) -> Record:  # noqa: ANN401 (of ir_datasets, untyped)
    """Return a document or query of ir_datasets as BEIR has it, with all its fields."""
    fields = row._asdict()
    if "text" in fields:
        return {"_id": fields.pop(id_field), **fields}
    return {"_id": fields[id_field], "title": fields.get("title"), "text": row.default_text()}


def _read_hugging_face(id_: str) -> _Collection:
    """Read a collection of Hugging Face, or a folder that `datasets` reads, in BEIR's layout."""
    check_installed("Data sets of Hugging Face", "collections", "datasets")
    from datasets import get_dataset_config_names, load_dataset

    try:
        configurations = get_dataset_config_names(id_)
        named = {CORPUS, QUERIES} & {*configurations}
        if len(named) < 2:
            raise TwinrankError(
                f"hf:{id_}: no configurations called {CORPUS} and {QUERIES}, but "
                f"{', '.join(configurations)}; give a data set in the layout of BEIR or MTEB"
            )
        answers, queries = (load_dataset(id_, name).values() for name in (CORPUS, QUERIES))
        qrels = next((name for name in QRELS if name in configurations), None)
        judged = load_dataset(id_, qrels) if qrels else load_dataset(f"{id_}-qrels")
    except (OSError, ValueError) as error:
        line = first_line(error)
        raise TwinrankError(f"hf:{id_}: {line}; check the id, and the connection") from None
    splits = {SPELLINGS.get(name, name): rows for name, rows in judged.items()}
    if others := splits.keys() - {*SPLITS}:
        log.warning("hf:%s: judgements not read of the splits %s", id_, ", ".join(sorted(others)))
    return _Collection(
        answers=chain.from_iterable(answers),
        queries=chain.from_iterable(queries),
        judgements={name: map(_name_columns, splits[name]) for name in SPLITS if name in splits},
    )


def _name_columns(row: Record) -> Record:
    """Return a judgement with its columns as they are named here."""
    given = {name.lower().replace("_", "-"): value for name, value in row.items()}
    return {
        column: next((given[name] for name in names if name in given), None)
        for column, names in QREL_COLUMNS.items()
    }
