"""What a run found: ratios, shares of the floor, and changes since the run before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from races.kept import Held, Stored
from races.race import Unit
from races.ratio import Ratio, change, log_ratio, ratio, verdict


@dataclass(frozen=True)
class Result:
    """One race of a run.

    Attributes:
        unit: what was measured.
        ours: median over passes of the median over turns.
        peer: the same of the peer.
        ratio: how many times ours is as good.
        floor_share: the floor over ours, where it is known.
        before: the ratio of the run before.
        change: this ratio over that one.
        verdict: the change in a word; empty where there is nothing to compare with.
    """

    unit: Unit
    ours: float
    peer: float
    ratio: Ratio
    floor_share: float | None
    before: Ratio | None
    change: Ratio | None
    verdict: str


@dataclass(frozen=True)
class Results:
    """A whole run beside the one before it.

    Attributes:
        now: the run.
        before: the run before, if there is one on such a machine.
        races: those that were held.
        missing: the others, each with what the machine lacks.
    """

    now: Stored
    before: Stored | None
    races: list[Result]
    missing: dict[str, str]

    def changed(self, side: int) -> list[Result]:
        """Races that are better (1), worse (-1), or as before (0)."""
        return [one for one in self.races if one.change and one.change.side == side]


def results(units: Sequence[Unit], now: Stored, before: Stored | None) -> Results:
    """Compare race by race; a race that either run did not hold is compared with nothing."""
    held = [unit for unit in units if _turns(now.races[unit.name])]
    shared = [unit for unit in held if before and _turns(before.races.get(unit.name, []))]
    lacking = {u.title: _missing(now.races[u.name]) for u in units if u not in held}
    races = [_result(unit, now, before if unit in shared else None, len(shared)) for unit in held]
    return Results(now, before, races, lacking)


def _result(unit: Unit, now: Stored, before: Stored | None, races: int) -> Result:
    passes = _turns(now.races[unit.name])
    logs = [log_ratio(turns, more_is_better=unit.more_is_better) for turns in passes]

    def middle(side: str) -> float:
        return median(median(turn[side] for turn in turns) for turns in passes)

    share = None
    if "floor" in passes[0][0]:
        share = median(turn["floor"] / turn["ours"] for turns in passes for turn in turns)
    former = changed = None
    if before:
        earlier = [
            log_ratio(turns, more_is_better=unit.more_is_better)
            for turns in _turns(before.races[unit.name])
        ]
        former, changed = ratio(earlier), change(logs, earlier, races)
    word = verdict(changed, unit.words) if changed else ""
    return Result(unit, middle("ours"), middle("peer"), ratio(logs), share, former, changed, word)


def _turns(held: Sequence[Held]) -> list[tuple[dict[str, float], ...]]:
    return [one.turns for one in held if one.turns]


def _missing(held: Sequence[Held]) -> str:
    return next((one.missing for one in held if one.missing), "not held")
