"""Texts to features: the frozen encoder, and the store that computes them once."""

from twinrank.encode.encoder import POOLINGS, Encoder
from twinrank.encode.features import Features
from twinrank.encode.store import FeatureStore

__all__ = ["POOLINGS", "Encoder", "FeatureStore", "Features"]
