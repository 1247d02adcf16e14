"""Which sentences of a text an encoder reads, where it cannot read them all."""

from twinrank.text.idf import Idf
from twinrank.text.selection import Selection
from twinrank.text.sentences import sentences

__all__ = ["Idf", "Selection", "sentences"]
