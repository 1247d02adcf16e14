"""Texts to features: the frozen encoder, and the store that computes them once."""

from twinrank.encode.encoder import POOLINGS, Encoder
from twinrank.encode.features import Features
from twinrank.encode.recent import RecentFeatures
from twinrank.encode.store import FeatureStore

Store = FeatureStore | RecentFeatures

__all__ = ["POOLINGS", "Encoder", "FeatureStore", "Features", "RecentFeatures", "Store"]
