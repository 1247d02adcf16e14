"""How well `even` ranks the test split, against what needs no training; a seed a pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from peers import vectors, words
from peers.encoding import TimedStore
from peers.task import Ready, Task, reach
from races.race import Race, Unit
from races.setting import ENCODER, MAX_TOKENS, Setting

Prepare = Callable[[Task], Ready]


def units() -> list[Unit]:
    """MAP@10 over the test queries."""
    peers = {
        "bm25s": ("bm25s", words.bm25s),
        "encoder": ("SentenceTransformer, cosine", vectors.encoder),
    }
    return [
        Unit(
            f"quality-{name}",
            "quality of even",
            peer,
            "MAP@10",
            partial(_quality, prepare),
            more_is_better=True,
            words=("better", "worse"),
        )
        for name, (peer, prepare) in peers.items()
    ]


def _quality(prepare: Prepare, setting: Setting) -> Race:
    dataset, ours = setting.dataset, setting.ranker
    test = dataset.split("test")
    task = Task(
        answers=dataset.answer_texts(),
        train=dataset.split("train"),
        validation=dataset.split("validation"),
        encoder=ENCODER,
        max_tokens=MAX_TOKENS,
        learning_rate=0.0,  # neither peer trains
        seed=setting.number,
        folder=setting.folder,
        store=TimedStore(setting.folder),
    )
    peer = prepare(task)
    return Race(
        lambda: reach(lambda part: ours.scores(test.texts[part]), test),
        lambda: reach(lambda part: peer.score(test.texts[part]), test),
        most=1,
        warm_up=False,  # no time is taken
    )
