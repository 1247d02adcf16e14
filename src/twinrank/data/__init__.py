"""Data sets: loaded, checked, imported from tables, split and described."""

from twinrank.data.cast import cast_short
from twinrank.data.dataset import Dataset, Queries
from twinrank.data.describe import Description, describe
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
from twinrank.data.split import split
from twinrank.data.texts import read_texts
from twinrank.data.verdicts import Verdict, feedback_id, last_words, text_key

__all__ = [
    "SPLITS",
    "Columns",
    "Dataset",
    "Description",
    "Queries",
    "Readable",
    "Verdict",
    "answer_texts",
    "cast_short",
    "describe",
    "feedback_id",
    "import_tables",
    "last_words",
    "read_answers",
    "read_texts",
    "readable_answers",
    "readable_sections",
    "section_texts",
    "split",
    "text_key",
    "titled_sections",
    "write_answers",
]
