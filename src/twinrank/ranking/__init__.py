"""Signals that score answers, and the ranker made of them."""

from twinrank.ranking.answer_index import LOCAL, MilvusPlace, place_of, top_k
from twinrank.ranking.bm25 import Bm25
from twinrank.ranking.clarification import CANDIDATES, Option, choose_options
from twinrank.ranking.explanation import Evidence, Explainer, PastQuery
from twinrank.ranking.filters import AnswerFields, Filter, Where
from twinrank.ranking.folder import forget_past
from twinrank.ranking.manifest import DIGITS, Learned, Manifest, Origin, Removed
from twinrank.ranking.past_queries import PastQueries, PastSignal
from twinrank.ranking.ranker import RankedAnswer, Ranker, index_folder, load_indexed, roll_back
from twinrank.ranking.reader import (
    Passages,
    Reader,
    among,
    complete,
    encoder_of,
    located,
    pool_passages,
    reader_of,
)
from twinrank.ranking.rules import RULES, Rules, read_rules
from twinrank.ranking.scoring import (
    INITIAL_WEIGHTS,
    Confidence,
    Scoring,
    has_evidence,
    log_odds,
    total,
)
from twinrank.ranking.signals import DenseSignal, QueryBatch, Signal
from twinrank.ranking.storage import CURRENT, read_manifest, read_pointer, writing
from twinrank.ranking.towers import FrozenTowers

__all__ = [
    "CANDIDATES",
    "CURRENT",
    "DIGITS",
    "INITIAL_WEIGHTS",
    "LOCAL",
    "RULES",
    "AnswerFields",
    "Bm25",
    "Confidence",
    "DenseSignal",
    "Evidence",
    "Explainer",
    "Filter",
    "FrozenTowers",
    "Learned",
    "Manifest",
    "MilvusPlace",
    "Option",
    "Origin",
    "Passages",
    "PastQueries",
    "PastQuery",
    "PastSignal",
    "QueryBatch",
    "RankedAnswer",
    "Ranker",
    "Reader",
    "Removed",
    "Rules",
    "Scoring",
    "Signal",
    "Where",
    "among",
    "choose_options",
    "complete",
    "encoder_of",
    "forget_past",
    "has_evidence",
    "index_folder",
    "load_indexed",
    "located",
    "log_odds",
    "place_of",
    "pool_passages",
    "read_manifest",
    "read_pointer",
    "read_rules",
    "reader_of",
    "roll_back",
    "top_k",
    "total",
    "writing",
]
