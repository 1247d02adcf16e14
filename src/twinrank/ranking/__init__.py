"""Signals that score answers, and the ranker made of them."""

from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.confidence import Confidence, has_evidence, log_odds
from twinrank.ranking.dense import Dense, Reader
from twinrank.ranking.explanation import Evidence, PastQuery, Witness
from twinrank.ranking.folder import forget_past
from twinrank.ranking.fused import PARTS, Fused
from twinrank.ranking.index_place import place_of
from twinrank.ranking.indexing import index_folder, load_indexed
from twinrank.ranking.manifest import Manifest, Origin
from twinrank.ranking.memory import Memory, Past
from twinrank.ranking.order import best_first
from twinrank.ranking.parts import encoder_of, located, reader_of, towers_of
from twinrank.ranking.passages import Passages, among, in_chunks, over_passages
from twinrank.ranking.past_queries import PastQueries
from twinrank.ranking.ranker import RankedAnswer, Ranker
from twinrank.ranking.serialization import Channel
from twinrank.ranking.storage import CURRENT, open_file, read_manifest, read_pointer, writing
from twinrank.ranking.towers import Towers, total

__all__ = [
    "CURRENT",
    "PARTS",
    "Bm25",
    "Channel",
    "Confidence",
    "Dense",
    "Evidence",
    "Fused",
    "Manifest",
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
    "load_indexed",
    "located",
    "log_odds",
    "open_file",
    "over_passages",
    "place_of",
    "read_manifest",
    "read_pointer",
    "reader_of",
    "total",
    "towers_of",
    "writing",
]
