"""Data sets: loaded, checked, imported from tables, split and described."""

from twinrank.data.casting import cast_short
from twinrank.data.dataset import Dataset, Queries
from twinrank.data.files import SPLITS, read_answers, write_answers
from twinrank.data.importing import Columns, import_tables
from twinrank.data.passages import (
    Readable,
    answer_texts,
    readable_answers,
    readable_sections,
    section_texts,
    titled_sections,
)
from twinrank.data.splitting import split
from twinrank.data.statistics import Description, describe
from twinrank.data.texts import read_texts

__all__ = [
    "SPLITS",
    "Columns",
    "Dataset",
    "Description",
    "Queries",
    "Readable",
    "answer_texts",
    "cast_short",
    "describe",
    "import_tables",
    "read_answers",
    "read_texts",
    "readable_answers",
    "readable_sections",
    "section_texts",
    "split",
    "titled_sections",
    "write_answers",
]
