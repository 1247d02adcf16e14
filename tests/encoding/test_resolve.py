import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from twinrank.encoding import Encoder, encoder, hardware
from twinrank.encoding.model_files import EncoderFiles
from twinrank.errors import EncoderError

TEXTS = ["it wont let me in", "refund", "a password, twice", "", "hello the booking 12"] * 5


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture
def expected(tiny_model):
    return features(tiny_model)


def features(folder):
    return Encoder(str(folder), max_tokens=32, precision="fp32").encode(TEXTS)


def edit_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def edit_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_a_vocabulary_alone_reads_as_the_whole_tokenizer(folder, expected):
    (folder / "tokenizer.json").unlink()
    np.testing.assert_allclose(features(folder), expected, atol=1e-5)


def test_weights_in_shards_are_those_in_one_file(folder, expected):
    AutoModel.from_pretrained(folder).save_pretrained(folder / "cut", max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    for file in (folder / "cut").glob("model*"):
        file.rename(folder / file.name)
    np.testing.assert_allclose(features(folder), expected, atol=1e-5)
    before = Encoder(str(folder), max_tokens=32, precision="fp32").identity
    shard = max(folder.glob("model-*.safetensors"))
    shard.write_bytes(shard.read_bytes() + b" ")
    assert Encoder(str(folder), max_tokens=32, precision="fp32").identity != before
    shard.unlink()
    with pytest.raises(EncoderError, match=shard.name):
        Encoder(str(folder), max_tokens=32)


def test_weights_that_lack_some_are_refused_rather_than_made_up(folder):
    edit_weights(folder, lambda weights: weights.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(EncoderError, match=r"lacks 1 weights, encoder\.layer\.1"):
        features(folder)


def test_features_that_are_not_finite_are_refused(folder):
    edit_weights(folder, lambda weights: weights["encoder.layer.0.output.dense.bias"].fill_(np.nan))
    with pytest.raises(EncoderError, match="not finite"):
        features(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_attn_implementation": "somebody/kernels"}, "somebody/kernels"),
        ({"attn_implementation": "somebody/kernels"}, "somebody/kernels"),
        ({"is_encoder_decoder": True}, "decoder"),
        ({"model_type": "own-kind"}, "cannot be loaded"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(folder, changes, message):
    edit_config(folder, **changes)
    with pytest.raises(EncoderError, match=message):
        features(folder)


def test_positions_that_begin_after_the_padding_are_not_counted(tmp_path):
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert EncoderFiles(tmp_path, (), (), config).position_limit == 512
    assert EncoderFiles(tmp_path, (), (), {"model_type": "t5"}).position_limit is None


def test_without_the_package_its_extra_is_the_mend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EncoderError, match=r"twinrank\[minilm\]"):
        Encoder()


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


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(folder, backend):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["zeppelin"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(EncoderError, match=r"ids up to 149, the model embeddings for 149 alone"):
        Encoder(str(folder), max_tokens=32, backend=backend)


def test_so_are_a_vocabulary_and_a_padding_without_an_embedding(folder):
    edit_config(folder, pad_token_id=-1)
    with pytest.raises(EncoderError, match="the padding is -1"):
        Encoder(str(folder), max_tokens=32)
    edit_config(folder, pad_token_id=0)
    (folder / "tokenizer.json").unlink()
    with (folder / "vocab.txt").open("a") as stream:
        stream.write("\nzeppelin")
    with pytest.raises(EncoderError, match=r"vocab\.txt: the tokenizer has ids up to"):
        Encoder(str(folder), max_tokens=32)


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "model.safetensors", "model.safetensors.index.json", "modules.json"),
        *("tokenizer.json", "vocab.txt", "tokenizer_config.json"),
    ],
)
def test_a_git_lfs_pointer_is_named(folder, name):
    if name in ("vocab.txt", "tokenizer_config.json"):
        (folder / "tokenizer.json").unlink()
    if name.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 134\n"
    (folder / name).write_text(pointer)
    with pytest.raises(EncoderError, match=rf"{name}: a Git LFS pointer, .*`git lfs pull`"):
        Encoder(str(folder), max_tokens=32)


def test_the_old_layout_of_sentence_transformers_is_read(folder, expected, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    folder.rename(old / "0_Transformer")
    (old / "config.json").write_text('{"__version__": "0.2.0"}')
    module = {"idx": 0, "name": "0", "path": "0_Transformer", "type": "models.Transformer"}
    (old / "modules.json").write_text(json.dumps([module]))
    np.testing.assert_allclose(features(old), expected, atol=1e-6)
    (old / "modules.json").write_text(json.dumps([module | {"path": "0_BERT"}]))
    with pytest.raises(EncoderError, match=r"0_BERT: named in modules.json but missing"):
        Encoder(str(old), max_tokens=32)
    (old / "modules.json").write_text("{}")
    with pytest.raises(EncoderError, match="names no folder of a model"):
        Encoder(str(old), max_tokens=32)


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c"])
def test_a_folder_that_is_not_there_is_said(name):
    with pytest.raises(EncoderError, match="no such folder"):
        Encoder(name)


def test_chunks_and_their_order_do_not_show(tiny_model, expected, monkeypatch):
    monkeypatch.setattr(encoder, "CHUNK", 7)
    np.testing.assert_allclose(features(tiny_model), expected, atol=1e-5)
    one = Encoder(str(tiny_model), max_tokens=32, precision="fp32")
    assert sorted(np.concatenate([rows for rows, _ in one.batches(TEXTS)])) == list(range(25))


def test_texts_that_are_none_are_refused(tiny_model):
    one = Encoder(str(tiny_model), max_tokens=32)
    with pytest.raises(EncoderError, match="lone surrogates"):
        one.encode(["fine", "broken \ud83d"])
    with pytest.raises(EncoderError, match="no string but None"):
        one.encode(["fine", None])
    with pytest.raises(TypeError, match="list"):
        one.encode("one string")
    with pytest.raises(EncoderError, match="too few"):
        Encoder(str(tiny_model), max_tokens=2)


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
    monkeypatch.setattr(hardware, "cpu_flags", lambda: flags)
    assert hardware.resolve_precision("auto", device) == precision
    assert hardware.resolve_precision("fp32", device) == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_a_device_that_is_not_there_is_said(tiny_model):
    with pytest.raises(EncoderError, match="not on this machine"):
        Encoder(str(tiny_model), max_tokens=32, device="cuda").encode(["a"])
