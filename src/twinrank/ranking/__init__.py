"""Signals that score answers, and the ranker made of them."""

from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.card import CARD, Card, Origin
from twinrank.ranking.confidence import Confidence, has_evidence, log_odds
from twinrank.ranking.dense import Dense, Reader
from twinrank.ranking.explanation import Evidence, PastQuery, Witness
from twinrank.ranking.folder import Channel, forget_past
from twinrank.ranking.fused import PARTS, Fused
from twinrank.ranking.generations import open_file, read_card, writing
from twinrank.ranking.index import place_of
from twinrank.ranking.indexing import index_folder
from twinrank.ranking.memory import Memory, Past
from twinrank.ranking.order import best_first
from twinrank.ranking.parts import encoder_of, located, reader_of, towers_of
from twinrank.ranking.passages import Passages, among, in_chunks, over_passages
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.ranker import RankedAnswer, Ranker
from twinrank.ranking.towers import Towers, total

__all__ = [
    "CARD",
    "PARTS",
    "Bm25",
    "Card",
    "Channel",
    "Confidence",
    "Dense",
    "Evidence",
    "Fused",
    "Memory",
    "Origin",
    "Passages",
    "Past",
    "PastQueries",
    "PastQuery",
    "RankedAnswer",
    "Ranker",
    "Reader",
    "Towers",
    "Witness",
    "among",
    "best_first",
    "encoder_of",
    "forget_past",
    "has_evidence",
    "in_chunks",
    "index_folder",
    "located",
    "log_odds",
    "open_file",
    "over_passages",
    "place_of",
    "read_card",
    "reader_of",
    "total",
    "towers_of",
    "writing",
]
