"""Texts to features, against `SentenceTransformer.encode` at its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from encode import mean_of
from floor import Floor
from races.race import Race, Unit, milliseconds
from races.setting import Setting

TOGETHER, ALONE = 200, 20  # texts
PEER, MEASURE = "SentenceTransformer", "ms a text"


def units(types: Sequence[str]) -> list[Unit]:
    """Of each type, many texts in one call, and one text a call as a search asks."""
    return [
        *(
            Unit(f"encode-{kind}", f"encode, {kind}", PEER, MEASURE, partial(_together, kind))
            for kind in types
        ),
        *(
            Unit(f"alone-{kind}", f"encode one alone, {kind}", PEER, MEASURE, partial(_alone, kind))
            for kind in types
        ),
    ]


def _together(kind: str, setting: Setting) -> Race:
    texts, ours, peer = setting.texts(kind, TOGETHER), setting.encoder, setting.sentence_transformer
    floor, precision = Floor([ours], texts), ours.precision

    def least() -> float:
        return 1e3 * floor.seconds()[precision] / len(texts)

    return Race(
        milliseconds(lambda: mean_of(ours)(texts), len(texts)),
        milliseconds(lambda: peer.encode(texts), len(texts)),
        floor=least if precision in floor.rates else None,
    )


def _alone(kind: str, setting: Setting) -> Race:
    texts, peer = setting.texts(kind, ALONE), setting.sentence_transformer
    ours = mean_of(setting.encoder)
    return Race(
        milliseconds(lambda: [ours([text]) for text in texts], len(texts)),
        milliseconds(lambda: [peer.encode([text]) for text in texts], len(texts)),
    )
