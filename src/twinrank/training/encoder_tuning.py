"""The tuning of the encoder itself: cross-entropy over all answers, most of their vectors stale."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from twinrank.data import Queries
from twinrank.encoding import Encoder
from twinrank.encoding.trainable import Trainable
from twinrank.files import new_folder
from twinrank.ranking import Passages, encoder_of
from twinrank.ranking.manifest import ENCODER, encoder_name
from twinrank.recipe import TuningSettings
from twinrank.training.checkpoint import Checkpoint
from twinrank.training.distributed import from_main, gather_rows, local_device, local_rows
from twinrank.training.loop import Record, Trainer, TrainingRun, identify, run_stage
from twinrank.training.losses import cross_entropy
from twinrank.training.tower_modules import Past, Towers
from twinrank.training.training_data import build_reader, measure_quality, number_threads

TUNING_FILE = "tuning.safetensors"
WARM_UP_SHARE = 0.1  # of all steps, as sentence-transformers advises

Ids = list[np.ndarray]


@dataclass(frozen=True)
class TokenizedTexts:
    """The texts of a tuning, as token ids."""

    passages: Passages[Ids]
    queries: Ids  # n, of training
    labels: sparse.csr_array  # their right answers, n x m
    threads: Int[np.ndarray, " n"]  # a number for each query's thread: a memory is blind to it
    validation: Queries
    validation_ids: Ids

    @classmethod
    def read(cls, run: TrainingRun, encoder: Encoder) -> TokenizedTexts:
        """Read the texts of a data set as a recipe's encoder reads them."""
        reader = build_reader(run.dataset, run.recipe, None, run.device)
        passages = reader.passages(run.dataset.answers)
        train, validation = (run.dataset.split(name) for name in ("train", "validation"))
        return cls(
            passages.of(encoder.tokens(list(passages.rows))),
            encoder.tokens(list(reader.queries(train.texts))),
            train.labels,
            number_threads(train),
            validation,
            encoder.tokens(list(reader.queries(validation.texts))),
        )


class TunedEncoder(nn.Module):
    """An encoder in training, with a temperature and, if asked for, a memory of past queries.

    Its scores are those of untrained towers on the encoder's features.
    """

    def __init__(self, encoder: Trainable, *, memory: bool) -> None:
        super().__init__()
        self.encoder = encoder
        device = next(encoder.parameters()).device
        self.towers = Towers("none", encoder.dim, memory=memory).to(device)

    def forward(self, ids: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
        """Return unit vectors with gradients, each process encoding its part."""
        rows = self.towers.query(self.encoder(ids[local_rows(len(ids))]))
        return gather_rows(rows, len(ids))

    @torch.no_grad()
    def encode(self, ids: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
        """Return unit vectors without gradients, as fast as the frozen encoder."""
        features = torch.as_tensor(self.encoder.features(ids[local_rows(len(ids))]))
        rows = self.towers.query(features.to(self.towers.log_scale.device))
        return gather_rows(rows, len(ids))


class EncoderTrainer(Trainer):
    """Trains an encoder in rounds; an epoch of its records is a round.

    A step encodes a batch of queries and scores them against every answer: the vectors of
    passages are constants from the last refresh, but for the `fresh` ones at which the loss
    pulls most, which are encoded again, now with gradients. Stale ones are moved by the mean
    shift of the fresh, so that nothing is gained by shifting all texts alike: without that the
    loss falls, and ranking is lost. Vectors that a step encoded replace the stale ones. Rounds end
    where all are refreshed: every `refresh_every` queries, and at the end of each pass.

    Where several processes run it alike, they share each step's texts, and end with the encoder
    of one process within float error.
    """

    stage = table = "tuning"
    scalar_rate = 2e-3  # of temperature and memory, which move by their own size, not a weight's
    settings: TuningSettings
    passages: Float[Tensor, "v d"]
    queries: Float[Tensor, "n d"]

    def __init__(
        self, model: TunedEncoder, texts: TokenizedTexts, settings: TuningSettings, *, seed: int = 0
    ) -> None:
        count = len(texts.queries)
        self.rounds_per_pass = math.ceil(count / settings.refresh_every)
        weights = [weight for weight in model.encoder.parameters() if weight.requires_grad]
        rounds = settings.epochs * self.rounds_per_pass
        scalars = model.towers.parameters()
        super().__init__(model, settings, weights, scalars, seed=seed, epochs=rounds)
        queries_per_round = math.ceil(count / self.rounds_per_pass)
        self.steps_per_round = self.steps = math.ceil(queries_per_round / settings.batch_size)
        self.model, self.texts = model, texts
        self.device = model.towers.log_scale.device
        self.threads = torch.as_tensor(texts.threads, device=self.device)
        self.voters, self.votes = (
            torch.as_tensor(rows.astype(np.int64)).to(self.device)
            for rows in texts.labels.nonzero()
        )

    def begin(self, saved: Checkpoint | None) -> None:
        """Have all vectors refreshed before the first round."""
        del saved
        self._is_fresh = False

    def train_epoch(self, epoch: int) -> Record:
        """Train for one round."""
        self._refresh()
        total_loss, first_step = 0.0, (epoch - 1) * self.steps_per_round
        batches = self.batches(epoch)
        for step, rows in enumerate(batches, start=first_step):
            loss = self._loss(rows)
            self.step(loss, rate=self.rate(step))
            total_loss += loss.item() * len(rows)
            self.on_step()
        return {"train_loss": total_loss / sum(map(len, batches))}

    def measure(self) -> Record:
        """Validate against vectors of all answers that are fresh."""
        self._refresh()
        vectors = self.model.encode(self.texts.validation_ids)

        def score(rows: slice) -> Float[np.ndarray, "n m"]:
            scores: np.ndarray = self._scores(vectors[rows], self.passages).cpu().numpy()
            return scores

        scale = self.model.towers.scale.item()
        return from_main(lambda: {"scale": scale, **measure_quality(score, self.texts.validation)})

    def batches(self, number: int) -> list[Int[Tensor, " b"]]:
        """Return the batches of a round (from 1 on), nearly equal; a pass has each query once."""
        a_pass, part = divmod(number - 1, self.rounds_per_pass)
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + a_pass)
        rows = torch.randperm(len(self.texts.queries), generator=generator)
        rows = rows.tensor_split(self.rounds_per_pass)[part]
        return list(rows.tensor_split(math.ceil(len(rows) / self.settings.batch_size)))

    def rate(self, step: int) -> float:
        """Return the share of the highest learning rate: up at first, then down to zero."""
        steps = self.epochs * self.steps_per_round
        warm_up = max(1, round(WARM_UP_SHARE * steps))
        return min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))

    def _refresh(self) -> None:
        """Encode all texts again, unless no step was made since that was done last."""
        if self._is_fresh:
            return
        # Validation runs in inference mode, whose tensors a later step could not learn from.
        with torch.inference_mode(False):
            self.passages = self.model.encode(self.texts.passages.rows)
            self.queries = self.model.encode(self.texts.queries)
        self._is_fresh = True

    def _scores(
        self,
        vectors: Float[Tensor, "b d"],
        passages: Float[Tensor, "v d"],
        threads: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b m"]:
        """Return the scores of every answer; the memory is blind to the threads of the queries."""
        towers = self.model.towers
        past = Past(self.queries, self.voters, self.votes) if towers.memory else None
        blind = None if past is None or threads is None else threads[:, None] == self.threads
        return towers.scores(vectors, self.texts.passages.of(passages), past, blind)

    def _loss(self, rows: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        labels, batch = self.texts.labels[rows.numpy()], rows.to(self.device)
        right = torch.as_tensor(labels.toarray() > 0, device=self.device)
        queries = self.model([self.texts.queries[row] for row in rows.tolist()])

        def loss_against(passages: Tensor, queries: Tensor) -> Tensor:
            scores = self._scores(queries, passages, self.threads[batch])
            return cross_entropy(scores, right).mean()

        stale = self.passages.clone().requires_grad_()
        (pull,) = torch.autograd.grad(loss_against(stale, queries.detach()), stale)
        strongest = pull.norm(dim=1).topk(min(self.settings.fresh, len(pull))).indices
        fresh = self.model([self.texts.passages.rows[row] for row in strongest.tolist()])
        # Else the loss falls fastest by moving all that is encoded away from all that is stale.
        drift = (fresh - self.passages[strongest]).mean(dim=0)
        passages = (self.passages + drift).index_copy(0, strongest, fresh)
        loss = loss_against(passages, queries)
        self.queries = self.queries.index_copy(0, batch, queries.detach())
        self.passages = passages.detach()
        self._is_fresh = False
        return loss


def tune_encoder(run: TrainingRun, out: Path) -> Path:
    """Tune a recipe's encoder, and return its folder in `out`, as a ranker's folder has it."""
    recipe, settings = run.recipe, run.recipe.tuning
    assert settings and recipe.encoder  # noqa: S101 (the recipe's own validation)
    encoder = encoder_of(recipe, local_device(run.device))
    texts = TokenizedTexts.read(run, encoder)
    with torch.random.fork_rng():
        torch.manual_seed(run.origin.seed)
        trainable = Trainable(
            encoder,
            recipe.encoder.pooling,
            rank=settings.rank if settings.method == "lora" else None,
            held_tokens=settings.held_tokens,
        )
        model = TunedEncoder(trainable, memory=recipe.memory is not None)
        trainer = EncoderTrainer(model, texts, settings, seed=run.origin.seed)
        identity = {**identify(recipe, run.origin), "encoder": encoder.fingerprint}
        run_stage(trainer, run, out / TUNING_FILE, identity, label=f"Tuning {encoder.name}")
    return from_main(lambda: _save_encoder(trainable, out, encoder.max_tokens))


def _save_encoder(encoder: Trainable, out: Path, max_tokens: int) -> Path:
    """Write a tuned encoder under the name that its identity gives it."""
    with new_folder(out / ENCODER) as unnamed:
        encoder.save(unnamed)
        folder = out / encoder_name(Encoder(str(unnamed), max_tokens=max_tokens).identity)
        if folder.exists():
            shutil.rmtree(unnamed)
        else:
            unnamed.rename(folder)
    return folder
