import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from twinrank.encoding import Encoder
from twinrank.errors import DivergedError
from twinrank.ranking import Passages
from twinrank.recipe import TuningSettings
from twinrank.training import Course, Team, Tokens, Tuned, WholeIndex, tune

TEXTS = ["reset the password", "refund of an invoice", "the booking calendar", "hello", "password"]


@pytest.fixture
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32", device="cpu")


def trainable(encoder, *, rank=None, held_tokens=10_000):
    torch.manual_seed(0)
    return encoder.trainable("mean", rank=rank, held_tokens=held_tokens)


def gradients(module):
    return {n: w.grad.clone() for n, w in module.named_parameters() if w.grad is not None}


def test_features_are_those_of_the_encoder(encoder):
    expected = encoder.encode(TEXTS)[:, 1]
    model = trainable(encoder)
    ids = encoder.tokens(TEXTS)
    np.testing.assert_allclose(model(ids).detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(model.features(ids), expected, atol=1e-6)
    assert model([]).shape == (0, encoder.dim)


def test_gradient_caching_changes_no_gradient(encoder, monkeypatch):
    monkeypatch.setattr("twinrank.encoding.batches.TOKENS_A_BATCH", {"cpu": 16})
    ids = encoder.tokens(TEXTS)
    found = []
    for held in (10_000, 1):
        model = trainable(encoder, held_tokens=held)
        (model(ids) ** 3).sum().backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])


@pytest.mark.parametrize("rank", [None, 4])
def test_what_is_saved_is_a_whole_encoder(encoder, tmp_path, rank):
    model = trainable(encoder, rank=rank)
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    if rank:
        assert sum(w.numel() for w in learnt) < 0.5 * sum(w.numel() for w in model.parameters())
    with torch.no_grad():
        for weight in learnt:
            weight.add_(0.01 * torch.randn_like(weight))
    model.save(tmp_path / "encoder")
    again = Encoder(str(tmp_path / "encoder"), max_tokens=32, precision="fp32", device="cpu")
    expected = model.features(encoder.tokens(TEXTS))
    np.testing.assert_allclose(again.encode(TEXTS)[:, 1], expected, atol=1e-5)
    assert again.identity != encoder.identity
    assert np.abs(expected - encoder.encode(TEXTS)[:, 1]).max() > 1e-3


def tokens_of(encoder, dataset):
    reader_texts = dataset.answer_texts()
    train = dataset.split("train")
    passages = Passages(encoder.tokens(reader_texts), None, len(reader_texts))
    return Tokens.of(passages, encoder.tokens(list(train.texts)), train)


SETTINGS = TuningSettings(epochs=2, batch_size=16, fresh=8, learning_rate=1e-3, keep="loss")


def validate_by_training_loss(tokens):
    """Stands for a validation split: the loss of the first training queries."""

    def validate(index: WholeIndex):
        threads = torch.as_tensor(tokens.threads[:50])
        scores = index.scores(index.queries[:50], threads=threads)
        right = torch.as_tensor(tokens.labels[:50].toarray() > 0)
        log_share = scores.logsumexp(1) - scores.masked_fill(~right, -torch.inf).logsumexp(1)
        return {"loss": float(log_share.mean())}

    return validate


def tuned_on(encoder, tokens, settings=SETTINGS, *, memory=False, rank=None, **kwargs):
    tuned = Tuned(trainable(encoder, rank=rank), memory=memory)
    history = tune(tuned, tokens, settings, validate_by_training_loss(tokens), **kwargs)
    return tuned, history


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("rank", [None, 16])
def test_tuning_learns(encoder, help_centre, memory, rank):
    tokens = tokens_of(encoder, help_centre)
    settings = SETTINGS.model_copy(update={"learning_rate": 3e-3 if rank else 1e-3, "epochs": 4})
    _, history = tuned_on(encoder, tokens, settings, memory=memory, rank=rank)
    assert [record["epoch"] for record in history] == [0, 1, 2, 3, 4]
    least = 0.005 if rank else 0.1  # random weights, 32 wide: few thin matrices learn slowly
    assert history[-1]["loss"] < history[0]["loss"] - least


def test_shifting_all_texts_alike_gains_nothing(encoder, help_centre):
    """Without the correction for drift, what a step sees falls far below what a refresh shows."""
    tokens = tokens_of(encoder, help_centre)
    _, history = tuned_on(encoder, tokens, SETTINGS)
    for record in history[1:]:
        assert record["train_loss"] > record["loss"] - 0.1


def test_with_all_passages_fresh_a_step_follows_the_exact_gradient(encoder, help_centre):
    """One step of plain code: every answer encoded with gradients, AdamW, clipping."""
    tokens = tokens_of(encoder, help_centre)
    rows = len(tokens.passages.rows)
    settings = SETTINGS.model_copy(update={"epochs": 1, "batch_size": 1000, "fresh": rows})
    tuned, history = tuned_on(encoder, tokens, settings)

    plain = Tuned(trainable(encoder), memory=False)
    weights = [*plain.encoder.parameters(), *plain.towers.parameters()]
    answers = torch.nn.functional.normalize(plain.encoder(tokens.passages.rows), dim=1)
    queries = torch.nn.functional.normalize(plain.encoder(tokens.queries), dim=1)
    right = torch.as_tensor(tokens.labels.toarray() > 0)
    logits = plain.towers.log_scale.exp() * queries @ answers.T
    loss = -(logits.softmax(1) * right).sum(1).log().mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(history[1]["train_loss"], rel=1e-5)
    torch.nn.utils.clip_grad_norm_(weights, settings.clip)
    rates = [settings.learning_rate] * len(list(plain.encoder.parameters())) + [2e-3]
    for weight, rate in zip(weights, rates, strict=True):
        decay = settings.weight_decay if rate != 2e-3 else 0.0
        torch.optim.AdamW([weight], lr=rate, weight_decay=decay).step()
    for (name, ours), theirs in zip(tuned.named_parameters(), weights, strict=True):
        # Adam's first step is the sign of the gradient: where that is noise, so is the step.
        clear = slice(None) if theirs.grad is None else theirs.grad.abs() > 1e-6
        torch.testing.assert_close(ours[clear], theirs[clear], atol=1e-6, rtol=1e-4, msg=name)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3])
def test_going_on_gives_the_same_bits(encoder, help_centre, after):
    tokens = tokens_of(encoder, help_centre)
    settings = SETTINGS.model_copy(update={"refresh_every": 200})
    whole, history = tuned_on(encoder, tokens, settings, memory=True)
    saved = []

    def die(checkpoint):
        saved.append(copy.deepcopy(checkpoint))
        if len(checkpoint.history) == after + 1:
            raise Killed

    with pytest.raises(Killed):
        tuned_on(encoder, tokens, settings, memory=True, on_epoch=die)
    again, gone_on = tuned_on(encoder, tokens, settings, memory=True, saved=saved[-1])
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert [r["loss"] for r in gone_on] == [r["loss"] for r in history]


def test_a_checkpoint_of_lora_holds_its_matrices_alone(encoder, help_centre):
    sizes = {}
    for rank in (None, 2):
        last = []
        tuned_on(encoder, tokens_of(encoder, help_centre), rank=rank, on_epoch=last.append)
        sizes[rank] = sum(tensor.numel() for tensor in last[-1].learned.values())
    assert sizes[2] < 0.3 * sizes[None]


def test_the_course_of_rounds():
    settings = TuningSettings(epochs=2, batch_size=10, refresh_every=40)
    course = Course(105, settings)
    assert course.rounds == 6
    for seed in (0, 1):
        first = torch.cat([rows for number in (1, 2, 3) for rows in course.batches(number, seed)])
        second = torch.cat([rows for number in (4, 5, 6) for rows in course.batches(number, seed)])
        for a_pass in (first, second):
            assert sorted(a_pass.tolist()) == list(range(105))
        assert first.tolist() != second.tolist()
    rates = [course.rate(step) for step in range(course.rounds * course.steps)]
    assert max(rates) == 1.0
    assert min(rates) > 0
    assert rates.index(max(rates)) == round(0.1 * len(rates)) - 1


def test_shares_are_of_all_rows():
    team = Team()
    for size in (1, 2, 3, 5):
        rows = []
        for number in range(size):
            team.size, team.number = size, number
            rows += list(range(7))[team.share(7)]
        assert rows == list(range(7))


TWO = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from twinrank.data import Dataset
from twinrank.encoding import Encoder
from twinrank.training.team import Team, is_main
from train.test_tune import tokens_of, tuned_on, SETTINGS
encoder = Encoder({model!r}, max_tokens=32, precision="fp32", device="cpu")
tokens = tokens_of(encoder, Dataset.load(Path({data!r})))
team = Team.launched()
assert team.size == int({size})
tuned, history = tuned_on(encoder, tokens, SETTINGS, memory=True, team=team)
if is_main():
    torch.save(tuned.state_dict(), {out!r})
    print(json.dumps([record["loss"] for record in history]))
"""


def test_two_processes_give_the_encoder_of_one(tiny_model, help_centre_folder, tmp_path):
    states = []
    for size in (1, 2):
        script, out = tmp_path / f"{size}.py", tmp_path / f"{size}.pt"
        tests = str(Path(__file__).parents[1])
        script.write_text(
            TWO.format(
                tests=tests,
                model=str(tiny_model),
                data=str(help_centre_folder),
                size=size,
                out=str(out),
            )
        )
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launch += ["--local-addr", "127.0.0.1", "--nproc-per-node", str(size)]
        command = [*launch, str(script)] if size > 1 else [sys.executable, str(script)]
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        states.append(torch.load(out, weights_only=True))
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], atol=2e-5, rtol=1e-3, msg=name)


def test_a_tuning_that_diverges_stops_and_names_the_field(encoder, help_centre):
    tokens = tokens_of(encoder, help_centre)
    settings = SETTINGS.model_copy(update={"learning_rate": 1e35})
    tuned = Tuned(trainable(encoder), memory=True)
    with pytest.raises(DivergedError, match=r"tuning\.learning_rate = 1e\+35"):
        tune(tuned, tokens, settings, lambda _: {"loss": 1.0})
