"""The answer index: where the vectors of answers are searched, here or in a cluster."""

from twinrank.search.index.build import Indexed, Last, Rows, build_index, check
from twinrank.search.index.interface import AnswerIndex, Found
from twinrank.search.index.local import LocalIndex
from twinrank.search.index.milvus import MilvusIndex
from twinrank.search.index.milvus_place import MilvusPlace
from twinrank.search.index.place import make_index, open_index, place_of

__all__ = [
    "AnswerIndex",
    "Found",
    "Indexed",
    "Last",
    "LocalIndex",
    "MilvusIndex",
    "MilvusPlace",
    "Rows",
    "build_index",
    "check",
    "make_index",
    "open_index",
    "place_of",
]
