"""Texts to features: the frozen encoder, and the store that computes them once."""

from twinrank.encoding.encoder import POOLINGS, Encoder
from twinrank.encoding.features import Features
from twinrank.encoding.kept import KeptNetwork, clear_cache, kept_networks
from twinrank.encoding.model_files import resolve
from twinrank.encoding.recent import RecentFeatures
from twinrank.encoding.store import FeatureStore

Store = FeatureStore | RecentFeatures

__all__ = [
    "POOLINGS",
    "Encoder",
    "FeatureStore",
    "Features",
    "KeptNetwork",
    "RecentFeatures",
    "Store",
    "clear_cache",
    "kept_networks",
    "resolve",
]
