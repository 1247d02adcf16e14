"""The course of a sweep: trials at once, until there are as many as wanted."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path

from optuna.trial import TrialState

from twinrank.encoding import FeatureStore
from twinrank.errors import SweepError
from twinrank.experiments.runs import Calls, at_once, encode
from twinrank.experiments.sweep.found import Sweep
from twinrank.experiments.sweep.sampling import Sampler
from twinrank.experiments.sweep.storage import Place
from twinrank.experiments.sweep.trial import (
    FAILURE,
    UNDER_WAY,
    Means,
    Search,
    count,
    count_done,
    failures,
    one_trial,
    study_of,
)

log = logging.getLogger(__name__)


def sweep(
    search: Search,
    *,
    trials: int,
    out: Path,
    storage: str | None = None,
    sampler: Sampler = "tpe",
    store: FeatureStore,
    track: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    calls: Calls = at_once,
) -> Sweep:
    """Carry out trials until there are as many as asked for, in this call and all others.

    The first trial is the recipe as it is, if its values lie in the ranges. A trial whose best
    epoch so far is worse than the median of whole trials at that epoch is pruned. One that was
    killed is done again, at most twice; one that diverges fails, and is not.

    Args:
        search: what to search for.
        trials: how many in all, pruned ones included.
        out: folder of this sweep; its database, if `storage` is none.
        storage: address of the database, as SQLAlchemy writes it; several machines may share it.
        sampler: `tpe`, tree-structured Parzen estimators, or `gp`, a Gaussian process.
        store: features, computed once for all trials.
        track: tell a tracker of each trial; see `tracking`.
        device: where to compute.
        workers: trials at once; none leaves it to `calls`.
        calls: what carries trials out; on other machines, they have to reach `storage`.

    Raises:
        SweepError: if the database cannot be used, `out` holds another sweep, or no
            trial reached a figure.
        DataError: if there is no validation split.
    """
    search.dataset.split("validation")
    means = Means(Place.of(storage, out), sampler, store, out, track, device)
    study = study_of(search, means)
    encode(search.dataset, search.recipe, store=store, device=device)
    trial = partial(one_trial, search, means, trials)
    here, waiting = 0, False
    with means.place.errors():
        while (due := trials - count_done(study)) > 0:
            if free := range(due - count(study, UNDER_WAY)):
                here += sum(calls(trial, free, workers=workers, device=device, label="Trials"))
                continue
            if not waiting:  # for others, or for those that were killed to be known as such
                log.info("waiting for %d trial(s) that another process began", due)
                waiting = True
            time.sleep(1)
            means.place.fail_killed(study)
    log.info("%d of %d trials carried out in this call", here, count_done(study))
    if not count(study, (TrialState.COMPLETE,)):
        failed = failures(study)
        why = f" (trial {failed[0].number}: {failed[0].user_attrs[FAILURE]})" if failed else ""
        raise SweepError(
            f"{search.name}: no trial came to an end with a figure{why}; mend the ranges"
        )
    return Sweep(search, study)
