import numpy as np
import pytest
import torch
from scipy import sparse

from twinrank.ranking import Passages
from twinrank.recipe import TrainingSettings
from twinrank.training import negatives as negatives_module
from twinrank.training.losses import cross_entropy
from twinrank.training.negatives import SampledIndex, StaleIndex, choose_index
from twinrank.training.tower_modules import Towers

DIM = 8
GB = 10**9


def twelve_answers():
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(12, DIM)).astype(np.float32))
    return Passages(rows, None, 12)


def change(towers):
    with torch.no_grad():
        for parameter in towers.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_a_stale_step_changes_only_its_batch_and_only_it_has_gradients():
    towers = Towers("projection", DIM).train()
    index = StaleIndex(twelve_answers(), batch=5, seed=0)
    before = index.refresh(towers, 0).detach()
    change(towers)
    vectors = index.refresh(towers, 1)
    assert (vectors.detach() != before).any(dim=1).sum() == 5
    (gradient,) = torch.autograd.grad(vectors.sum(), towers.query_tower[5].bias)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 5.0))  # one from each fresh row
    assert not index.state()["vectors"].requires_grad


def test_a_stale_index_refreshes_every_answer_within_one_round():
    index, towers = StaleIndex(twelve_answers(), batch=5, seed=1), Towers("projection", DIM).train()
    vectors = index.refresh(towers, 0).detach()
    changed = torch.zeros(12, dtype=torch.bool)
    for step in range(1, 4):  # ceil(12 / 5) steps
        change(towers)
        fresh = index.refresh(towers, step).detach()
        changed |= (fresh != vectors).any(dim=1)
        vectors = fresh
    assert changed.all()


class Draws:
    """Draws for two queries from 300 answers, in double precision."""

    def __init__(self, sample):
        rng = np.random.default_rng(1)
        owner = np.sort(np.concatenate([np.arange(300), rng.integers(300, size=90)]))
        self.answers = Passages(torch.as_tensor(rng.normal(size=(390, DIM))), owner, 300)
        self.towers = Towers("none", DIM).double()
        self.index = SampledIndex(self.answers, sample, seed=0)
        self.index.begin_epoch(self.towers)
        self.queries = self.towers.query(torch.as_tensor(rng.normal(size=(2, DIM))))
        self.labels = sparse.csr_array(([1, 1], ([0, 1], [7, 50])), shape=(2, 300))

    def draw(self, step):
        return self.index.draw(self.towers, self.queries, self.labels, step)

    def loss(self, step=None):
        """The loss by a step's draw, or the exact one, and its slope."""
        queries = self.queries.detach().requires_grad_()
        passages = self.answers.of(self.towers.answer(self.answers.rows))
        labels, weights = self.labels, None
        if step is not None:
            candidates = self.index.candidates(self.towers, queries, self.labels, step)
            passages, weights = candidates.passages, candidates.weights
            labels = self.labels[:, candidates.answers]
        scores = self.towers.scores(queries, passages)
        loss = cross_entropy(scores, torch.as_tensor(labels.toarray() > 0), weights=weights).mean()
        (slope,) = torch.autograd.grad(loss, queries)
        return loss.item(), slope.numpy()


@pytest.mark.parametrize("sample", [10, 40])  # a pool of 80 of the 298, and all of them
def test_over_many_draws_the_softmaxs_sum_is_that_over_all_answers(sample):
    draws = Draws(sample)
    passages = draws.answers.of(draws.towers.answer(draws.answers.rows))
    exponents = draws.towers.scores(draws.queries, passages).detach().exp()
    sums = []
    for step in range(400):
        answers, weights = draws.draw(step)
        assert answers[:2].tolist() == [7, 50]
        assert len(set(answers.tolist())) == len(answers) == 2 + sample
        assert weights[:2].tolist() == [1, 1]
        assert weights.sum() == pytest.approx(300)
        sums.append((exponents[:, answers] @ torch.as_tensor(weights)).numpy())
    error = np.std(sums, axis=0) / len(sums) ** 0.5
    assert (np.abs(np.mean(sums, axis=0) - exponents.sum(dim=1).numpy()) < 4 * error).all()


def test_a_larger_sample_comes_nearer_to_the_exact_loss_and_slope():
    distances = []
    for sample in (8, 32, 128, 298):
        draws = Draws(sample)
        loss, slope = draws.loss()
        losses, slopes = zip(*(draws.loss(step) for step in range(60)), strict=True)
        bias = abs(np.mean(losses) - loss)
        distances.append((bias, np.linalg.norm(np.mean(slopes, axis=0) - slope)))
    for larger, smaller in zip(distances[1:], distances, strict=False):
        assert larger[0] < smaller[0] and larger[1] < smaller[1]
    assert distances[-1] == pytest.approx((0, 0), abs=1e-9)


def test_half_of_a_sample_are_the_likeliest_of_the_pool():
    draws = Draws(40)  # the pool is all of the others
    answers, weights = draws.draw(0)
    vectors = draws.towers.answer(draws.answers.rows).numpy()
    means = np.stack([vectors[draws.answers.owner == i].mean(axis=0) for i in range(300)])
    likelihoods = (
        (draws.towers.scale * draws.queries @ torch.as_tensor(means).T).softmax(dim=1).detach()
    )
    likelihoods[:, [7, 50]] = 0
    assert set(answers[2:22].tolist()) == set(likelihoods.amax(dim=0).topk(20).indices.tolist())
    assert (weights[2:22] == 1).all() and (weights[22:] == 278 / 20).all()


@pytest.mark.parametrize(
    ("expected", "answers", "queries", "changes", "free"),
    [
        ("exact", 705, 3_680, {}, 64 * GB),
        ("sampled", 1_000_000, 100_000, {}, 64 * GB),
        ("stale", 10, 100_000, {"index": "stale"}, 64 * GB),
        ("exact", 1_000_000, 100_000, {"index": "exact"}, 64 * GB),
        ("sampled", 20_000, 100_000, {}, 64 * GB),
        ("exact", 20_000, 128, {}, 64 * GB),  # an epoch of one step begins by projecting all
        ("exact", 3_000, 100_000, {}, 64 * GB),
        ("sampled", 3_000, 100_000, {}, GB // 100),  # an exact step does not fit into memory
    ],
)
def test_a_sample_is_chosen_where_it_costs_far_less(
    monkeypatch, expected, answers, queries, changes, free
):
    monkeypatch.setattr(negatives_module, "_free_bytes", lambda device: free)
    settings = TrainingSettings(batch_size=128, **changes)
    passages = Passages(torch.empty(answers, 384, device="meta"), None, answers)
    assert choose_index(settings, passages, queries) == expected
