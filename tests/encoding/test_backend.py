import json
import logging
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from twinrank.encoding import Encoder, FeatureStore, backend, clear_cache, conversion, kept_networks
from twinrank.encoding.conversion import ConversionError, cosines
from twinrank.encoding.network import Network
from twinrank.errors import EncoderError

if find_spec("openvino") is None:  # importorskip would import it, and its telemetry
    pytest.skip("openvino is not installed", allow_module_level=True)

TEXTS = ["it wont let me in", "", "refund", "User: hello\nAgent: hi, what is it? " * 9, "æøå 你好"]


@pytest.fixture(autouse=True)
def own_home(monkeypatch, tmp_path):
    """An empty cache, and the choice left to twinrank."""
    monkeypatch.setenv("TWINRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TWINRANK_BACKEND")


@pytest.fixture(scope="module")
def converted(tiny_model, tmp_path_factory):
    """The folder of a cache that holds the tiny model, converted; to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINRANK_CACHE", str(tmp_path_factory.mktemp("converted")))
        encoder(tiny_model, backend="openvino").encode(["a"])
        yield backend.network_home(encoder(tiny_model).identity)


@pytest.fixture
def home(converted, tiny_model):
    """The folder of the tiny model, converted."""
    return shutil.copytree(converted, backend.network_home(encoder(tiny_model).identity))


def encoder(model, precision="fp32", **settings):
    return Encoder(str(model), max_tokens=48, precision=precision, device="cpu", **settings)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("precision", "at_least"), [("fp32", 0.999999), ("bf16", 0.9995)])
def test_features_are_torchs_padded_and_alone(tiny_model, precision, at_least):
    expected = encoder(tiny_model, precision, backend="torch").encode(TEXTS * 5)
    other = encoder(tiny_model, precision, backend="openvino")
    assert other.backend == "openvino"
    assert cosines(other.encode(TEXTS * 5), expected).min() >= at_least
    for text, features in zip(TEXTS, expected, strict=False):
        assert cosines(other.encode([text])[0], features).min() >= at_least


@pytest.mark.usefixtures("home")
def test_threads_with_batches_of_their_own_change_nothing(tiny_model):
    one = encoder(tiny_model, backend="openvino")
    texts = [f"{text} {i}" for i in range(40) for text in TEXTS]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = one.encode(texts)
        torch.set_num_threads(2)
        np.testing.assert_allclose(one.encode(texts), expected, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


def test_real_texts_keep_their_features_in_bf16(help_centre):
    texts = help_centre.split("train").texts[:12]
    exact = Encoder(precision="fp32", device="cpu", backend="torch").encode(texts)
    other = Encoder(precision="bf16", device="cpu", backend="openvino")
    assert cosines(other.encode(texts), exact).min() >= 0.9995


@pytest.mark.usefixtures("home")
def test_where_it_is_installed_openvino_encodes(tiny_model, caplog):
    caplog.set_level(logging.INFO, "twinrank")
    assert encoder(tiny_model).backend == encoder(tiny_model, "bf16").backend == "openvino"
    assert not caplog.records


@pytest.mark.parametrize("spoil", ["network.bin", "network.xml", "about.json"])
def test_a_damaged_model_is_converted_anew(home, tiny_model, spoil):
    file = home / "model" / spoil
    file.write_bytes(file.read_bytes()[:-7])
    one = encoder(tiny_model, backend="openvino")
    expected = encoder(tiny_model, backend="torch").encode(TEXTS)
    np.testing.assert_allclose(one.encode(TEXTS), expected, atol=1e-5)
    assert json.loads((home / "model" / "about.json").read_text())["bytes"]


def test_without_the_library_torch_encodes_silently(tiny_model, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "twinrank")
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    assert encoder(tiny_model).backend == "torch"
    assert not caplog.records
    assert not kept_networks()
    with pytest.raises(EncoderError, match=r"pip install 'twinrank\[openvino\]'"):
        encoder(tiny_model, backend="openvino").encode(["a"])


def test_a_model_that_cannot_be_converted_is_torchs(tiny_model, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "twinrank")
    tried = []

    def fails(files):
        tried.append(files)
        raise ConversionError("no such operation")

    monkeypatch.setattr(conversion, "_convert", fails)
    assert encoder(tiny_model).backend == encoder(tiny_model).backend == "torch"
    assert len(tried) == 1
    assert caplog.text.count("openvino cannot compute it, so torch does: no such operation") == 2
    with pytest.raises(EncoderError, match="cannot compute it: no such operation"):
        encoder(tiny_model, backend="openvino").encode(["a"])


def test_a_model_that_is_another_once_converted_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(Network, "features", lambda self, ids: np.ones((len(ids), 2, 32)))
    with pytest.raises(EncoderError, match="its features are others once converted"):
        encoder(tiny_model, backend="openvino").encode(["a"])
    assert not (backend.network_home(encoder(tiny_model).identity) / "model").exists()


def test_what_worked_once_and_fails_now_is_said(home, tiny_model, monkeypatch, caplog):
    assert encoder(tiny_model).backend == "openvino"
    shutil.rmtree(home / "model")
    monkeypatch.setattr(conversion, "is_kept", lambda home: True)
    caplog.clear()
    assert encoder(tiny_model).backend == "torch"
    assert "openvino cannot compute it, so torch does" in caplog.text


@pytest.mark.usefixtures("home")
def test_what_is_asked_for_is_taken(tiny_model, monkeypatch):
    assert encoder(tiny_model, backend="torch").backend == "torch"
    monkeypatch.setenv("TWINRANK_BACKEND", "torch")
    assert encoder(tiny_model).backend == "torch"
    monkeypatch.setenv("TWINRANK_BACKEND", "openvino")
    assert encoder(tiny_model).backend == "openvino"
    monkeypatch.setenv("TWINRANK_BACKEND", "abacus")
    with pytest.raises(EncoderError, match="TWINRANK_BACKEND is 'abacus'; set it to auto or"):
        encoder(tiny_model).encode(["a"])
    with pytest.raises(EncoderError, match="choose auto, torch or openvino"):
        encoder(tiny_model, backend="abacus")


@pytest.mark.usefixtures("home")
def test_the_key_of_features_does_not_tell_backends_apart(tiny_model):
    ours, others = (encoder(tiny_model, backend=name) for name in ("torch", "openvino"))
    assert ours.fingerprint == others.fingerprint


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tiny_model, monkeypatch, tmp_path, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWINRANK_CACHE", str(tmp_path / "file"))
    one = encoder(tiny_model)
    assert one.backend == "openvino"
    assert one.encode(["a"]).shape == (1, 2, 32)
    assert "the converted model cannot be kept there" in caplog.text


def test_what_is_kept_is_shown_and_cleared(home, tiny_model):
    encoder(tiny_model).encode(["a"])
    (kept,) = kept_networks()
    assert kept.identity == encoder(tiny_model).identity
    assert kept.bytes > 10_000
    assert kept.as_dict() == {"identity": kept.identity, "bytes": kept.bytes}
    store = FeatureStore()
    store.features(encoder(tiny_model, backend="torch"), ["a"], "mean")
    assert clear_cache(store, encoder(tiny_model).fingerprint) > kept.bytes
    assert not kept_networks()
    assert not store.entries()
    assert not home.exists()


def test_two_processes_at_once_convert_once(tiny_model):
    code = (
        "import sys; from twinrank.encoding import Encoder, conversion\n"
        "convert = conversion._convert\n"
        "say = lambda: print('converts', file=sys.stderr)\n"
        "conversion._convert = lambda files: (say(), convert(files))[1]\n"
        "assert Encoder(sys.argv[1], max_tokens=48, device='cpu').backend == 'openvino'"
    )
    command = [sys.executable, "-c", code, str(tiny_model)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sorted(text.count("converts") for text in said) == [0, 1]


def test_importing_it_tells_nobody():
    code = (
        "import sys; from twinrank.encoding.openvino_network import load_openvino\n"
        "load_openvino(); from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, convert_impl.tm.__name__)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stub = "openvino.tools.ovc.telemetry_stub"
    assert done.stdout.splitlines() == [f"{stub} {stub}", "[]"]
