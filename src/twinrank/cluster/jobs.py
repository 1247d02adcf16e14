"""Jobs on a cluster: calls of a function, texts encoded in chunks, the training of a ranker."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from twinrank.cluster.connection import Slot, worker_error
from twinrank.data import Dataset
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import TwinrankError, first_line
from twinrank.experiments.runs import encode
from twinrank.progress import progress_bar
from twinrank.recipe import Recipe
from twinrank.training import train

# A worker, or the machine under it, is gone.
LOST = (RayActorError, ObjectLostError, WorkerCrashedError, NodeDiedError)
RETRIES = 3  # of a call, or a training, whose worker died
# Texts at a time, which is the cost of a worker's death: enough to sort by length, few enough
# that all workers end at about the same time.
MIN_TEXTS, MAX_TEXTS, CHUNKS_A_WORKER = 32, 512, 8
TRAINING_TIMEOUT_S = 86_400  # the others wait while the main process encodes

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def calls_on_cluster(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    device: str,
    label: str,
) -> list[Result]:
    """Return the results that `at_once` gives, each call by a worker that has a core free.

    Args:
        function: is sent once, not with each call.
        items: the calls' arguments.
        workers: calls at once, at most; None means as many as the cluster has room for.
        device: where the calls compute.
        label: of the progress bar.

    Raises:
        TwinrankError: if a call was lost with its worker, and again `RETRIES` times.
    """
    slot = Slot.of(device)
    results: dict[int, Result] = {}
    workers = min(workers or len(items), len(items))
    shown = f"{label} on the cluster, {min(workers, slot.count)} at once"
    with progress_bar(shown, len(items), unit="runs") as advance:
        for number, result in _call_all(function, items, workers, slot):
            results[number] = result
            advance(1)
    return [results[number] for number in range(len(items))]


def encode_on_cluster(
    encoder: Encoder, texts: Sequence[str], *, workers: int | None = None, device: str = "auto"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches as `Encoder.batches` does, computed by the workers of the cluster.

    Args:
        encoder: it has to be found under its name on all machines.
        texts: N of them.
        workers: how many; by default as many as the cluster has cores, or GPUs.
        device: where they compute; see `Slot`.

    Yields:
        Row numbers (n) in `texts`, and their features (n, 2, d).

    Raises:
        TwinrankError: if a machine has another encoder under that name, or workers die again and
            again.
        EncoderError: if a worker cannot load or run it.
    """
    slot = Slot.of(device)
    workers = workers or slot.count
    size = max(MIN_TEXTS, min(MAX_TEXTS, -(-len(texts) // (CHUNKS_A_WORKER * workers))))
    chunks = [texts[start : start + size] for start in range(0, len(texts), size)]
    settings = (encoder.name, encoder.max_tokens, encoder.precision, slot.device)
    encode_chunk = partial(_encode, settings, encoder.fingerprint)
    for number, features in _call_all(encode_chunk, chunks, workers, slot):
        yield np.arange(len(features)) + number * size, features


def train_on_cluster(
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    store: FeatureStore,
    resume: bool = True,
    refit: bool = True,
    workers: int | None = None,
) -> None:
    """Train a ranker into a folder by processes of the cluster, on CPUs, as under torchrun.

    Arguments are those of `train`, where `workers` is not given one process for each core. Texts
    are encoded first. Where a process dies, all begin again at the last checkpoint, as many as
    there is room for. All machines have to see `out`; one that does not see the folder of the
    `store` encodes for itself.

    Raises:
        TwinrankError: if processes die again and again, a machine does not see `out`, or the
            training cannot be carried out.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    logging.getLogger("ray.train").setLevel(logging.ERROR)
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    encode(dataset, recipe, store=store, device="cpu")
    settings = {"dataset": dataset, "recipe": recipe, "seed": seed, "out": out, "store": store}
    settings["refit"] = refit
    for attempt in range(RETRIES + 1):
        room = Slot.of("cpu").count
        # As many as there is room for: a machine may be gone. Ray's types lack the tuple.
        processes: Any = (1, min(workers or room, room))
        trainer = TorchTrainer(
            _train,
            train_loop_config={**settings, "resume": resume or attempt > 0},
            torch_config=TorchConfig("gloo", timeout_s=TRAINING_TIMEOUT_S),
            scaling_config=ScalingConfig(num_workers=processes),
            run_config=RunConfig(
                name=".ray", storage_path=str(out), failure_config=FailureConfig(max_failures=0)
            ),
        )
        try:
            trainer.fit()
            return
        except TrainingFailedError as error:
            cause = _read_cause(error)
            log.info("a worker was lost; going on from the last checkpoint")
        finally:
            shutil.rmtree(out / ".ray", ignore_errors=True)
    raise TwinrankError(
        f"the training was lost {RETRIES + 1} times ({first_line(cause)}); run the same again with "
        "fewer --workers: it goes on from the last checkpoint"
    )


def _read_cause(error: Exception) -> BaseException:
    """Return why a training failed; what a process of it raised as a clear line is raised again."""
    failures = getattr(error, "worker_failures", {0: error}).values()
    causes: list[BaseException] = [getattr(f, "_base_exc", f) for f in failures]
    for cause in causes:
        if isinstance(cause, TwinrankError):
            raise cause from None
    return causes[0]


def _call_all(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, slot: Slot
) -> Iterator[tuple[int, Result]]:
    """Yield the number and the result of each call, as they are ready."""
    # max_calls: else a worker with a GPU ends after each call, and loads its encoder again
    call: Any = ray.remote(max_retries=RETRIES, max_calls=0, **slot.options)(_call)
    stored = ray.put(function)
    calls = ((call.remote(stored, item), number) for number, item in enumerate(items))
    under_way = dict(islice(calls, workers))
    try:
        while under_way:
            (ready,), _ = ray.wait(list(under_way))
            try:
                result = ray.get(ready)
            except RayTaskError as error:
                raise worker_error(error.cause) from None
            except LOST as error:
                raise TwinrankError(
                    f"a call lost its worker {RETRIES + 1} times; the logs of Ray on their "
                    "machines say why"
                ) from error
            yield under_way.pop(ready), result
            under_way |= dict(islice(calls, 1))
    finally:
        for reference in under_way:
            ray.cancel(reference, force=True)


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


def _encode(
    settings: tuple[str, int, str, str], fingerprint: str, texts: Sequence[str]
) -> np.ndarray:
    """Encode texts in a worker, by the same encoder as in the process that asks."""
    encoder = _load_encoder(*settings)
    if encoder.fingerprint != fingerprint:
        raise TwinrankError(
            f"{encoder.name}: a machine of the cluster has another encoder of this name "
            f"({encoder.fingerprint[:12]}, not {fingerprint[:12]}); copy it to all machines"
        )
    return encoder.encode(texts)


@cache
def _load_encoder(name: str, max_tokens: int, precision: str, device: str) -> Encoder:
    return Encoder(name, max_tokens=max_tokens, precision=precision, device=device)


def _train(settings: dict[str, Any]) -> None:
    train(**settings, device="cpu")
