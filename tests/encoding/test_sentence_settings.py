"""An encoder's own pooling, prompts and layers, against sentence-transformers."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from twinrank.encoding import Encoder, FeatureStore
from twinrank.encoding.trainable import Trainable
from twinrank.errors import EncoderError
from twinrank.ranking.reader import Reader, complete, reader_of
from twinrank.recipe import EncoderSettings, Recipe

TEXTS = ["It wont let me IN again", "refund", "my client's card was declined, twice. " * 3, "æ 12"]


def answers(texts):
    empty = {"title": [""] * len(texts), "sections": [None] * len(texts)}
    return pl.DataFrame({"id": map(str, range(len(texts))), "text": texts, **empty}, strict=False)


def reader(folder, store=None, max_tokens=64, **settings):
    encoder = Encoder(str(folder), max_tokens=max_tokens, precision="fp32")
    return Reader.build(encoder, EncoderSettings(**settings), store)


def save(tiny_model, folder, *, pooling="mean", dense=(), prompts=None, include=True, **reading):
    """Save the tiny encoder as sentence-transformers does, with these modules."""
    transformer = modules.Transformer(str(tiny_model), max_seq_length=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            modules.Pooling(32, pooling_mode=pooling, include_prompt=include),
            *(modules.Dense(*sizes, activation_function=act) for *sizes, act in dense),
            modules.Normalize(),
        ]
        model = SentenceTransformer(modules=[transformer, *layers], prompts=prompts, device="cpu")
        model.save(str(folder))
    file = folder / "sentence_bert_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **reading}))
    return folder


PROMPTS = {"query": "query: ", "document": "passage: "}
MODELS = {
    "mean": {},
    "cls": {"pooling": "cls"},
    "prompts": {"prompts": PROMPTS},
    "dense": {"dense": [(32, 16, torch.nn.Tanh())]},
    "layers": {
        "pooling": "cls",
        "prompts": PROMPTS,
        "dense": [(32, 48, torch.nn.GELU()), (48, 8, torch.nn.Identity())],
    },
    "lower": {"do_lower_case": True},
}


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_sentence_transformers(
    tiny_model, tmp_path, name, backend, monkeypatch
):
    monkeypatch.setenv("TWINRANK_BACKEND", backend)
    folder = save(tiny_model, tmp_path / "model", **MODELS[name])
    peer = SentenceTransformer(str(folder), device="cpu")
    ours = reader(folder, FeatureStore(tmp_path / "store"))
    pairs = [
        (ours(TEXTS), peer.encode_query(TEXTS)),
        (ours.answers(answers(TEXTS)).rows, peer.encode_document([t.strip() for t in TEXTS])),
    ]
    for features, expected in pairs:
        assert features.shape == expected.shape == (len(TEXTS), ours.encoder.dim)
        cosines = (features * expected).sum(axis=1) / np.linalg.norm(features, axis=1)
        assert (cosines >= 0.999).all()


def test_what_a_recipe_says_wins_and_is_said(tiny_model, tmp_path, help_centre, caplog):
    caplog.set_level("INFO")
    settings = {"pooling": "cls", "prompts": PROMPTS, "max_seq_length": 48}
    folder = save(tiny_model, tmp_path / "model", **settings)
    tables = {"encoder": {"name": str(folder), "pooling": "mean", "query_prompt": "ask: "}}
    tables["encoder"]["max_tokens"] = 64
    recipe = Recipe.model_validate({"name": "by-hand", "language": "english", **tables})
    caplog.clear()  # of what was logged as the model was saved
    settings = complete(recipe, help_centre).encoder
    assert caplog.messages == [
        "by-hand: pooling is 'mean', which the encoder's own settings have as 'cls'",
        "by-hand: query_prompt is 'ask: ', which the encoder's own settings have as 'query: '",
        "by-hand: reads 64 tokens; its own limit is 48",
    ]
    assert (settings.pooling, settings.query_prompt) == ("mean", "ask: ")
    assert settings.document_prompt == "passage: "
    none = reader(folder, query_prompt="", document_prompt="")
    assert list(none.queries(["a"])) == none.documents(["a"]) == ["a"]


def test_a_recipe_left_open_is_filled_in_once(tiny_model, tmp_path, help_centre):
    folder = save(tiny_model, tmp_path / "model", pooling="cls", prompts=PROMPTS)
    tables = {"encoder": {"name": str(folder), "max_tokens": 64}}
    recipe = complete(Recipe.model_validate({"name": "open", **tables}), help_centre)
    assert recipe.language == "english"
    assert recipe.encoder.pooling == "cls"
    assert recipe.encoder.query_prompt == "query: "
    assert complete(recipe, help_centre) == recipe
    plain = recipe.model_copy(
        update={"encoder": EncoderSettings(name=str(tiny_model), max_tokens=64)}
    )
    assert complete(plain, help_centre).encoder.pooling == "mean"
    assert reader_of(plain, None, "cpu").pooling == "mean"


def test_layers_are_part_of_the_encoder_but_stored_features_are_below(tiny_model, tmp_path):
    plain, dense = (save(tiny_model, tmp_path / name, **MODELS[name]) for name in ("mean", "dense"))
    one, other = (Encoder(str(folder), max_tokens=64) for folder in (plain, dense))
    assert one.identity != other.identity
    assert (other.width, other.dim) == (32, 16)
    assert other.encode(TEXTS).shape == (4, 2, 32)
    with pytest.raises(EncoderError, match="cannot be tuned"):
        Trainable(other, "mean", rank=None, held_tokens=1)


def edit(name, change):
    def apply(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(content)))

    return apply


def swap(**changes):
    return lambda modules: [*modules[:-1], {**modules[-1], **changes}]


DAMAGES = [
    (edit("modules.json", swap(type="custom_st.Head")), "has a module 'custom_st.Head'"),
    (edit("modules.json", swap(type="sentence_transformers.models.LSTM")), "not computed here"),
    (edit("modules.json", swap(path="../../etc")), "is not inside"),
    (edit("modules.json", swap(path="..")), "is not inside"),
    (edit("modules.json", lambda modules: {}), "not a JSON list"),
    (edit("modules.json", lambda modules: [1]), "has a module None"),
    (lambda folder: (folder / "modules.json").write_text("["), "cannot be read"),
    (lambda folder: (folder / "1_Pooling/config.json").unlink(), "config.json: cannot be read"),
    (lambda folder: (folder / "2_Dense/model.safetensors").unlink(), "model.safetensors: missing"),
    (edit("2_Dense/config.json", lambda c: {**c, "activation_function": "os.system"}), "Tanh"),
    (edit("2_Dense/config.json", lambda c: {**c, "use_residual": True}), "not computed here"),
    (edit("2_Dense/config.json", lambda c: {**c, "out_features": None}), "names no out_features"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_files_that_cannot_be_used_are_refused(tiny_model, tmp_path, damage, message):
    folder = save(tiny_model, tmp_path / "model", **MODELS["dense"])
    damage(folder)
    with pytest.raises(EncoderError, match=message):
        reader(folder)(TEXTS)


def test_other_poolings_and_excluded_prompts_are_refused_unless_overridden(tiny_model, tmp_path):
    folder = save(tiny_model, tmp_path / "max", pooling="max")
    with pytest.raises(EncoderError, match=r"pools by max, .* give pooling = 'mean'"):
        reader(folder)
    assert reader(folder, pooling="mean").pooling == "mean"
    folder = save(tiny_model, tmp_path / "excluded", prompts=PROMPTS, include=False)
    with pytest.raises(EncoderError, match="leaves prompts out"):
        reader(folder)
    assert reader(folder, query_prompt="", document_prompt="").documents(["a"]) == ["a"]


def test_older_forms_of_the_files_are_read(tiny_model, tmp_path):
    folder = save(tiny_model, tmp_path / "model", pooling="cls")
    flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(flags))
    assert reader(folder).pooling == "cls"
    (folder / "1_Pooling/config.json").write_text("{}")
    assert reader(folder).pooling == "mean"


def test_layers_take_no_torch(tiny_model, tmp_path):
    folder = save(tiny_model, tmp_path / "model", **MODELS["dense"])
    script = (
        "import sys; import numpy as np; from twinrank.encoding import Encoder\n"
        f"e = Encoder({str(folder)!r}, max_tokens=64, device='cpu')\n"
        "assert e.head(np.ones((2, 32), np.float32)).shape == (2, 16)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
