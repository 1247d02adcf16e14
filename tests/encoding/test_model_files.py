import importlib.util
import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from twinrank.encoding import Encoder
from twinrank.encoding.model_files import EncoderFiles
from twinrank.errors import EncoderError

TEXTS = ["it wont let me in", "refund", "a password, twice", "", "hello the booking 12"]


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def tiny(folder, **settings):
    return Encoder(str(folder), **{"max_tokens": 32, "precision": "fp32", **settings})


def features(folder):
    return tiny(folder).encode(TEXTS)


@pytest.fixture
def expected(tiny_model):
    return features(tiny_model)


def edit_config(**changes):
    def edit(folder):
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def edit_weights(change):
    def edit(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return edit


def remove(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def write(name, content):
    return lambda folder: (folder / name).write_text(content)


def leave_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def add_a_token(folder):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["zeppelin"])
    tokenizer.save(str(folder / "tokenizer.json"))


def add_a_word(folder):
    (folder / "tokenizer.json").unlink()
    with (folder / "vocab.txt").open("a") as stream:
        stream.write("\nzeppelin")


BIAS, DENSE = "encoder.layer.0.output.dense.bias", "encoder.layer.1.output.dense.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("config.json"), "config.json: cannot be read.*No such file"),
        (remove("model.safetensors"), "no model.safetensors"),
        (remove("tokenizer.json", "vocab.txt"), "no tokenizer.json and no vocab.txt"),
        (leave_a_pickle, "no model.safetensors.*can run code"),
        (write("config.json", "[]"), "not a JSON object"),
        (write("config.json", "{"), "config.json: cannot be read"),
        (write("tokenizer.json", "{}"), "not a tokenizer"),
        (write("model.safetensors", "nonsense"), "cannot be loaded"),
        (edit_config(auto_map={"AutoModel": "evil.Model"}), r"code of its own \(auto_map\)"),
        (edit_config(_attn_implementation="somebody/kernels"), "somebody/kernels"),
        (edit_config(attn_implementation="somebody/kernels"), "somebody/kernels"),
        (edit_config(is_encoder_decoder=True), "decoder"),
        (edit_config(model_type="own-kind"), "cannot be loaded"),
        (edit_config(hidden_size=None), "hidden_size"),
        (edit_config(pad_token_id=-1), "the padding is -1"),
        (add_a_token, r"ids up to 149, the model embeddings for 149 alone"),
        (add_a_word, r"vocab\.txt: the tokenizer has ids up to"),
        (edit_weights(lambda w: w.pop(DENSE)), r"lacks 1 weights, encoder\.layer\.1"),
        (edit_weights(lambda w: w[BIAS].fill_(np.nan)), "not finite"),
    ],
)
def test_an_encoder_that_is_unsafe_damaged_or_incomplete_is_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(EncoderError, match=message) as raised:
        features(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors", "tokenizer.json", "vocab.txt"),
    ],
)
def test_a_git_lfs_pointer_is_named(folder, name):
    if name == "vocab.txt":
        (folder / "tokenizer.json").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134\n"
    (folder / name).write_text(pointer)
    with pytest.raises(EncoderError, match=rf"{name}: a Git LFS pointer, .*`git lfs pull`"):
        tiny(folder)


def test_a_vocabulary_alone_reads_as_the_whole_tokenizer(folder, expected):
    (folder / "tokenizer.json").unlink()
    np.testing.assert_allclose(features(folder), expected, atol=1e-5)


def test_weights_in_shards_are_those_in_one_file(folder, expected):
    AutoModel.from_pretrained(folder).save_pretrained(folder / "cut", max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    for file in (folder / "cut").glob("model*"):
        file.rename(folder / file.name)
    np.testing.assert_allclose(features(folder), expected, atol=1e-5)
    before = tiny(folder).identity
    shard = max(folder.glob("model-*.safetensors"))
    shard.write_bytes(shard.read_bytes() + b" ")
    assert tiny(folder).identity != before
    shard.unlink()
    with pytest.raises(EncoderError, match=shard.name):
        tiny(folder)


def test_the_old_layout_of_sentence_transformers_is_read(folder, expected, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    folder.rename(old / "0_Transformer")
    (old / "config.json").write_text('{"__version__": "0.2.0"}')
    np.testing.assert_allclose(features(old), expected, atol=1e-6)


def test_positions_that_begin_after_the_padding_are_not_counted(tmp_path):
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert EncoderFiles(tmp_path, (), (), config).position_limit == 512
    assert EncoderFiles(tmp_path, (), (), {"model_type": "t5"}).position_limit is None


def test_the_identity_changes_with_what_the_encoder_is_and_nothing_else(folder, tiny_model):
    first = tiny(tiny_model)
    assert tiny(folder).identity == first.identity
    assert tiny(tiny_model, max_tokens=48).identity != first.identity
    other = tiny(tiny_model, precision="bf16")
    assert other.identity == first.identity
    assert other.fingerprint != first.fingerprint
    assert tiny(tiny_model, backend="openvino").fingerprint == first.fingerprint
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert tiny(folder).identity != first.identity
    default = "663c5469997c96dd1fbd26088673094f0b650d30212ab38f28b7d95a33896f76"
    assert Encoder().identity == default  # or all that is stored is encoded again


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/folder", "no such folder; check the path"),
        ("a/b/c", "no such folder; check the path"),
        ("nobody/nothing", "nobody/nothing: no such folder, and not found on the"),
        ("all-MiniLM-L6-v2", r"twinrank\[minilm\]"),
    ],
)
def test_an_encoder_that_is_not_there_is_said(name, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EncoderError, match=message):
        Encoder(name)


def test_the_hub_is_asked_only_for_what_its_cache_lacks(monkeypatch, tiny_model, tmp_path):
    asked = []

    def snapshot_download(repository, *, allow_patterns, local_files_only):
        assert not [p for p in allow_patterns if p.endswith((".py", ".bin", ".pt"))]
        asked.append((repository, local_files_only))
        return str(tmp_path if local_files_only and not whole else tiny_model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    whole = True
    Encoder("somebody/encoder", max_tokens=32)
    assert asked == [("somebody/encoder", True)]
    whole = False
    Encoder("somebody/encoder", max_tokens=32)
    assert asked[1:] == [("somebody/encoder", True), ("somebody/encoder", False)]
