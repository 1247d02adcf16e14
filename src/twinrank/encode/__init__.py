"""Texts to features: the frozen encoder, and the store that computes them once."""

from twinrank.encode.encoder import POOLINGS, Encoder
from twinrank.encode.features import Features
from twinrank.encode.kept import KeptNetwork, clear_cache, kept_networks
from twinrank.encode.recent import RecentFeatures
from twinrank.encode.resolve import resolve
from twinrank.encode.store import FeatureStore

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
