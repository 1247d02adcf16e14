"""A race: ours and a peer take turns at the same work, so that both meet the same load."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from races.setting import Setting

Value = Callable[[], float]
Turn: TypeAlias = dict[str, float]  # of `ours`, of the `peer`, and the `floor` where it is known
LEAST_S = 0.2  # work that takes less is repeated within one value


class NotHereError(Exception):
    """A race cannot be held on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Race:
    """Two that are ready to be measured.

    Attributes:
        ours: measures twinrank once.
        peer: measures the other once, in the same unit.
        floor: the least that ours could be on this machine now, where that can be measured.
        most: turns after which more would tell nothing new.
        warm_up: whether the first turn does not count.
    """

    ours: Value
    peer: Value
    floor: Value | None = None
    most: int = 15
    warm_up: bool = True


@dataclass(frozen=True)
class Unit:
    """One measurement by name.

    Attributes:
        name: of its files, and for `--only`.
        title: what is done, for people.
        peer: who else does it.
        measure: what a value is, with its unit.
        prepare: does all that is not measured.
        more_is_better: of rates and quality; of times less is.
        words: for a change to the better and to the worse.
    """

    name: str
    title: str
    peer: str
    measure: str
    prepare: Callable[[Setting], Race]
    more_is_better: bool = False
    words: tuple[str, str] = ("faster", "slower")


def turns_of(race: Race, seconds: float) -> list[Turn]:
    """Turns until the time is up or enough were taken, two at least if so many are allowed.

    Who begins changes from turn to turn.
    """
    began = time.perf_counter()
    if race.warm_up:
        _turn(race, ours_first=True)
    least, turns = min(2, race.most), list[Turn]()
    while len(turns) < least or (len(turns) < race.most and time.perf_counter() - began < seconds):
        turns.append(_turn(race, ours_first=len(turns) % 2 == 0))
    return turns


def _turn(race: Race, *, ours_first: bool) -> Turn:
    sides = [("ours", race.ours), ("peer", race.peer)]
    turn = {name: value() for name, value in (sides if ours_first else sides[::-1])}
    if race.floor:
        turn["floor"] = race.floor()
    return turn


def milliseconds(work: Callable[[], object], items: int) -> Value:
    """Measures milliseconds an item, of work that does so many."""

    def value() -> float:
        done, began = 0, time.perf_counter()
        while not done or time.perf_counter() - began < LEAST_S:
            work()
            done += items
        return 1e3 * (time.perf_counter() - began) / done

    return value
