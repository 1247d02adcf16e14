import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from twinrank.data import Queries
from twinrank.training.pretraining import Groups, pair_across, pair_every_query, pair_within


@st.composite
def memberships(draw):
    """Queries by group and type, one group a query."""
    kinds = draw(st.integers(2, 5))
    n = draw(st.integers(0, 60))
    group = draw(st.lists(st.integers(0, 7), min_size=n, max_size=n))
    kind = draw(st.lists(st.integers(0, kinds - 1), min_size=n, max_size=n))
    return np.array(group, np.int64), np.array(kind, np.int64)


def groups_of(group, kind):
    return Groups.of(np.arange(len(group)), group, kind)


def rng(seed=0):
    return np.random.default_rng(seed)


def naive_groups(group, kind):
    members = {g: np.flatnonzero(group == g) for g in set(group.tolist())}
    return {g: rows for g, rows in members.items() if len(set(kind[rows].tolist())) > 1}


@given(memberships(), st.integers(0, 100))
def test_every_query_is_paired_with_another_type_of_its_group(sample, seed):
    group, kind = sample
    groups = groups_of(group, kind)
    pairs = pair_every_query(groups, rng(seed))
    assert (group[pairs.f] == group[pairs.g]).all()
    assert (kind[pairs.f] < kind[pairs.g]).all()
    assert set(pairs.f) | set(pairs.g) == set(groups.query)


@given(memberships(), st.integers(0, 100))
def test_no_fewer_pairs_could_hold_pair_every_query(sample, seed):
    group, kind = sample
    pairs = pair_every_query(groups_of(group, kind), rng(seed))
    fewest = [
        max(np.bincount(kind[rows]).max(), -(-len(rows) // 2))
        for rows in naive_groups(group, kind).values()
    ]
    assert len(pairs) == sum(fewest)


@given(memberships(), st.integers(1, 9), st.integers(0, 100))
def test_batches_hold_the_epoch_and_spread_each_group(sample, size, seed):
    group, kind = sample
    groups = groups_of(group, kind)
    pairs = pair_every_query(groups, rng(seed))
    batches = list(pair_across(groups, size, rng(seed)))
    assert sum(map(len, batches)) == len(pairs)
    assert all(len(batch) <= size for batch in batches)
    sizes = {len(batch) for batch in batches}
    assert not sizes or max(sizes) - min(sizes) <= 1
    for number in range(len(groups)):
        m = int((pairs.group == number).sum())
        most = max(int((batch.group == number).sum()) for batch in batches)
        assert most <= -(-m // len(batches))


def test_of_many_types_each_two_meet_about_as_often():
    """Groups with a query of each of four types: six ways to pair two types, none preferred."""
    group, kind = np.repeat(np.arange(3000), 4), np.tile([0, 1, 2, 3], 3000)
    pairs = pair_every_query(groups_of(group, kind), rng())
    met = np.bincount(4 * kind[pairs.f] + kind[pairs.g], minlength=16)
    assert met[met > 0].size == 6
    assert np.abs(met[met > 0] - 1000).max() < 5 * np.sqrt(1000)


def test_shuffled_partners_are_of_other_groups():
    group, kind = np.repeat(np.arange(200), 2), np.tile([0, 1], 200)
    batches = list(pair_across(groups_of(group, kind), 50, rng(), shuffled=True))
    f, g = (np.concatenate([getattr(b, side) for b in batches]) for side in ("f", "g"))
    assert (group[f] == group[g]).mean() < 0.05
    assert sorted(g.tolist()) == np.flatnonzero(kind == 1).tolist()


@given(memberships(), st.integers(2, 6), st.integers(0, 100))
def test_within_is_one_answer_a_batch_with_the_rarer_type_whole(sample, least, seed):
    group, kind = sample
    groups = groups_of(group, kind)
    naive = naive_groups(group, kind)
    seen = []
    for batch in pair_within(groups, rng(seed), min_pairs=least):
        rows = np.concatenate([batch.f, batch.g])
        assert len(np.unique(group[rows])) == 1
        assert len(np.unique(kind[batch.f])) == len(np.unique(kind[batch.g])) == 1
        a, b = kind[batch.f[0]], kind[batch.g[0]]
        assert a < b
        counts = np.bincount(kind[naive[group[rows[0]]]], minlength=6)
        assert len(batch) == min(counts[a], counts[b]) >= least
        assert len(np.unique(rows)) == len(rows)
        seen.append(group[rows[0]])
    assert len(seen) == len(set(seen))
    if kind.size and kind.max() == 1:  # two types: nothing is drawn, so what is left out is known
        expected = [g for g, r in naive.items() if np.bincount(kind[r]).min() >= least]
        assert sorted(seen) == sorted(expected)


def test_a_query_with_two_right_answers_is_paired_in_both():
    frame = pl.DataFrame(
        {
            "id": ["a", "b", "c"],
            "type": ["question", "chat", "chat"],
            "thread": ["1", "2", "3"],
            "text": ["x", "y", "z"],
        }
    )
    labels = sparse.csr_array(np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]], np.float32))
    pairs = pair_every_query(Groups.by_answer(Queries(frame, labels)), rng())
    assert {frozenset(p) for p in zip(pairs.f.tolist(), pairs.g.tolist(), strict=True)} == {
        frozenset({0, 1}),
        frozenset({0, 2}),
    }


def test_threads_need_no_labels():
    frame = pl.DataFrame({"thread": ["t", "u", "t", "u", "v"], "type": ["q", "c", "c", "q", "c"]})
    groups = Groups.by_thread(frame)
    pairs = pair_every_query(groups, rng())
    assert {frozenset(p) for p in zip(pairs.f.tolist(), pairs.g.tolist(), strict=True)} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
    assert groups.alone == 1
