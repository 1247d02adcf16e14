"""Channels that score answers, and the ranker made of them."""

from twinrank.search.bm25 import Bm25
from twinrank.search.card import CARD, Card, Origin
from twinrank.search.confidence import Confidence, has_evidence, log_odds
from twinrank.search.dense import Dense, Reader
from twinrank.search.evidence import Evidence, PastQuery, Witness
from twinrank.search.folder import Channel, forget_past
from twinrank.search.fused import PARTS, Fused
from twinrank.search.generations import open_file, read_card, writing
from twinrank.search.index import place_of
from twinrank.search.indexing import index_folder
from twinrank.search.order import best_first
from twinrank.search.parts import encoder_of, located, reader_of, towers_of
from twinrank.search.past import PastQueries
from twinrank.search.ranker import RankedAnswer, Ranker

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
    "Origin",
    "PastQueries",
    "PastQuery",
    "RankedAnswer",
    "Ranker",
    "Reader",
    "Witness",
    "best_first",
    "encoder_of",
    "forget_past",
    "has_evidence",
    "index_folder",
    "located",
    "log_odds",
    "open_file",
    "place_of",
    "read_card",
    "reader_of",
    "towers_of",
    "writing",
]
