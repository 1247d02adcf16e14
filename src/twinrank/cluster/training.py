"""The fitting of towers by a team of this process and workers of a cluster."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import RayTaskError
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from twinrank.cluster.connection import LOST, Slot, worker_error
from twinrank.errors import ClusterError
from twinrank.recipe import TrainingSettings
from twinrank.training import (
    Checkpoint,
    OnEpoch,
    ProcessLostError,
    Record,
    TowerTrainer,
    Trainer,
    TrainingData,
)
from twinrank.training.distributed import join_group, leave_group, process_count
from twinrank.training.tower_modules import Towers

BEGIN_S = 60.0  # within which a worker has to begin to be of the team
PATIENCE_S = 300.0  # until a worker that says nothing, and whose machine says nothing, is lost
LOOKED_EVERY_S = 0.05
END_S = 30.0  # in which Ray knows that a worker is gone
LOSSES = 3  # of a team in one epoch, before all is given up

log = logging.getLogger(__name__)


class _Fitting(NamedTuple):
    """The training that a helper carries out along with the main process."""

    towers: Towers
    data: TrainingData
    settings: TrainingSettings
    seed: int
    saved: Checkpoint | None


class Helper:
    """A further process of a team."""

    def begin(self) -> None:
        """Answer: this process has started."""

    def help(self, fitting: _Fitting, host: str, port: int, size: int, number: int) -> None:
        """Fit along, from where the checkpoint stands; the towers stay here, and are forgotten."""
        torch.set_num_threads(1)
        place = TCPStore(host, port)
        place.set(_arrival_key(number), "")
        join_group(place, size, number, patience_s=PATIENCE_S)
        try:
            trainer = TowerTrainer(
                fitting.towers, fitting.data, fitting.settings, _not_asked, seed=fitting.seed
            )
            trainer.run(saved=fitting.saved)
        finally:
            leave_group()


@dataclass(frozen=True)
class Crew:
    """Fits towers in a team, and goes on from the last epoch with whom there is if one dies.

    Attributes:
        workers: processes of the team, this one included; by default as many as the cluster has
            cores.
    """

    workers: int | None = None

    def __call__(
        self, trainer: Trainer, *, saved: Checkpoint | None, on_epoch: OnEpoch
    ) -> list[Record]:
        """Run a trainer as `Trainer.run` does, in a team.

        Raises:
            ClusterError: if a team is lost again and again, or a worker cannot do its part.
        """
        if not isinstance(trainer, TowerTrainer):
            raise TypeError(f"a team trains towers, not by a {type(trainer).__name__}")
        reached, losses = saved, 0

        def remember(checkpoint: Checkpoint) -> None:
            nonlocal reached, losses
            reached, losses = copy.deepcopy(checkpoint), 0  # training goes on in its tensors
            on_epoch(checkpoint)

        while True:
            try:
                with _team(trainer, reached, self.workers):
                    return trainer.run(saved=reached, on_epoch=remember)
            except ProcessLostError as error:
                losses += 1
                if losses > LOSSES:
                    raise ClusterError(
                        f"the team was lost {losses} times in one epoch; run the same again with "
                        "fewer --workers, or without --ray: it goes on from the last epoch"
                    ) from error
                epoch = len(reached.history) - 1 if reached else 0
                log.info("a worker was lost; going on after epoch %d", epoch)


@contextmanager
def _team(trainer: TowerTrainer, saved: Checkpoint | None, workers: int | None) -> Iterator[None]:
    """Have others fit towers along from a checkpoint on; this process alone if no other begins.

    Raises:
        ProcessLostError: if one is lost, then or while they fit.
        ClusterError: if one cannot do its part.
    """
    room = Slot.of("cpu").count  # now: a machine may be gone, and nobody would begin in its place
    wanted = min((workers or room) - 1, room)
    helper: Any = ray.remote(Helper).options(num_cpus=1, scheduling_strategy="SPREAD")
    helpers = [helper.remote() for _ in range(wanted)]
    threads = torch.get_num_threads()
    try:
        begun = _begun(helpers)
        if not begun:
            yield
            return
        torch.set_num_threads(1)  # as each of the others: they are counted by cores
        host, size = ray.util.get_node_ip_address(), len(begun) + 1
        place = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        data = replace(trainer.data, validation=None)
        fitting = ray.put(_Fitting(trainer.towers, data, trainer.settings, trainer.seed, saved))
        helps = [
            worker.help.remote(fitting, host, place.port, size, number)
            for number, worker in enumerate(begun, start=1)
        ]
        try:
            _await(place, helps)
            join_group(place, size, 0, patience_s=PATIENCE_S)
            log.info("%d processes fit the towers together", process_count())
            try:
                yield
            finally:
                leave_group()
        except ProcessLostError:
            _check_done(helps)
            raise
    finally:
        torch.set_num_threads(threads)
        for worker in helpers:
            ray.kill(worker)


def _await(place: TCPStore, helps: list[Any]) -> None:
    """Wait until all have come; who dies on the way is missed at once, not when patience ends.

    Raises:
        ProcessLostError: if one does not come.
    """
    arrivals = [_arrival_key(number) for number in range(1, len(helps) + 1)]
    while not place.check(arrivals):
        ended, _ = ray.wait(helps, timeout=LOOKED_EVERY_S)
        if ended:
            raise ProcessLostError("a process of the team did not come")


def _arrival_key(number: int) -> str:
    """Give the key under which a process says that it has arrived."""
    return f"here-{number}"


def _begun(helpers: list[Any]) -> list[Any]:
    """Those that have begun after a while; a machine has no room for the others, or is gone."""
    answers = {helper.begin.remote(): helper for helper in helpers}
    ready, late = ray.wait(list(answers), num_returns=len(answers), timeout=BEGIN_S)
    if late:
        log.info("%d of %d workers have not begun: others do their part", len(late), len(answers))
    return [answers[answer] for answer in ready if _is_alive(answer)]


def _is_alive(answer: Any) -> bool:  # noqa: ANN401 (Ray's)
    try:
        ray.get(answer)
    except LOST:
        return False
    except RayTaskError as error:
        raise worker_error(error) from None
    return True


def _check_done(helps: list[Any]) -> None:
    """Raise what was wrong with a worker, unless it was lost or missed another one.

    Waits until Ray knows who is gone, so that the next team does not count on them.
    """
    ended, _ = ray.wait(helps, num_returns=len(helps), timeout=END_S)
    for answer in ended:
        try:
            ray.get(answer)
        except LOST:
            continue
        except RayTaskError as error:
            if not isinstance(error.cause, ProcessLostError):
                raise worker_error(error) from None


def _not_asked(towers: Any) -> dict[str, Any]:  # noqa: ANN401
    """A helper measures nothing: it is told."""
    raise AssertionError(f"{type(towers).__name__} are measured by the main process")
