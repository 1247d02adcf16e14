import sys

import numpy as np
import pytest

from tests.test_cli import twinrank
from twinrank.cluster import connected, encode_on_cluster
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import EncoderError, TwinrankError


@pytest.fixture
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=32, precision="fp32", device="cpu")


def texts_of(count):
    return [f"text number {i} " + "password " * (i % 9) for i in range(count)]


def test_a_node_killed_while_encoding_costs_time_alone(second_node, encoder, tmp_path):
    texts = texts_of(2_000)
    chunks = []

    def watched(encoder, texts):
        for rows, features in encode_on_cluster(encoder, texts, device="cpu"):
            chunks.append(rows)
            if len(chunks) == 3:  # both workers have begun, and have more to do
                second_node()
            yield rows, features

    store = FeatureStore(tmp_path, batches=watched)
    features = store.features(encoder, texts, "mean")
    assert store.count_texts(encoder) == len(texts)
    np.testing.assert_array_equal(np.sort(np.concatenate(chunks)), np.arange(len(texts)))
    np.testing.assert_allclose(np.asarray(features), encoder.encode(texts)[:, 1], atol=1e-5)


@pytest.mark.usefixtures("whole_cluster")
def test_an_encoder_that_workers_do_not_have_is_one_line(encoder, monkeypatch):
    name, encoder.name = encoder.name, "/nowhere/encoder"
    with pytest.raises(EncoderError, match="/nowhere/encoder") as raised:
        list(encode_on_cluster(encoder, texts_of(3), device="cpu"))
    assert "\n" not in str(raised.value)
    encoder.name = name
    monkeypatch.setitem(encoder.__dict__, "identity", "0" * 64)
    with pytest.raises(TwinrankError, match="another encoder of this name"):
        list(encode_on_cluster(encoder, texts_of(3), device="cpu"))


@pytest.mark.usefixtures("whole_cluster")
def test_a_gpu_that_no_machine_has_is_said(encoder):
    with pytest.raises(TwinrankError, match="choose --device cpu"):
        list(encode_on_cluster(encoder, texts_of(3), device="cuda"))


def test_an_address_where_nobody_listens_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        pytest.raises(TwinrankError, match="start one by `ray start --head`"),
        connected("[::1]:1"),
    ):
        pass


def test_encode_stores_what_a_recipe_reads(help_centre_folder, recipe_files, tmp_path):
    def encode(recipe, **options):
        command = ("encode", help_centre_folder, "--recipe", recipe_files[recipe])
        return twinrank(*command, TWINRANK_CACHE=str(tmp_path), **options)

    assert "780 texts" not in encode("towers").stdout
    assert ": 0 texts encoded" in encode("zero-shot").stdout
    refused = encode("bm25", check=False)
    assert refused.returncode == 2
    assert "takes no encoder" in refused.stderr


def test_without_ray_one_line_says_what_to_install(help_centre_folder, recipe_files, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("twinrank.cluster")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("twinrank.extras.find_spec", lambda name: None)
    command = ("encode", help_centre_folder, "--recipe", recipe_files["towers"], "--ray", "auto")
    refused = twinrank(*command, check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip() == "clusters need ray: pip install 'twinrank[cluster]'"
