"""What `index = "auto"` chooses."""

import logging
from copy import deepcopy

import numpy as np
import pytest
import torch

from tests.training.test_fit import settings, trained
from twinrank.ranking import Passages
from twinrank.training import choice
from twinrank.training.choice import index_of

FREE = choice._free
GB = 10**9


def chosen(answers, passages=None, queries=100_000, **changes):
    """For as many answers and passages of 384 numbers, none of which is there."""
    count = passages or answers
    owner = None if passages is None else np.sort(np.arange(passages) % answers)
    rows = torch.empty(count, 384, device="meta")
    return index_of(settings(batch_size=128, **changes), Passages(rows, owner, answers), queries)


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    def have(free):
        monkeypatch.setattr(choice, "_free", lambda device: free)

    have(64 * GB)
    return have


def test_few_answers_are_all_projected_and_very_many_are_sampled():
    assert chosen(705, passages=4_135, queries=3_680) == "exact"
    assert chosen(1_000_000) == "sampled"


def test_what_is_asked_for_is_chosen():
    for index in ("exact", "stale", "sampled"):
        assert chosen(10, index=index) == chosen(1_000_000, index=index) == index


def test_a_larger_sample_pays_later():
    assert chosen(20_000) == "sampled"
    assert chosen(20_000, answer_sample=8_192) == "exact"


def test_an_epoch_of_one_step_is_not_begun_by_projecting_all():
    assert chosen(20_000, queries=100_000) == "sampled"
    assert chosen(20_000, queries=128) == "exact"


def test_a_step_that_does_not_fit_into_memory_is_sampled(memory):
    assert chosen(3_000) == "exact"
    memory(GB // 100)
    assert chosen(3_000) == "sampled"


def test_the_choice_is_told_and_kept_where_training_goes_on(caplog, memory):
    kept = []
    with caplog.at_level(logging.INFO):
        whole, history = trained(
            index="auto", answer_sample=2, on_epoch=lambda at: kept.append(deepcopy(at))
        )
    assert "sample" not in caplog.text
    assert history[0]["index"] == "exact"
    memory(0)  # from now on it would be sampled
    with caplog.at_level(logging.INFO):
        assert trained(index="auto", answer_sample=2)[1][0]["index"] == "sampled"
    assert "12 answers: steps score against a sample" in caplog.text
    again, course = trained(index="auto", answer_sample=2, saved=kept[0])
    assert course[0]["index"] == "exact"
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_free_memory_is_a_share_of_what_there_is():
    assert GB // 100 < FREE(torch.device("cpu")) < 10**6 * GB
