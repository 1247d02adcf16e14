"""What there is to see in a data set before anything is trained on it."""

from twinrank.exploration.exploration import Exploration, explore
from twinrank.exploration.finding import Finding
from twinrank.exploration.findings import findings

__all__ = ["Exploration", "Finding", "explore", "findings"]
