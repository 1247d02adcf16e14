"""Answers of one passage or several, and what a float64 search over all of them finds."""

import numpy as np
import pytest

from twinrank.ranking import Passages
from twinrank.ranking.index import LocalIndex, MilvusIndex, MilvusPlace

DIM = 8


def answers(counts, seed=0):
    """Passages of so many answers, and their ids."""
    rows = np.random.default_rng(seed).standard_normal((sum(counts), DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    owner = np.repeat(np.arange(len(counts)), counts)
    return [f"a{i}" for i in range(len(counts))], Passages(rows, owner, len(counts))


def best_products(ids, passages, query):
    """Of each answer the best of its passages' products, in float64."""
    products = passages.rows.astype(np.float64) @ query.astype(np.float64)
    return {id_: products[passages.owner == i].max() for i, id_ in enumerate(ids)}


def assert_found(found, expected, k):
    """The k best of the expected, best first, whichever of those that tie."""
    best = sorted(expected.values(), reverse=True)[:k]
    np.testing.assert_allclose(found.scores, best, atol=1e-5)
    assert len(set(found.answers)) == len(found.answers) == len(best)
    np.testing.assert_allclose([expected[id_] for id_ in found.answers], best, atol=1e-5)


def milvus(to, fingerprint="mine", dim=DIM):
    """An empty index in Milvus that can be opened."""
    index = MilvusIndex.create(MilvusPlace.of(str(to)), fingerprint, dim=dim)
    index.remove(index.held())
    index.publish()
    return index


@pytest.fixture(params=["flat", "milvus"])
def room(request, tmp_path):
    """How an empty index is made, and opened again."""
    if request.param == "flat":
        folder = tmp_path / "index"
        make = lambda: LocalIndex(folder, "flat", "mine", DIM)  # noqa: E731
        return make, lambda: LocalIndex.open(folder)
    file = str(tmp_path / "answers.db")
    return lambda: milvus(file), lambda: MilvusIndex.open(MilvusPlace.of(file))
