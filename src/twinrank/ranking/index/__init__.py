"""The answer index: where the vectors of answers are searched, here or in a cluster."""

from twinrank.ranking.index.build import Indexed, Last, Rows, build_index, check
from twinrank.ranking.index.interface import AnswerIndex, Found
from twinrank.ranking.index.local import LocalIndex
from twinrank.ranking.index.milvus import MilvusIndex
from twinrank.ranking.index.milvus_place import MilvusPlace
from twinrank.ranking.index.place import make_index, open_index, place_of

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
