"""Signals that score answers, and the ranker made of them."""

from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.confidence import Confidence, has_evidence, log_odds
from twinrank.ranking.explanation import Evidence, Explainer, PastQuery
from twinrank.ranking.folder import forget_past
from twinrank.ranking.index_place import place_of
from twinrank.ranking.indexing import index_folder, load_indexed
from twinrank.ranking.manifest import Manifest, Origin
from twinrank.ranking.passages import Passages, among
from twinrank.ranking.past_queries import PastQueries, PastSignal
from twinrank.ranking.ranker import RankedAnswer, Ranker
from twinrank.ranking.reader import Reader, encoder_of, located, reader_of
from twinrank.ranking.scoring import INITIAL_WEIGHTS, Scoring, past_signals, total
from twinrank.ranking.shortlist import top_k
from twinrank.ranking.signals import DenseSignal, QueryBatch, Signal
from twinrank.ranking.storage import CURRENT, open_file, read_manifest, read_pointer, writing
from twinrank.ranking.towers import FrozenTowers

__all__ = [
    "CURRENT",
    "INITIAL_WEIGHTS",
    "Bm25",
    "Confidence",
    "DenseSignal",
    "Evidence",
    "Explainer",
    "FrozenTowers",
    "Manifest",
    "Origin",
    "Passages",
    "PastQueries",
    "PastQuery",
    "PastSignal",
    "QueryBatch",
    "RankedAnswer",
    "Ranker",
    "Reader",
    "Scoring",
    "Signal",
    "among",
    "encoder_of",
    "forget_past",
    "has_evidence",
    "index_folder",
    "load_indexed",
    "located",
    "log_odds",
    "open_file",
    "past_signals",
    "place_of",
    "read_manifest",
    "read_pointer",
    "reader_of",
    "top_k",
    "total",
    "writing",
]
