"""Data sets: loaded, checked, imported from tables, split and described."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twinrank.data.beir import SPLITS, read_answers, write_answers
from twinrank.data.columns import Columns
from twinrank.data.dataset import Dataset, Queries
from twinrank.data.records import read_texts
from twinrank.data.splitting import split
from twinrank.data.statistics import Description, describe
from twinrank.data.texts import (
    Readable,
    answer_texts,
    readable_answers,
    readable_sections,
    section_texts,
    split_sentences,
    titled_sections,
)
from twinrank.data.trec import read_run, write_run
from twinrank.data.validation import NO_METADATA

if TYPE_CHECKING:
    from twinrank.data.importing import cast_short, import_exports, import_tables
    from twinrank.data.public_collections import import_collection

__all__ = [
    "NO_METADATA",
    "SPLITS",
    "Columns",
    "Dataset",
    "Description",
    "Queries",
    "Readable",
    "answer_texts",
    "cast_short",
    "describe",
    "import_collection",
    "import_exports",
    "import_tables",
    "read_answers",
    "read_run",
    "read_texts",
    "readable_answers",
    "readable_sections",
    "section_texts",
    "split",
    "split_sentences",
    "titled_sections",
    "write_answers",
    "write_run",
]

_IMPORTS = {
    **dict.fromkeys(("cast_short", "import_exports", "import_tables"), "importing"),
    "import_collection": "public_collections",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Load what makes data sets on first use: ranking needs no parser of HTML or mails."""
    if name not in _IMPORTS:
        raise AttributeError(f"module 'twinrank.data' has no attribute {name!r}")
    return getattr(import_module(f"twinrank.data.{_IMPORTS[name]}"), name)
