"""Towers: what is trained on top of the frozen encoder."""

from twinrank.model.towers import Towers

__all__ = ["Towers"]
