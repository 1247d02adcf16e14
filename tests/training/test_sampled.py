"""Training against a sample of the answers."""

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.training.test_fit import settings, validation_loss
from twinrank.ranking import Passages
from twinrank.training import Checkpoint, Examples, cross_entropy, fit_towers
from twinrank.training.index import SampledIndex
from twinrank.training.tower_modules import Towers

N, M, D = 60, 40, 8


def problem():
    """Queries near their answers, but turned; some answers have two passages."""
    rng = np.random.default_rng(0)
    owner = np.sort(np.concatenate([np.arange(M), np.arange(0, M, 2)]))
    rows = rng.normal(size=(len(owner), D)).astype(np.float32)
    target = rng.integers(M, size=N)
    turn, _ = np.linalg.qr(rng.normal(size=(D, D)))
    seen = rows[np.searchsorted(owner, target)] @ turn + 0.3 * rng.normal(size=(N, D))
    labels = np.eye(M)[target]
    labels[0, (target[0] + 1) % M] = 1
    types = ["question", "conversation"] * (N // 2)
    labelled = sparse.csr_array(labels)
    examples = Examples(seen.astype(np.float32), labelled, np.arange(N) // 2, types)
    return examples, Passages(rows, owner, M)


def trained(index, sample, dropout=0.1, saved=None, on_epoch=lambda checkpoint: None, **changes):
    """Towers with all that touches answers: a memory, offsets."""
    examples, answers = problem()
    torch.manual_seed(0)
    towers = Towers("residual", D, dropout=dropout, memory=True)
    towers.take_offsets(M)
    first = Passages(answers.rows[np.searchsorted(answers.owner, np.arange(M))], None, M)
    values = {"epochs": 6, **changes}
    history = fit_towers(
        towers,
        examples,
        answers,
        settings(index=index, answer_sample=sample, **values),
        validation_loss(examples, first),
        seed=3,
        saved=saved,
        on_epoch=on_epoch,
    )
    return towers, history


def test_with_all_answers_drawn_it_is_the_exact_index():
    exact, course = trained("exact", 2, dropout=0.0)
    sampled, again = trained("sampled", M, dropout=0.0)
    for one, other in zip(exact.state_dict().values(), sampled.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)
    losses = [[record["train_loss"] for record in own[1:]] for own in (course, again)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


def test_a_sample_lowers_the_loss_over_all_answers():
    _, history = trained("sampled", 8, epochs=15)
    assert min(record["loss"] for record in history) < 0.8 * history[0]["loss"]


def test_going_on_from_any_epoch_gives_the_same_bits(tmp_path):
    files = []

    def keep(checkpoint):
        files.append(tmp_path / f"{len(files)}.safetensors")
        checkpoint.save(files[-1], {})

    whole, history = trained("sampled", 8, on_epoch=keep)
    assert len(files) == len(history) == 7
    for file in files:
        again, course = trained("sampled", 8, saved=Checkpoint.load(file)[0])
        for one, other in zip(
            whole.state_dict().values(), again.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other)
        assert [record["loss"] for record in course] == [record["loss"] for record in history]


class Draws:
    """Draws for two queries from 300 answers, in double precision."""

    def __init__(self, sample):
        rng = np.random.default_rng(1)
        owner = np.sort(np.concatenate([np.arange(300), rng.integers(300, size=90)]))
        self.answers = Passages(torch.as_tensor(rng.normal(size=(390, D))), owner, 300)
        self.towers = Towers("none", D).double()
        self.index = SampledIndex(self.answers, sample, seed=0)
        self.index.renew(self.towers)
        self.queries = self.towers.query(torch.as_tensor(rng.normal(size=(2, D))))
        self.labels = sparse.csr_array(([1, 1], ([0, 1], [7, 50])), shape=(2, 300))

    def drawn(self, step):
        return self.index.drawn(self.towers, self.queries, self.labels, step)

    def loss(self, step=None):
        """The loss by a step's draw, or the exact one, and its slope."""
        queries = self.queries.detach().requires_grad_()
        if step is None:
            against = self.answers.of(self.towers.answer(self.answers.rows))
            labels, weights = self.labels, None
        else:
            found = self.index.candidates(self.towers, queries, self.labels, step)
            against, weights = found.passages, found.weights
            labels = self.labels[:, found.places]
        scores = self.towers.parts(queries, against)["dense"]
        loss = cross_entropy(scores, torch.as_tensor(labels.toarray() > 0), weights=weights).mean()
        (slope,) = torch.autograd.grad(loss, queries)
        return loss.item(), slope.numpy()


@pytest.mark.parametrize("sample", [10, 40])  # a pool of 80 of the 298, and all of them
def test_over_many_draws_the_softmaxs_sum_is_that_over_all_answers(sample):
    draws = Draws(sample)
    passages = draws.answers.of(draws.towers.answer(draws.answers.rows))
    whole = draws.towers.parts(draws.queries, passages)["dense"].detach().exp()
    sums = []
    for step in range(400):
        places, weights = draws.drawn(step)
        assert places[:2].tolist() == [7, 50]
        assert len(set(places.tolist())) == len(places) == 2 + sample
        assert weights[:2].tolist() == [1, 1]
        assert weights.sum() == pytest.approx(300)
        sums.append((whole[:, places] @ torch.as_tensor(weights)).numpy())
    error = np.std(sums, axis=0) / len(sums) ** 0.5
    assert (np.abs(np.mean(sums, axis=0) - whole.sum(dim=1).numpy()) < 4 * error).all()


def test_loss_and_gradient_approach_the_exact_ones_as_the_sample_grows():
    distances = []
    for sample in (10, 50, 250, 298):
        draws = Draws(sample)
        loss, slope = draws.loss()
        found = [draws.loss(step) for step in range(60)]
        mean = np.mean([each for _, each in found], axis=0)
        off = np.mean([each for each, _ in found]) - loss
        distances.append((abs(off), np.linalg.norm(mean - slope) / np.linalg.norm(slope)))
    for more, fewer in zip(distances[1:], distances, strict=False):
        assert more[0] < fewer[0] and more[1] < fewer[1]
    assert max(distances[-2]) < 0.02
    assert distances[-1] == pytest.approx((0, 0), abs=1e-9)


def test_half_of_a_sample_are_the_likeliest_of_the_pool():
    draws = Draws(40)  # the pool is all of the others
    places, weights = draws.drawn(0)
    likely = draws.towers.scores(draws.queries, draws.index.stale).softmax(dim=1)
    likely[:, [7, 50]] = 0
    hardest = likely.amax(dim=0).topk(20).indices.tolist()
    assert set(places[2:22].tolist()) == set(hardest)
    assert (weights[2:22] == 1).all() and (weights[22:] == 278 / 20).all()


def test_answers_are_near_by_the_mean_of_their_passages():
    draws = Draws(10)
    vectors = draws.towers.answer(draws.answers.rows).numpy()
    expected = [vectors[draws.answers.owner == i].mean(axis=0) for i in range(300)]
    np.testing.assert_allclose(draws.index.stale.numpy(), expected)


def test_each_step_draws_anew_and_a_seed_draws_the_same():
    first, second = Draws(10), Draws(10)
    assert first.drawn(4)[0].tolist() == second.drawn(4)[0].tolist()
    assert first.drawn(4)[0].tolist() != first.drawn(5)[0].tolist()


def test_where_all_answers_are_right_none_is_drawn():
    draws = Draws(10)
    draws.labels = sparse.csr_array(np.ones((2, 300)))
    places, weights = draws.drawn(0)
    assert places.tolist() == list(range(300)) and (weights == 1).all()
