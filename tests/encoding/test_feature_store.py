import multiprocessing
import os
import resource
import signal
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinrank.encoding import (
    POOLINGS,
    Encoder,
    FeatureStore,
    RecentFeatures,
    feature_store,
)
from twinrank.errors import StoreError

SPAWN = multiprocessing.get_context("spawn")


class Stub:
    """An encoder that needs no torch: a text's features are its length."""

    name, max_tokens, precision, width, fingerprint = "stub", 32, "fp32", 32, f"{0:064}-fp32"

    def batches(self, texts):
        for row, text in enumerate(texts):
            yield np.array([row]), np.full((1, 2, self.width), len(text), np.float32)


@pytest.fixture
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32")


def texts_of(count):
    return [f"text number {i} about {i % 7} things" for i in range(count)]


def watch(encoder, monkeypatch):
    """The texts that the encoder is given from here on."""
    given, batches = [], encoder.batches
    monkeypatch.setattr(encoder, "batches", lambda texts: given.extend(texts) or batches(texts))
    return given


def stored_file(root, encoder):
    return root / f"{encoder.fingerprint}.sqlite"


@given(calls=st.lists(st.lists(st.sampled_from(texts_of(12)), max_size=15), max_size=5))
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_calls_give_what_encoding_gives_and_encode_each_text_once(
    tmp_path_factory, encoder, calls
):
    store = FeatureStore(tmp_path_factory.mktemp("store"))
    seen = set()
    for texts in calls:
        for pooling in POOLINGS:
            features = store.features(encoder, texts, pooling)
            expected = encoder.encode(texts)[:, POOLINGS.index(pooling)]
            np.testing.assert_allclose(features, expected, atol=1e-5)
            assert features.shape == expected.shape
            seen |= set(texts)
            assert store.count_texts(encoder) == len(seen)


def encode_slowly(root, count, pause, counter, last=0):
    """In a process of its own: every text takes time, and is committed."""
    feature_store.COMMIT_EVERY_S = 0.0

    def batches(encoder, texts):
        for rows, features in encoder.batches(texts):
            time.sleep(pause)
            with counter.get_lock():
                counter.value += 1
            if counter.value == last:
                time.sleep(600)  # until it is killed
            yield rows, features

    FeatureStore(root, batches=batches).features(Stub(), texts_of(count), "mean")


def test_killed_while_encoding_it_loses_nothing_that_was_stored(tmp_path):
    counter = SPAWN.Value("i", 0)
    process = SPAWN.Process(target=encode_slowly, args=(tmp_path, 200, 0, counter, 60))
    process.start()
    while counter.value < 60 and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    encoded, store = [], FeatureStore(tmp_path)
    assert store.count_texts(Stub()) == 59

    def rest(encoder, texts):
        encoded.extend(texts)
        return encoder.batches(texts)

    features = FeatureStore(tmp_path, batches=rest).features(Stub(), texts_of(200), "mean")
    assert encoded == texts_of(200)[59:]
    assert store.count_texts(Stub()) == 200
    np.testing.assert_array_equal(features[:, 0], [len(text) for text in texts_of(200)])


@pytest.mark.slow
def test_runs_at_once_encode_each_text_once_and_others_read_meanwhile(tmp_path):
    counter, store = SPAWN.Value("i", 0), FeatureStore(tmp_path)
    store.features(Stub(), texts_of(3), "mean")
    runs = [
        SPAWN.Process(target=encode_slowly, args=(tmp_path, 103, 0.01, counter)) for _ in range(2)
    ]
    for process in runs:
        process.start()
    while any(process.is_alive() for process in runs):  # reading needs no lock
        assert store.features(Stub(), texts_of(3), "cls").shape == (3, 32)
        time.sleep(0.001)
    assert [process.exitcode for process in runs] == [0, 0]
    assert counter.value == 100
    assert store.count_texts(Stub()) == 103


@pytest.mark.parametrize("damage", ["cut", "noise", "page"])
def test_a_damaged_file_is_one_line_with_the_fix(tmp_path, encoder, damage):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(500), "mean")
    file = stored_file(tmp_path, encoder)
    content = file.read_bytes()
    middle = len(content) // 2 // 4096 * 4096
    pages = content[:4096] + b"\xff" * (len(content) - 4096)
    file.write_bytes({"cut": content[:middle], "noise": b"noise" * 999, "page": pages}[damage])
    with pytest.raises(StoreError, match=r"damaged \(.*remove this file") as raised:
        store.features(encoder, texts_of(500), "mean")
    assert "\n" not in str(raised.value)
    file.unlink()
    features = store.features(encoder, texts_of(9), "mean")
    np.testing.assert_allclose(features, encoder.encode(texts_of(9))[:, 1], atol=1e-5)


def write_within_a_limit(root):
    """Exit with 7 if the system's refusal to write becomes one line with the fix."""
    store = FeatureStore(root)
    store.features(Stub(), texts_of(20), "mean")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        store.features(Stub(), texts_of(800), "mean")
    except StoreError as error:
        os._exit(7 if "make room" in str(error) and str(root) in str(error) else 1)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    process = SPAWN.Process(target=write_within_a_limit, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    store = FeatureStore(tmp_path)
    assert store.count_texts(Stub()) == 20
    features = store.features(Stub(), texts_of(800), "mean")
    np.testing.assert_array_equal(features[:, 0], [len(text) for text in texts_of(800)])


def use_without_the_right_to_write(root):
    """Exit with 7 if it reads what is stored, and one line refuses the rest."""
    os.setuid(65_534)
    store = FeatureStore(root)
    assert store.features(Stub(), texts_of(3), "mean").shape == (3, 32)
    try:
        store.features(Stub(), texts_of(4), "mean")
    except StoreError as error:
        os._exit(7 if "set TWINRANK_CACHE to another folder" in str(error) else 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_may_only_be_read_is_read(tmp_path):
    FeatureStore(tmp_path).features(Stub(), texts_of(3), "mean")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    process = SPAWN.Process(target=use_without_the_right_to_write, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7


def test_recent_features_forget_the_text_not_asked_for_longest(encoder, monkeypatch):
    recent, given = RecentFeatures(max_texts=2), watch(encoder, monkeypatch)
    texts = ["refund", "hello", "refund", "the", "refund", "hello"]
    rows = [recent.features(encoder, [text], "mean")[0] for text in texts]
    assert given == ["refund", "hello", "the", "hello"]
    np.testing.assert_allclose(rows, encoder.encode(texts)[:, POOLINGS.index("mean")], atol=1e-5)
