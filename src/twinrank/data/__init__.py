"""Data sets: loaded, checked, imported from tables, split and described."""

from twinrank.data.dataset import SPLITS, Dataset, Queries, answer_texts
from twinrank.data.files import read_answers, write_answers
from twinrank.data.texts import read_texts

__all__ = [
    "SPLITS",
    "Dataset",
    "Queries",
    "answer_texts",
    "read_answers",
    "read_texts",
    "write_answers",
]
