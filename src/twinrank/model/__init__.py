"""Towers: what is trained on top of the frozen encoder."""

from twinrank.model.memory import Memory, Past
from twinrank.model.passages import Passages, among, in_chunks, over_passages
from twinrank.model.towers import Towers, total

__all__ = ["Memory", "Passages", "Past", "Towers", "among", "in_chunks", "over_passages", "total"]
