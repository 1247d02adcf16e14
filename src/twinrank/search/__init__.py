"""Channels that score answers, and the ranker made of them."""

from twinrank.search.bm25 import Bm25
from twinrank.search.dense import Dense, Reader
from twinrank.search.folder import Origin, encoder_of, towers_of
from twinrank.search.ranker import RankedAnswer, Ranker, best_first

__all__ = [
    "Bm25",
    "Dense",
    "Origin",
    "RankedAnswer",
    "Ranker",
    "Reader",
    "best_first",
    "encoder_of",
    "towers_of",
]
