import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from twinrank.encoding import POOLINGS, Encoder, RecentFeatures


@pytest.fixture
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32")


def encoded(encoder, monkeypatch):
    """Which texts the encoder is given from here on."""
    seen, encode = [], encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts, **kw: seen.extend(texts) or encode(texts))
    return seen


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_are_the_encoders_in_the_order_asked(encoder, pooling):
    texts = ["refund", "the invoice", "refund", "hello"]
    found = RecentFeatures().features(encoder, texts, pooling)
    expected = encoder.encode(texts)[:, POOLINGS.index(pooling)]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_met_before_is_not_encoded_again(encoder, monkeypatch):
    recent, seen = RecentFeatures(), encoded(encoder, monkeypatch)
    first = recent.features(encoder, ["refund", "hello"], "mean")
    again = recent.features(encoder, ["hello", "the", "refund"], "mean")
    assert seen == ["refund", "hello", "the"]
    np.testing.assert_array_equal(again[[2, 0]], first)


def test_the_text_not_asked_for_longest_is_forgotten(encoder, monkeypatch):
    recent, seen = RecentFeatures(kept=2), encoded(encoder, monkeypatch)
    for text in ("refund", "hello", "refund", "the", "refund", "hello"):
        recent.features(encoder, [text], "mean")
    assert seen == ["refund", "hello", "the", "hello"]


def test_one_call_may_ask_for_more_than_is_kept(encoder):
    recent = RecentFeatures(kept=1)
    assert recent.features(encoder, ["refund", "hello", "the"], "cls").shape == (3, 32)
    assert recent.features(encoder, [], "cls").shape == (0, 32)


def test_threads_take_turns_with_the_encoder(encoder, monkeypatch):
    encode, at_once, most = encoder.encode, [], []

    def slow(texts, **_):
        at_once.append(texts)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return encode(texts)

    monkeypatch.setattr(encoder, "encode", slow)
    recent, texts = RecentFeatures(kept=3), ["refund", "hello", "the", "invoice"] * 3
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda text: recent.features(encoder, [text], "mean")[0], texts)
        np.testing.assert_allclose(list(found), encode(texts)[:, POOLINGS.index("mean")], atol=1e-5)
    assert max(most) == 1
