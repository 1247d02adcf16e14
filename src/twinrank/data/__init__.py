"""Data sets: loaded, checked, imported from tables, split and described."""

from twinrank.data.beir import SPLITS, read_answers, write_answers
from twinrank.data.columns import Columns
from twinrank.data.dataset import Dataset, Queries
from twinrank.data.importing import cast_short, import_exports, import_tables
from twinrank.data.public_collections import import_collection
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
