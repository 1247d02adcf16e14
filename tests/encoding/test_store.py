import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinrank.encoding import POOLINGS, Encoder, FeatureStore, home, parts
from twinrank.errors import StoreError

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32")


def texts_of(count, start=0):
    return [f"text number {i} about {i % 7} things" for i in range(start, start + count)]


def stored(store, encoder):
    return sum(e.texts for e in store.entries() if e.fingerprint == encoder.fingerprint)


@given(calls=st.lists(st.lists(st.sampled_from(texts_of(12)), max_size=15), max_size=5))
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_calls_give_what_encoding_gives(tmp_path_factory, encoder, calls):
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    seen = set()
    for texts in calls:
        for pooling in POOLINGS:
            got = store.features(encoder, texts, pooling)
            expected = encoder.encode(texts)[:, POOLINGS.index(pooling)]
            np.testing.assert_allclose(np.asarray(got), expected, atol=1e-5)
            assert got.shape == expected.shape
            assert got.encoded == len(set(texts) - seen)
            seen |= set(texts)


def test_rows_are_gathered_as_numpy_would(tmp_path, encoder):
    texts = texts_of(20)
    features = FeatureStore(tmp_path).features(encoder, texts, "mean")
    whole = np.asarray(features)
    for rows in (slice(3, 9), slice(None, None, -2), np.array([5, 5, 0]), np.arange(20) % 3 == 0):
        np.testing.assert_array_equal(features[rows], whole[rows])


def test_another_process_finds_the_same_bytes(tmp_path, encoder):
    texts = texts_of(10)
    first = np.asarray(FeatureStore(tmp_path).features(encoder, texts, "cls"))
    again = FeatureStore(tmp_path).features(encoder, texts[::-1], "cls")
    assert again.encoded == 0
    np.testing.assert_array_equal(np.asarray(again)[::-1], first)


def test_encoders_do_not_share(tmp_path, tiny_model, encoder):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(3), "cls")
    other = Encoder(str(tiny_model), max_tokens=16, precision="fp32")
    assert store.features(other, texts_of(3), "cls").encoded == 3
    assert len(store.entries()) == 2


def encode_slowly(root: Path, model: str, count: int, pause: float, counter, last=0) -> None:
    """In a process of its own: parts are published after every batch, and batches take time."""
    home.PUBLISH_S = 0.0
    encoder = Encoder(model, max_tokens=32, precision="fp32")
    real = Encoder.batches

    def batches(self, texts):
        for start in range(0, len(texts), 5):
            for rows, features in real(self, texts[start : start + 5]):
                time.sleep(pause)
                with counter.get_lock():
                    counter.value += len(rows)
                if counter.value == last:
                    time.sleep(600)  # until it is killed
                yield rows + start, features

    Encoder.batches = batches
    FeatureStore(root).features(encoder, texts_of(count), "mean")


def test_killed_while_encoding_it_loses_nothing_that_was_stored(tmp_path, tiny_model, encoder):
    counter = SPAWN.Value("i", 0)
    process = SPAWN.Process(
        target=encode_slowly, args=(tmp_path, str(tiny_model), 200, 0, counter, 60)
    )
    process.start()
    while counter.value < 60 and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = FeatureStore(tmp_path)
    kept = stored(store, encoder)
    assert 50 <= kept < 200
    features = store.features(encoder, texts_of(200), "mean")
    assert features.encoded == 200 - kept
    assert stored(store, encoder) == 200
    expected = encoder.encode(texts_of(200))[:, 1]
    np.testing.assert_allclose(np.asarray(features), expected, atol=1e-5)
    assert not [f for f in tmp_path.rglob("*") if f.name.startswith(parts.ASIDE)]


def test_two_runs_at_once_encode_each_text_once(tmp_path, tiny_model, encoder):
    counter = SPAWN.Value("i", 0)
    both = [
        SPAWN.Process(target=encode_slowly, args=(tmp_path, str(tiny_model), 100, 0.02, counter))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert counter.value == 100
    assert stored(FeatureStore(tmp_path), encoder) == 100


def test_small_parts_are_merged_and_readers_keep_theirs(tmp_path, encoder):
    store = FeatureStore(tmp_path)
    early = store.features(encoder, texts_of(1), "mean")
    before = np.asarray(early)
    for i in range(1, 40):
        store.features(encoder, texts_of(1, start=i), "mean")
    assert len(list(tmp_path.glob("*/part-*"))) <= 14
    np.testing.assert_array_equal(np.asarray(early), before)
    assert store.features(encoder, texts_of(40), "mean").encoded == 0


@pytest.mark.parametrize("name", ["features.npy", "keys.npy"])
@pytest.mark.parametrize("damage", ["cut", "grown", "gone", "noise"])
def test_a_damaged_part_is_said_and_encoded_again(tmp_path, encoder, caplog, name, damage):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(9), "mean")
    (file,) = tmp_path.glob(f"*/part-*/{name}")
    if damage == "gone":
        file.unlink()
    else:
        whole = file.read_bytes()
        file.write_bytes({"noise": b"noise", "cut": whole[:-7], "grown": whole + b"x"}[damage])
    features = store.features(encoder, texts_of(9), "mean")
    assert "damaged" in caplog.text
    assert features.encoded == 9
    np.testing.assert_allclose(np.asarray(features), encoder.encode(texts_of(9))[:, 1], atol=1e-5)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, encoder, monkeypatch):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(5), "mean")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(parts, "_write_array", full)
        with pytest.raises(StoreError, match=r"No space left.*TWINRANK_CACHE"):
            store.features(encoder, texts_of(9), "mean")
    assert stored(store, encoder) == 5
    assert store.features(encoder, texts_of(9), "mean").encoded == 4


def test_a_root_that_cannot_be_written_is_said(tmp_path, encoder):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="TWINRANK_CACHE"):
        FeatureStore(tmp_path / "file" / "store").features(encoder, ["a"], "mean")


def test_another_format_is_refused(tmp_path, encoder):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(2), "mean")
    about = tmp_path / encoder.fingerprint / "encoder.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match="format 2"):
        store.features(encoder, texts_of(4), "mean")


def test_cleared_by_encoder_or_whole_and_nothing_else_is_touched(tmp_path, tiny_model, encoder):
    other = Encoder(str(tiny_model), max_tokens=16, precision="fp32")
    store = FeatureStore(tmp_path)
    (tmp_path / "mine").mkdir()
    for one in (encoder, other):
        store.features(one, texts_of(3), "mean")
    assert store.clear(other.fingerprint) > 0
    assert [entry.fingerprint for entry in store.entries()] == [encoder.fingerprint]
    with pytest.raises(StoreError, match="nothing is stored"):
        store.clear(other.fingerprint)
    store.clear()
    assert store.entries() == []
    assert (tmp_path / "mine").is_dir()


def test_an_unknown_pooling_is_refused(tmp_path, encoder):
    with pytest.raises(StoreError, match="choose cls or mean"):
        FeatureStore(tmp_path).features(encoder, ["a"], "max")
