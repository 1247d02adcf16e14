"""What there is to see in a data set before anything is trained on it."""

from twinrank.exploration.explore import Exploration, explore
from twinrank.exploration.findings import Check, Finding

__all__ = ["Check", "Exploration", "Finding", "explore"]
