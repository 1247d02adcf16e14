import multiprocessing
import os
import resource
import signal
import threading

import numpy as np
import pytest
from filelock import FileLock

from twinrank.encoding import Encoder, FeatureStore, parts
from twinrank.errors import StoreError

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32")


def texts_of(count):
    return [f"text number {i}" for i in range(count)]


def test_a_kill_between_merging_and_removing_leaves_each_text_once(tmp_path, encoder, monkeypatch):
    store = FeatureStore(tmp_path)
    with monkeypatch.context() as killed:
        killed.setattr(parts, "remove_part", lambda _: None)
        for i in range(parts.MERGED):
            store.features(encoder, [f"text number {i}"], "mean")
    folders = len(list(tmp_path.glob("*/part-*")))
    assert folders == parts.MERGED + 1
    again = store.features(encoder, texts_of(parts.MERGED), "mean")
    assert again.encoded == 0
    np.testing.assert_allclose(
        np.asarray(again), encoder.encode(texts_of(parts.MERGED))[:, 1], atol=1e-5
    )
    store.features(encoder, ["one more"], "mean")
    (entry,) = store.entries()
    assert entry.texts == parts.MERGED + 1
    assert len(list(tmp_path.glob("*/part-*"))) == 2


def test_no_room_to_merge_is_no_reason_to_stop(tmp_path, encoder, monkeypatch):
    real = parts.write_part

    def only_small(parent, keys, sources, replaces=()):
        if replaces:
            raise OSError(28, "No space left on device")
        return real(parent, keys, sources)

    monkeypatch.setattr(parts, "write_part", only_small)
    store = FeatureStore(tmp_path)
    for i in range(parts.MERGED + 2):
        store.features(encoder, [f"text number {i}"], "mean")
    assert store.features(encoder, texts_of(parts.MERGED + 2), "cls").encoded == 0


class Stub:
    """An encoder that needs no torch: a text's features are its length."""

    name, max_tokens, precision, dim, fingerprint = "stub", 32, "fp32", 32, "stub-fp32"

    def batches(self, texts):
        for row, text in enumerate(texts):
            yield np.array([row]), np.full((1, 2, self.dim), len(text), np.float32)


def write_within_a_limit(root):
    store = FeatureStore(root)
    store.features(Stub(), texts_of(20), "mean")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    try:
        store.features(Stub(), texts_of(400), "mean")
    except StoreError as error:
        os._exit(7 if "make room" in str(error) and str(root) in str(error) else 1)


def test_the_system_refusing_to_write_keeps_what_is_stored(tmp_path):
    process = SPAWN.Process(target=write_within_a_limit, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert not list(tmp_path.glob(f"*/{parts.ASIDE}*"))
    features = FeatureStore(tmp_path).features(Stub(), texts_of(400), "mean")
    assert features.encoded == 380
    np.testing.assert_array_equal(features[:][:, 0], [len(text) for text in texts_of(400)])


def hold(file, taken, free):
    with FileLock(file):
        taken.set()
        free.wait(60)


def test_waiting_for_another_run_is_said_once_it_takes_a_second(tmp_path, encoder, monkeypatch):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(1), "mean")
    taken, free = threading.Event(), threading.Event()
    lock = tmp_path / f"{encoder.fingerprint}.lock"
    other = threading.Thread(target=hold, args=(lock, taken, free))
    other.start()
    taken.wait()
    try:
        with pytest.raises(StoreError, match="another run is encoding"):
            store.clear()
        said = []
        warn = "twinrank.encoding.store.logger.warning"
        monkeypatch.setattr(warn, lambda text, *_: (said.append(text), free.set()))
        assert store.features(encoder, texts_of(3), "mean").encoded == 2
        assert ["waiting for another run" in text for text in said] == [True]
    finally:
        free.set()
        other.join()


def test_what_is_stored_needs_no_lock(tmp_path, encoder):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(3), "mean")
    with FileLock(tmp_path / f"{encoder.fingerprint}.lock"):
        assert store.features(encoder, texts_of(3), "cls").encoded == 0


def test_what_a_kill_left_half_written_is_cleaned(tmp_path, encoder):
    store = FeatureStore(tmp_path)
    store.features(encoder, texts_of(3), "mean")
    half = tmp_path / encoder.fingerprint / f"{parts.ASIDE}half"
    half.mkdir()
    (half / "keys.npy").write_bytes(b"half")
    assert store.features(encoder, texts_of(3), "mean").encoded == 0
    assert store.features(encoder, texts_of(4), "mean").encoded == 1
    assert not half.exists()


def test_features_do_not_pretend_to_be_a_view(tmp_path, encoder):
    features = FeatureStore(tmp_path).features(encoder, texts_of(3), "mean")
    with pytest.raises(ValueError, match="copy"):
        np.asarray(features, copy=False)
    with pytest.raises(TypeError, match="slice"):
        features[np.array([[0, 1]])]
    assert np.asarray(features, np.float64).dtype == np.float64
