"""Texts to features: the frozen encoder, and the stores that spare encoding a text twice."""

from twinrank.encoding.encoder import POOLINGS, Encoder
from twinrank.encoding.feature_store import FeatureStore, RecentFeatures
from twinrank.encoding.model_files import resolve

Store = FeatureStore | RecentFeatures

__all__ = ["POOLINGS", "Encoder", "FeatureStore", "RecentFeatures", "Store", "resolve"]
