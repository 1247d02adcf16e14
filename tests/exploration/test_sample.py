import numpy as np

from tests.exploration.conftest import dataset
from twinrank.exploration import sample as module
from twinrank.exploration.sample import draw_sample


def many(threads=30):
    queries = [(f"q{t}{k}", k, f"t{t}", f"text {t} {k}") for t in range(threads) for k in "ab"]
    labels = [(f"q{t}{k}", f"a{t % 5}", "train") for t in range(0, threads, 3) for k in "ab"]
    answers = [(f"a{i}", f"Title {i}", "text") for i in range(20)]
    return dataset(queries, labels, answers)


def test_all_is_read_where_there_is_little(encoder, store):
    data = many()
    sample = draw_sample(data, encoder, store)
    assert sample.frame["id"].to_list() == data.queries.collect()["id"].to_list()
    assert sample.answers["id"].to_list() == data.answers["id"].to_list()
    assert (sample.queries_left_out, sample.answers_left_out) == (0, 0)
    assert sample.labels.nnz == 20
    assert sample.frame["split"].drop_nulls().to_list() == ["train"] * 20
    np.testing.assert_allclose(np.linalg.norm(sample.points, axis=1), 1, rtol=1e-5)
    features = encoder.encode([data.queries.collect()["text"][7]])[0, 1]
    np.testing.assert_allclose(sample.features[7], features, atol=1e-5)


def test_of_much_whole_threads_are_drawn_and_right_answers_first(encoder, store, monkeypatch):
    for name, most in (("MAX_LABELLED", 8), ("MAX_UNLABELLED", 4), ("MAX_ANSWERS", 6)):
        monkeypatch.setattr(module, name, most)
    sample = draw_sample(many(), encoder, store)
    assert (sample.queries_left_out, sample.answers_left_out) == (60 - 12, 14)
    assert sample.frame.group_by("thread").len()["len"].to_list() == [2] * 6
    assert sample.labelled.sum() == 8
    right = set(sample.answers["id"].gather(np.unique(sample.labels.indices)))
    assert sample.labels.nnz == 8
    assert right <= {f"a{i}" for i in range(5)}
    second = draw_sample(many(), encoder, store, seed=1)
    assert set(second.frame["id"]) != set(sample.frame["id"])
