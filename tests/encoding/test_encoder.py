import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from twinrank.encoding import POOLINGS, Encoder, encoder, resolve
from twinrank.encoding.batches import TOKENS_A_BATCH, plan_batches
from twinrank.errors import ArgumentError, EncoderError

TEXTS = [
    "it wont let me in again",
    "",
    "User: hello\nAgent: hi there!\nUser: my client's card was declined, twice. " * 12,
    "æøå 你好 🙂",
    "refund",
]


def tiny(model, **settings):
    return Encoder(str(model), **{"max_tokens": 32, "precision": "fp32", **settings})


@pytest.fixture(scope="module")
def peer():
    model = SentenceTransformer(str(resolve("all-MiniLM-L6-v2").folder), device="cpu")
    model.max_seq_length = 128
    return model.encode(TEXTS)


@pytest.mark.parametrize(("precision", "at_least"), [("fp32", 0.99999), ("bf16", 0.999)])
def test_mean_pooling_is_that_of_sentence_transformers(peer, precision, at_least):
    ours = Encoder(max_tokens=128, precision=precision).encode(TEXTS)[:, POOLINGS.index("mean")]
    cosines = (ours * peer).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(peer, axis=1)
    assert cosines.min() >= at_least


def test_both_poolings_equal_the_plain_transformer_alone_and_among_others(tiny_model):
    model = AutoModel.from_pretrained(tiny_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    features = tiny(tiny_model, max_tokens=48).encode(TEXTS * 30)
    alone = [tiny(tiny_model, max_tokens=48).encode([text])[0] for text in TEXTS]
    for number, text in enumerate(TEXTS):
        inputs = tokenizer(text, truncation=True, max_length=48, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0].numpy()
        for row in (alone[number], features[number], features[number + 5 * 29]):
            np.testing.assert_allclose(row[0], hidden[0], atol=2e-5)
            np.testing.assert_allclose(row[1], hidden.mean(axis=0), atol=2e-5)


def test_tokens_are_counted_before_cutting_with_the_special_ones(tiny_model):
    one = tiny(tiny_model, max_tokens=16)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert one.count_tokens(TEXTS).tolist() == expected
    assert [len(ids) for ids in one.tokens(TEXTS)] == [min(count, 16) for count in expected]


def test_chunks_and_their_order_do_not_show(tiny_model, monkeypatch):
    expected = tiny(tiny_model).encode(TEXTS * 5)
    monkeypatch.setattr(encoder, "TEXTS_A_CHUNK", 7)
    one = tiny(tiny_model)
    assert one.encode([]).shape == (0, 2, 32)
    np.testing.assert_allclose(one.encode(TEXTS * 5), expected, atol=1e-5)
    rows = [rows for rows, _ in one.batches(TEXTS * 5)]
    assert sorted(np.concatenate(rows)) == list(range(25))
    assert len(one.count_tokens(TEXTS * 5)) == 25


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 500))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    batches = plan_batches(lengths, budget)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 65}, "at most 64 tokens"),
        ({"max_tokens": 2}, "too few"),
        ({"precision": "int8"}, "choose auto or fp32 or bf16"),
        ({"device": "abacus"}, "choose auto or cpu or cuda or mps"),
        ({"backend": "abacus"}, "choose auto or torch or openvino"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tiny_model, settings, message):
    with pytest.raises(EncoderError, match=message):
        tiny(tiny_model, **settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_a_device_that_is_not_there_is_said(tiny_model):
    with pytest.raises(EncoderError, match="not on this machine"):
        tiny(tiny_model, device="cuda").encode(["a"])


def test_texts_that_are_none_are_refused(tiny_model):
    one = tiny(tiny_model)
    with pytest.raises(EncoderError, match="lone surrogates"):
        one.encode(["fine", "broken \ud83d"])
    with pytest.raises(ArgumentError, match="2 of 2 is of type NoneType"):
        one.encode(["fine", None])
    with pytest.raises(TypeError, match="list"):
        one.encode("one string")


@pytest.mark.parametrize(
    ("flags", "device", "precision"),
    [
        ({"avx2", "avx512_bf16"}, "cpu", "bf16"),
        ({"amx_bf16"}, "cpu", "bf16"),
        ({"avx2", "avx512f"}, "cpu", "fp32"),
        ({"avx512_bf16"}, "mps", "fp32"),
    ],
)
def test_bf16_is_chosen_where_it_is_faster(monkeypatch, flags, device, precision):
    monkeypatch.setattr(encoder, "cpu_flags", lambda: flags)
    assert encoder.resolve_precision("auto", device) == precision
    assert encoder.resolve_precision("fp32", device) == "fp32"


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["", "1", "3,2"])
def test_there_are_as_many_threads_without_torch_as_with_it(limit):
    code = (
        "from twinrank.encoding.openvino_backend import count_threads\n"
        "before = count_threads()\nimport torch\nprint(before, torch.get_num_threads())\n"
        "torch.set_num_threads(5)\nprint(count_threads())"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": limit}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    before, after, changed = done.stdout.split()
    assert before == after
    assert changed == "5"


def test_batches_shared_out_to_the_cores_leave_torch_as_it_was(tiny_model, monkeypatch):
    one = tiny(tiny_model, device="cpu", backend="torch")
    texts = [f"{text} {i}" for i in range(20) for text in TEXTS]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = one.encode(texts)
        torch.set_num_threads(2)
        used, features = set(), one._backend.features

        def watched(ids):
            used.add(torch.get_num_threads())
            return features(ids)

        monkeypatch.setattr(one._backend, "features", watched)
        np.testing.assert_allclose(one.encode(texts), expected, atol=1e-5)
        assert used == {1}
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(threads)


def test_stopping_early_does_not_encode_the_rest(tiny_model, monkeypatch):
    one = tiny(tiny_model, device="cpu")
    monkeypatch.setitem(TOKENS_A_BATCH, "cpu", 32)
    done = []
    features = one._backend.features

    def watched(ids):
        done.append(len(ids))
        time.sleep(0.01)
        return features(ids)

    monkeypatch.setattr(one._backend, "features", watched)
    batches = one.batches(TEXTS * 40)
    next(batches)
    batches.close()
    assert sum(done) < 50
