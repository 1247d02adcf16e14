import logging
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from twinrank.encoding import Encoder, encoder
from twinrank.encoding.model_files import network_folder
from twinrank.encoding.torch_backend import TorchBackend
from twinrank.errors import EncoderError

if find_spec("openvino") is None:  # importorskip would import it, and its telemetry
    pytest.skip("openvino is not installed", allow_module_level=True)

TEXTS = ["it wont let me in", "", "refund", "User: hello\nAgent: hi, what is it? " * 9, "æøå 你好"]


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    """An empty cache, and the choice left to twinrank."""
    monkeypatch.setenv("TWINRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TWINRANK_BACKEND")


@pytest.fixture(scope="module")
def converted(tiny_model, tmp_path_factory):
    """The folder of a cache that holds the tiny model, converted; to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINRANK_CACHE", str(tmp_path_factory.mktemp("converted")))
        tiny(tiny_model, backend="openvino").encode(["a"])
        yield network_folder(tiny(tiny_model).identity)


@pytest.fixture
def home(converted, tiny_model):
    """The folder of the tiny model, converted."""
    return shutil.copytree(converted, network_folder(tiny(tiny_model).identity))


def tiny(model, precision="fp32", **settings):
    return Encoder(str(model), max_tokens=48, precision=precision, device="cpu", **settings)


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("precision", "at_least"), [("fp32", 0.999999), ("bf16", 0.9995)])
def test_features_are_torchs_padded_and_alone(tiny_model, precision, at_least):
    expected = tiny(tiny_model, precision, backend="torch").encode(TEXTS * 5)
    other = tiny(tiny_model, precision)
    assert other.backend == "openvino"
    assert cosines(other.encode(TEXTS * 5), expected).min() >= at_least
    for text, features in zip(TEXTS, expected, strict=False):
        assert cosines(other.encode([text])[0], features).min() >= at_least


@pytest.mark.parametrize("spoil", ["network.bin", "network.xml"])
def test_a_damaged_network_is_converted_anew(home, tiny_model, spoil):
    (file,) = home.rglob(spoil)
    file.write_bytes(file.read_bytes()[:-7])
    one = tiny(tiny_model, backend="openvino")
    expected = tiny(tiny_model, backend="torch").encode(TEXTS)
    np.testing.assert_allclose(one.encode(TEXTS), expected, atol=1e-5)
    assert len(list(home.rglob(spoil))) == 1


def test_without_the_library_torch_encodes_silently(tiny_model, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "twinrank")
    monkeypatch.setattr(encoder, "find_spec", lambda name: None)
    assert tiny(tiny_model).backend == "torch"
    assert not caplog.records
    assert not network_folder(tiny(tiny_model).identity).exists()
    with pytest.raises(EncoderError, match=r"pip install 'twinrank\[openvino\]'"):
        tiny(tiny_model, backend="openvino").encode(["a"])


def test_a_model_that_cannot_be_converted_is_torchs(tiny_model, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "twinrank")

    def fail(*_):
        raise ValueError("no such operation\nat all")

    monkeypatch.setattr(TorchBackend, "convert", fail)
    assert tiny(tiny_model).backend == tiny(tiny_model).backend == "torch"
    assert caplog.text.count("openvino cannot compute it, so torch does: no such operation\n") == 2
    with pytest.raises(EncoderError, match="cannot compute it: no such operation"):
        tiny(tiny_model, backend="openvino").encode(["a"])


def test_a_model_that_is_another_once_converted_is_refused(tiny_model, monkeypatch):
    monkeypatch.setattr(TorchBackend, "features", lambda self, ids: np.ones((len(ids), 2, 32)))
    with pytest.raises(EncoderError, match="its features are others once converted"):
        tiny(tiny_model, backend="openvino").encode(["a"])
    assert not list(network_folder("").rglob("network.bin"))


@pytest.mark.usefixtures("home")
def test_what_is_asked_for_is_taken(tiny_model, monkeypatch):
    assert tiny(tiny_model, backend="torch").backend == "torch"
    monkeypatch.setenv("TWINRANK_BACKEND", "torch")
    assert tiny(tiny_model).backend == "torch"
    assert tiny(tiny_model, backend="openvino").backend == "openvino"
    monkeypatch.setenv("TWINRANK_BACKEND", "openvino")
    assert tiny(tiny_model).backend == "openvino"
    monkeypatch.setenv("TWINRANK_BACKEND", "abacus")
    with pytest.raises(EncoderError, match="TWINRANK_BACKEND is 'abacus'; set it to auto or"):
        tiny(tiny_model).encode(["a"])


def test_a_cache_that_cannot_be_written_is_said_and_done_without(
    tiny_model, monkeypatch, tmp_path, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWINRANK_CACHE", str(tmp_path / "file"))
    one = tiny(tiny_model)
    assert one.backend == "openvino"
    assert one.encode(["a"]).shape == (1, 2, 32)
    assert "what was converted cannot be kept there" in caplog.text


@pytest.mark.slow
def test_two_processes_at_once_convert_once(tiny_model):
    code = (
        "import sys; from twinrank.encoding import Encoder, openvino_backend\n"
        "convert = openvino_backend._convert\n"
        "say = lambda: print('converts', file=sys.stderr)\n"
        "openvino_backend._convert = lambda files: (say(), convert(files))[1]\n"
        "assert Encoder(sys.argv[1], max_tokens=48, device='cpu').backend == 'openvino'"
    )
    command = [sys.executable, "-c", code, str(tiny_model)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert sorted(text.count("converts") for text in outputs) == [0, 1]


def test_importing_it_tells_nobody():
    code = (
        "import sys; from twinrank.encoding.openvino_backend import load_openvino\n"
        "load_openvino(); from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, convert_impl.tm.__name__)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    stub = "openvino.tools.ovc.telemetry_stub"
    assert done.stdout.splitlines() == [f"{stub} {stub}", "[]"]


def test_two_threads_may_begin_at_once(tiny_model):
    one = Encoder(str(tiny_model), max_tokens=48, backend="openvino")
    one.encode(["a"])  # converts
    (network,) = network_folder(one.identity).glob("**/network.xml")
    code = (
        "import sys; from threading import Barrier, Thread\n"
        "from twinrank.encoding.openvino_backend import core\n"
        "compiled = core().compile_model(sys.argv[1], 'CPU')\n"
        "requests = [compiled.create_infer_request() for _ in range(2)]\n"
        "tensors = [request.get_tensor(compiled.inputs[0]) for request in requests]\n"
        "for tensor in tensors: tensor.shape = [1, 5]\n"
        "sys.setswitchinterval(1e-6); barrier = Barrier(2)\n"
        "threads = [Thread(target=lambda t=t: (barrier.wait(), t.data)) for t in tensors]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, str(network)], check=True, timeout=60)
