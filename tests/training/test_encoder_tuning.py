import copy

import numpy as np
import pytest
import torch

from tests.processes import Killed
from twinrank.encoding import Encoder
from twinrank.encoding.trainable import Trainable
from twinrank.errors import DivergedError
from twinrank.ranking import Passages
from twinrank.recipe import TuningSettings
from twinrank.training.encoder_tuning import EncoderTrainer, TokenizedTexts, TunedEncoder

pytestmark = pytest.mark.slow

TEXTS = ["reset the password", "refund of an invoice", "the booking calendar", "hello", "password"]
SETTINGS = TuningSettings(epochs=2, batch_size=16, fresh=8, learning_rate=1e-3, keep="loss")


@pytest.fixture
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32", device="cpu")


def build_trainable(encoder, *, rank=None, held_tokens=10_000):
    torch.manual_seed(0)
    return Trainable(encoder, "mean", rank=rank, held_tokens=held_tokens)


def tokenize(encoder, dataset):
    """The training queries stand for a validation split too: tuning lowers their loss."""
    answers, queries = dataset.answer_texts(), dataset.split("train")
    ids = encoder.tokens(list(queries.texts))
    passages = Passages(encoder.tokens(answers), None, len(answers))
    _, threads = np.unique(queries.frame["thread"].to_numpy(), return_inverse=True)
    return TokenizedTexts(passages, ids, queries.labels, threads, queries, ids)


def tune(encoder, dataset, *, memory=False, rank=None, run=None, **changes):
    model = TunedEncoder(build_trainable(encoder, rank=rank), memory=memory)
    settings = SETTINGS.model_copy(update=changes)
    history = EncoderTrainer(model, tokenize(encoder, dataset), settings).run(**(run or {}))
    return model, history


def test_features_are_those_of_the_encoder(encoder):
    expected = encoder.encode(TEXTS)[:, 1]
    model, ids = build_trainable(encoder), encoder.tokens(TEXTS)
    np.testing.assert_allclose(model(ids).detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(model.features(ids), expected, atol=1e-6)
    assert model([]).shape == (0, encoder.dim)


def test_gradient_caching_changes_no_gradient(encoder, monkeypatch):
    monkeypatch.setattr("twinrank.encoding.batches.TOKENS_A_BATCH", {"cpu": 16})
    gradients = []
    for held in (10_000, 1):
        model = build_trainable(encoder, held_tokens=held)
        (model(encoder.tokens(TEXTS)) ** 3).sum().backward()
        gradients.append({n: w.grad for n, w in model.named_parameters() if w.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


@pytest.mark.parametrize("rank", [None, 4])
def test_what_is_saved_is_a_whole_encoder(encoder, tmp_path, rank):
    model = build_trainable(encoder, rank=rank)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if rank:
        assert sum(w.numel() for w in trained) < 0.5 * sum(w.numel() for w in model.parameters())
    with torch.no_grad():
        for weight in trained:
            weight.add_(0.01 * torch.randn_like(weight))
    model.save(tmp_path / "encoder")
    again = Encoder(str(tmp_path / "encoder"), max_tokens=32, precision="fp32", device="cpu")
    expected = model.features(encoder.tokens(TEXTS))
    np.testing.assert_allclose(again.encode(TEXTS)[:, 1], expected, atol=1e-5)
    assert again.identity != encoder.identity
    assert np.abs(expected - encoder.encode(TEXTS)[:, 1]).max() > 1e-3


@pytest.mark.parametrize(("memory", "rank"), [(False, None), (True, None), (False, 16)])
def test_tuning_learns_and_gains_nothing_by_shifting_all_texts(encoder, help_centre, memory, rank):
    rate = 3e-3 if rank else 1e-3
    model, history = tune(
        encoder, help_centre, memory=memory, rank=rank, learning_rate=rate, epochs=4
    )
    assert [record["epoch"] for record in history] == [0, 1, 2, 3, 4]
    least = 0.005 if rank else 0.1  # random weights, 32 wide: few thin matrices learn slowly
    # A memory that validates on the queries it holds sees each of them.
    key, first = ("train_loss", history[1]) if memory else ("loss", history[0])
    assert history[-1][key] < first[key] - least
    if not rank and not memory:
        # Without the correction for drift, a step's loss falls far below that after a refresh.
        assert all(record["train_loss"] > record["loss"] - 0.1 for record in history[1:])
    assert not model.training


def test_with_all_passages_fresh_a_step_follows_the_exact_gradient(encoder, help_centre):
    """One step of plain code: every answer encoded with gradients, AdamW, clipping."""
    texts = tokenize(encoder, help_centre)
    fresh = len(texts.passages.rows)
    tuned, history = tune(encoder, help_centre, epochs=1, batch_size=1000, fresh=fresh)

    plain = TunedEncoder(build_trainable(encoder), memory=False)
    weights = [*plain.encoder.parameters(), *plain.towers.parameters()]
    answers = torch.nn.functional.normalize(plain.encoder(texts.passages.rows), dim=1)
    queries = torch.nn.functional.normalize(plain.encoder(texts.queries), dim=1)
    right = torch.as_tensor(texts.labels.toarray() > 0)
    logits = plain.towers.log_scale.exp() * queries @ answers.T
    loss = -(logits.softmax(1) * right).sum(1).log().mean()
    loss.backward()
    assert float(loss.detach()) == pytest.approx(history[1]["train_loss"], rel=1e-5)
    torch.nn.utils.clip_grad_norm_(weights, SETTINGS.clip)
    rates = [SETTINGS.learning_rate] * len(list(plain.encoder.parameters())) + [2e-3]
    for weight, rate in zip(weights, rates, strict=True):
        decay = SETTINGS.weight_decay if rate != 2e-3 else 0.0
        torch.optim.AdamW([weight], lr=rate, weight_decay=decay).step()
    for (name, weight), expected in zip(tuned.named_parameters(), weights, strict=True):
        # Adam's first step is the sign of the gradient: where that is noise, so is the step.
        clear = slice(None) if expected.grad is None else expected.grad.abs() > 1e-6
        torch.testing.assert_close(weight[clear], expected[clear], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("after", "rank"), [(0, None), (3, 4)])
def test_going_on_gives_the_same_bits(encoder, help_centre, after, rank):
    choices = {"refresh_every": 200, "memory": True, "rank": rank}
    whole, history = tune(encoder, help_centre, **choices)
    checkpoints = []

    def die(checkpoint):
        checkpoints.append(copy.deepcopy(checkpoint))
        if len(checkpoint.history) == after + 1:
            raise Killed

    with pytest.raises(Killed):
        tune(encoder, help_centre, run={"on_epoch": die}, **choices)
    again, records = tune(encoder, help_centre, run={"saved": checkpoints[-1]}, **choices)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert [r["loss"] for r in records] == [r["loss"] for r in history]
    if rank:  # a checkpoint of LoRA holds its matrices alone
        size = sum(tensor.numel() for tensor in checkpoints[-1].learned.values())
        assert size < 0.3 * sum(tensor.numel() for tensor in whole.state_dict().values())


def test_rounds_hold_each_query_once_a_pass_at_rates_that_rise_and_fall(encoder, help_centre):
    texts = tokenize(encoder, help_centre)
    count = len(texts.queries)
    model = TunedEncoder(build_trainable(encoder), memory=False)
    settings = TuningSettings(epochs=2, batch_size=10, refresh_every=-(-count // 3))
    trainer = EncoderTrainer(model, texts, settings, seed=1)
    assert trainer.epochs == 6
    first = torch.cat([rows for number in (1, 2, 3) for rows in trainer.batches(number)])
    second = torch.cat([rows for number in (4, 5, 6) for rows in trainer.batches(number)])
    for rows in (first, second):
        assert sorted(rows.tolist()) == list(range(count))
    assert first.tolist() != second.tolist()
    rates = [trainer.rate(step) for step in range(trainer.epochs * trainer.steps)]
    assert max(rates) == 1.0 and min(rates) > 0
    assert rates.index(max(rates)) == round(0.1 * len(rates)) - 1


def test_a_tuning_that_diverges_stops_and_names_the_field(encoder, help_centre):
    with pytest.raises(DivergedError, match=r"tuning\.learning_rate = 1e\+35"):
        tune(encoder, help_centre, memory=True, learning_rate=1e35)
