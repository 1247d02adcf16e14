import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from twinrank.encoding import POOLINGS, Encoder, resolve
from twinrank.encoding.batches import BATCH_COST, TOKENS_A_BATCH, plan
from twinrank.errors import EncoderError

TEXTS = [
    "it wont let me in again",
    "",
    "User: hello\nAgent: hi there!\nUser: my client's card was declined, twice. " * 12,
    "æøå 你好 🙂",
    "refund",
]


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def peer():
    model = SentenceTransformer(str(resolve("all-MiniLM-L6-v2").folder), device="cpu")
    model.max_seq_length = 128
    return model.encode(TEXTS)


@pytest.mark.parametrize(("precision", "at_least"), [("fp32", 0.99999), ("bf16", 0.999)])
def test_mean_pooling_is_that_of_sentence_transformers(peer, precision, at_least):
    ours = Encoder(max_tokens=128, precision=precision).encode(TEXTS)[:, POOLINGS.index("mean")]
    assert cosines(ours, peer).min() >= at_least


def test_both_poolings_equal_the_plain_transformer(tiny_model):
    model = AutoModel.from_pretrained(tiny_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    got = Encoder(str(tiny_model), max_tokens=48, precision="fp32").encode(TEXTS)
    for row, text in zip(got, TEXTS, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=48, return_tensors="pt")
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0].numpy()
        np.testing.assert_allclose(row[0], hidden[0], atol=2e-5)
        np.testing.assert_allclose(row[1], hidden.mean(axis=0), atol=2e-5)


def test_the_order_and_company_of_texts_do_not_matter(tiny_model):
    encoder = Encoder(str(tiny_model), max_tokens=32, precision="fp32")
    together = encoder.encode(TEXTS * 30)
    for i in (0, 2, 77, 149):
        alone = encoder.encode([(TEXTS * 30)[i]])[0]
        np.testing.assert_allclose(together[i], alone, atol=1e-5)


def test_nothing_to_encode(tiny_model):
    assert Encoder(str(tiny_model), max_tokens=32).encode([]).shape == (0, 2, 32)


def test_tokens_are_counted_before_cutting_with_the_special_ones(tiny_model):
    encoder = Encoder(str(tiny_model), max_tokens=16)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    expected = [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    assert encoder.count_tokens(TEXTS).tolist() == expected
    assert max(expected) > 16


@given(st.lists(st.integers(1, 200), max_size=60), st.integers(1, 500))
def test_batches_hold_every_text_once_within_the_budget(lengths, budget):
    batches = plan(lengths, budget)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_no_other_cut_between_lengths_costs_less(lengths):
    budget = 200  # holds them all: where to cut is free
    widths = sorted(set(lengths))

    def cost(batches):
        return sum(len(b) * max(b) + budget * BATCH_COST for b in batches)

    def cut(places):
        bounds = [0, *places, len(widths)]
        groups = [widths[a:b] for a, b in pairwise(bounds)]
        return [[length for length in lengths if length in group] for group in groups]

    inner = range(1, len(widths))
    every = [c for n in range(len(widths)) for c in combinations(inner, n)]
    found = cost([[lengths[row] for row in rows] for rows in plan(lengths, budget)])
    assert found == pytest.approx(min(cost(cut(places)) for places in every))


def test_a_few_texts_of_many_lengths_are_hardly_padded():
    lengths = [4, 5, 5, 6, 7, 9, 9, 11, 12, 12, 14, 60, 61, 125, 128, 128]
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in plan(lengths, 1024))
    assert padded < 1.1 * sum(lengths)


def test_the_identity_changes_with_what_the_encoder_is_and_nothing_else(tiny_model, tmp_path):
    first = Encoder(str(tiny_model), max_tokens=32, precision="fp32")
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    assert Encoder(str(copy), max_tokens=32, precision="fp32").identity == first.identity
    assert Encoder(str(tiny_model), max_tokens=48, precision="fp32").identity != first.identity
    other = Encoder(str(tiny_model), max_tokens=32, precision="bf16")
    assert other.identity == first.identity
    assert other.fingerprint != first.fingerprint
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert Encoder(str(copy), max_tokens=32, precision="fp32").identity != first.identity


def test_making_one_does_not_import_torch(tiny_model):
    code = (
        "import sys; from twinrank.encoding import Encoder; "
        "e = Encoder(sys.argv[1], max_tokens=32);"
        "e.identity, e.dim, e.count_tokens(['a']); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_model)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def without(name):
    return lambda folder: (folder / name).unlink()


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def own_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))


def broken_weights(folder):
    (folder / "model.safetensors").write_bytes(b"nonsense")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("config.json"), "config.json"),
        (without("model.safetensors"), "safetensors"),
        (only_pickle, "safetensors"),
        (own_code, "code"),
        (broken_weights, "cannot be loaded"),
    ],
)
def test_an_encoder_that_is_unsafe_or_incomplete_is_refused(tiny_model, tmp_path, spoil, message):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as caught:
        Encoder(str(folder), max_tokens=32).encode(["a"])
    assert "\n" not in str(caught.value)


def test_more_tokens_than_positions_are_refused(tiny_model):
    with pytest.raises(EncoderError, match="at most 64 tokens"):
        Encoder(str(tiny_model), max_tokens=65)


def test_an_unknown_name_says_so_offline():
    with pytest.raises(EncoderError, match="nobody/nothing"):
        Encoder("nobody/nothing", max_tokens=32)


@pytest.mark.parametrize("wrong", [{"precision": "int8"}, {"device": "abacus"}])
def test_unknown_choices_are_refused(tiny_model, wrong):
    with pytest.raises(EncoderError, match="choose"):
        Encoder(str(tiny_model), max_tokens=32, **wrong)


def test_batches_shared_out_to_the_cores_leave_torch_as_it_was(tiny_model, monkeypatch):
    one = Encoder(str(tiny_model), max_tokens=32, precision="fp32", device="cpu")
    texts = [f"{text} {i}" for i in range(20) for text in TEXTS]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = one.encode(texts)
        torch.set_num_threads(2)
        used = set()
        features = one._network.features

        def watched(ids):
            used.add((threading.current_thread().name, torch.get_num_threads()))
            return features(ids)

        monkeypatch.setattr(one._network, "features", watched)
        np.testing.assert_allclose(one.encode(texts), expected, atol=1e-5)
        assert {count for _, count in used} == {1}
        assert threading.current_thread().name not in {name for name, _ in used}
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
        used.clear()
        one.encode(texts[:1])
        assert used == {(threading.current_thread().name, 2)}
    finally:
        torch.set_num_threads(threads)


def test_stopping_early_does_not_encode_the_rest(tiny_model, monkeypatch):
    one = Encoder(str(tiny_model), max_tokens=32, precision="fp32", device="cpu")
    monkeypatch.setitem(TOKENS_A_BATCH, "cpu", 32)
    done = []
    features = one._network.features

    def watched(ids):
        done.append(len(ids))
        time.sleep(0.01)
        return features(ids)

    monkeypatch.setattr(one._network, "features", watched)
    batches = one.batches(TEXTS * 40)
    next(batches)
    batches.close()
    assert sum(done) < 50
