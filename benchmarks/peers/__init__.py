"""What people would pick instead of twinrank, each as a function from a task to a scorer.

| name | what it is | seeds |
|---|---|---|
| `bm25s` | the library as its README says: stop words, stemming, `retrieve` | one |
| `encoder` | `SentenceTransformer.encode` and cosine, nothing trained | one |
| `logistic` | scikit-learn's logistic regression on stored mean-pooled features | one |
| `svm` | TF-IDF of words and pairs of words, linear SVM | one |
| `tuned` | sentence-transformers: the whole encoder, in-batch negatives | each |
| `colbert` | sentence-transformers: a vector a token, MaxSim, in-batch negatives | each |
| `setfit` | SetFit: the encoder on pairs of queries, then logistic regression | each |

ColBERT is the `MultiVectorEncoder` of sentence-transformers: PyLate, where it comes from, pins
sentence-transformers 5, which does not install beside the version that all others run in. SetFit
installs beside them, so every peer runs in this process and meets the same machine and threads.

`logistic`, `svm` and `setfit` know only the answers that were right in train: see
`peers.task.over_all_answers` for where the others come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from peers.task import Ready, Task


@dataclass(frozen=True)
class Peer:
    """A peer by name.

    Attributes:
        name: of the peer, and of the function that makes it ready.
        module: where that function and its settings are; imports the peer's library.
        seeded: whether a seed changes what it becomes.
        reads: which values of a `Task`, besides data and seed, it depends on.
    """

    name: str
    module: str
    seeded: bool = False
    reads: tuple[str, ...] = ()

    @property
    def prepare(self) -> Callable[[Task], Ready]:
        """The function that makes it ready."""
        function: Callable[[Task], Ready] = getattr(import_module(self.module), self.name)
        return function

    @property
    def settings(self) -> dict[str, Any]:
        """What is fixed in its module: another value is another result."""
        settings: dict[str, Any] = import_module(self.module).SETTINGS
        return settings


ENCODER = ("encoder", "max_tokens")
TRAINED = (*ENCODER, "learning_rate")
CHEAP = (
    Peer("bm25s", "peers.words"),
    Peer("encoder", "peers.vectors", reads=ENCODER),
    Peer("logistic", "peers.vectors", reads=ENCODER),
    Peer("svm", "peers.words"),
)
HEAVY = (
    Peer("tuned", "peers.tuned", seeded=True, reads=TRAINED),
    Peer("colbert", "peers.tuned", seeded=True, reads=TRAINED),
    Peer("setfit", "peers.few_shot", seeded=True, reads=ENCODER),
)
PEERS = {peer.name: peer for peer in (*CHEAP, *HEAVY)}
