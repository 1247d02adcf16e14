"""The training of towers to rank: cross-entropy over all answers, or over a sample of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import torch
from jaxtyping import Float, Int
from torch import Tensor

from twinrank.encoding.encoder import cpu_flags
from twinrank.recipe import TrainingSettings
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.distributed import from_main
from twinrank.training.loop import Record, Trainer, Validate, since_best, split_parameters
from twinrank.training.losses import cross_entropy
from twinrank.training.negatives import build_index, choose_index
from twinrank.training.tower_modules import Past, Towers
from twinrank.training.training_data import TrainingData


class TowerTrainer(Trainer):
    """Trains towers on labelled queries until validation stops getting better.

    Where several processes run it alike, they share the rows of each step, and end with the same
    towers: those of one process, but for rounding and the entries that dropout draws. The main
    process alone validates.

    Args:
        towers: trained on the device they are on. A memory is of the training queries, with
            vectors as old as the epoch.
        data: each training query has a right answer. Pairs whose use is `joint` add their Barlow
            Twins loss, times its weight, to that of each step.
        settings: see `TrainingSettings`.
        validate: must give the validation `loss`, or the `map@10` of `types`, to decide by, and
            may give more to record; none trains all epochs, and keeps the last.
        seed: decides the order of queries, dropout, pairs, the order of a stale index, and which
            answers a sampled one draws.
    """

    stage = "ranking"
    table = "training"
    settings: TrainingSettings

    def __init__(
        self,
        towers: Towers,
        data: TrainingData,
        settings: TrainingSettings,
        validate: Validate | None,
        *,
        seed: int = 0,
    ) -> None:
        if data.train is None:
            raise ValueError("no labelled queries to train on")
        super().__init__(
            towers, settings, *split_parameters(towers), seed=seed, epochs=settings.epochs
        )
        self.towers, self.data, self.validate = towers, data, validate
        if validate is None:
            self.stage, self.keep = "refit", None
        self.examples = data.train
        self.pairs = data.pairs if data.pairs and data.pairs.settings.use == "joint" else None
        self.device = towers.log_scale.device
        self.answers = data.answers.of(torch.as_tensor(data.answers.rows, device=self.device))
        self.features = torch.as_tensor(self.examples.features, device=self.device)
        self.threads = torch.as_tensor(self.examples.threads, device=self.device)

    def begin(self, saved: Checkpoint | None) -> None:
        """Choose the answers to score against: as before, where training goes on."""

        def choose() -> str:
            return choose_index(self.settings, self.answers, len(self.features))

        kind = saved.history[0]["index"] if saved else from_main(choose)
        self.index = build_index(kind, self.answers, self.settings, self.seed)

    def train_epoch(self, epoch: int) -> Record:
        """Pass over the queries once; losses are means over them."""
        towers, index, device = self.towers, self.index, self.device
        assert index is not None  # noqa: S101 (`begin` made it)
        past = self.examples.past(towers.eval()) if towers.memory else None
        towers.train()
        total, barlow_loss = torch.zeros((), device=device), torch.zeros((), device=device)
        pair_losses = self.pairs.endless_losses(towers, self.seed, epoch) if self.pairs else None
        # Batches of nearly equal size: a last batch of one query would break BatchNorm.
        steps = math.ceil(len(self.features) / self.settings.batch_size)
        batches = torch.randperm(len(self.features)).tensor_split(steps)
        with matmul_precision(self.settings.precision, device):
            index.begin_epoch(towers)
            for step, rows in zip(count((epoch - 1) * steps), batches, strict=False):
                losses = self._losses(rows, step, past)
                total = total + losses.detach().sum()
                loss = losses.mean()
                if self.pairs and pair_losses:
                    pair_loss = next(pair_losses)
                    loss = loss + self.pairs.settings.weight * pair_loss
                    barlow_loss = barlow_loss + pair_loss.detach() / steps
                self.step(loss)
        record: Record = {"train_loss": float(total) / len(self.features)}
        if self.pairs:
            record["barlow_loss"] = float(barlow_loss)
        return from_main(lambda: record)

    def measure(self) -> Record:
        """Validate, in the main process."""
        validate = self.validate or (lambda towers: {})
        return from_main(lambda: {"scale": self.towers.scale.item(), **validate(self.towers)})

    def is_finished(self, history: list[Record]) -> bool:
        """Tell whether there were epochs enough, or too many since the best."""
        if super().is_finished(history) or self.keep is None:
            return super().is_finished(history)
        return since_best(history, self.keep) >= self.settings.patience

    def _losses(self, rows: Int[Tensor, " b"], step: int, past: Past | None) -> Float[Tensor, " b"]:
        """Return the loss of each query of a batch."""
        towers, index = self.towers, self.index
        assert index is not None  # noqa: S101 (`begin` made it)
        labels = self.examples.labels[rows.numpy()]
        vectors = towers.project(towers.query, self.features[rows])
        candidates = index.candidates(towers, vectors, labels, step)
        voter_threads = self.threads
        if candidates.answers is not None:
            labels = labels[:, candidates.answers]
            if past:
                past, voters = past.among(candidates.answers, self.answers.answers)
                voter_threads = self.threads[voters]
        right = torch.as_tensor(labels.toarray() > 0, device=self.device)
        blind = self.threads[rows, None] == voter_threads if past else None
        passages = towers.add_offsets_to(candidates.passages, candidates.answers)
        scores = towers.scores(vectors, passages, past, blind)
        return cross_entropy(scores, right, weights=candidates.weights)


@contextmanager
def matmul_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Compute products of fp32 matrices on a CPU in a precision, until the block is left.

    `bf16` lets oneDNN round what it multiplies, where the processor gains by that (AMX); it adds
    up in fp32. With AVX-512 alone it computes in fp32 as before, but by its own kernels, on AMD
    at twice the rate of MKL's. The setting is the whole process's; accelerators ignore it.

    Args:
        precision: `fp32`, `bf16`, or `auto`: `bf16` where that is faster and rounds nothing.
        device: where towers are trained.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    if precision == "auto":
        rounds_nothing = "avx512_bf16" in cpu_flags() and "amx_bf16" not in cpu_flags()
        precision = "bf16" if rounds_nothing else "fp32"
    if device.type == "cpu" and precision == "bf16":
        products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
