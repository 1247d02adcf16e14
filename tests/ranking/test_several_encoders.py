"""A ranker whose features come of several encoders: in training, in ranking, and from a folder."""

import shutil

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from tests.encoding.test_sentence_settings import save
from twinrank.encoding import Encoder, FeatureStore, RecentFeatures
from twinrank.errors import EncoderError, RankerError, TwinrankError
from twinrank.planning import build_workload
from twinrank.ranking import Ranker
from twinrank.ranking.reader import reader_of
from twinrank.recipe import Recipe
from twinrank.training import train

TEXTS = ["refund", "my calendar is lost, and nobody can book", "a"]


@pytest.fixture(scope="module")
def second(tiny_model, tmp_path_factory):
    """An encoder 16 wide, with other weights than the tiny one."""
    folder = tmp_path_factory.mktemp("second") / "encoder"
    shutil.copytree(tiny_model, folder)
    config = BertConfig.from_pretrained(folder)
    config.hidden_size = 16
    with torch.random.fork_rng():
        torch.manual_seed(1)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def of_two(recipe, *folders):
    values = recipe.values()
    values["encoder"]["others"] = [str(folder) for folder in folders]
    return Recipe.validated(values, source="two")


def test_unit_features_stand_side_by_side(recipes, tiny_model, second, tmp_path):
    store = FeatureStore(tmp_path)
    reader = reader_of(of_two(recipes["towers"], second), store, "cpu")
    features = reader(TEXTS)
    encoders = [
        Encoder(str(name), max_tokens=64, precision="fp32") for name in (tiny_model, second)
    ]
    parts = [encoder.encode(TEXTS)[:, 1] for encoder in encoders]
    expected = np.hstack([part / np.linalg.norm(part, axis=1)[:, None] for part in parts])
    assert reader.dim == features.shape[1] == 48
    assert features == pytest.approx(expected, abs=1e-5)
    assert [store.count_texts(encoder) for encoder in encoders] == [3, 3]
    assert reader.identity not in {encoder.identity for encoder in encoders}


@pytest.mark.parametrize("name", ["zero-shot", "fused"])
def test_a_ranker_of_two_encoders_is_the_same_from_its_folder(
    recipes, second, help_centre, tmp_path, name
):
    ranker = train(help_centre, of_two(recipes[name], second), out=tmp_path, store=FeatureStore())
    again, served = Ranker.load(tmp_path), Ranker.load(tmp_path, store=RecentFeatures())
    for _ in range(2):  # the second time from memory
        assert served.scores(TEXTS) == pytest.approx(ranker.scores(TEXTS), abs=1e-4)
    assert ranker.vectors.rows.shape[1] == 48
    assert again.scores(TEXTS) == pytest.approx(ranker.scores(TEXTS), abs=1e-4)
    assert again.fingerprint == ranker.fingerprint
    assert "and encoder (" in (tmp_path / "README.md").read_text()


def test_a_second_encoder_that_changed_or_is_gone_is_said(recipes, second, help_centre, tmp_path):
    folder = shutil.copytree(second, tmp_path / "second")
    train(help_centre, of_two(recipes["zero-shot"], folder), out=tmp_path / "ranker")
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(RankerError, match=rf"tokenizer differ from .* and {folder} \(identity"):
        Ranker.load(tmp_path / "ranker")
    shutil.rmtree(folder)
    with pytest.raises(RankerError, match="its encoder cannot be opened"):
        Ranker.load(tmp_path / "ranker")


def test_several_encoders_read_no_prompts(recipes, tiny_model, second, tmp_path):
    prompted = save(tiny_model, tmp_path, prompts={"query": "query: ", "document": ""})
    for recipe in (of_two(recipes["towers"], prompted), of_two(recipes["towers"], second)):
        values = recipe.values()
        values["encoder"]["query_prompt"] = "" if recipe.encoder.others == (str(prompted),) else "q"
        with pytest.raises(EncoderError, match="without prompts"):
            reader_of(Recipe.validated(values, source="two"), None, "cpu")


def test_neither_tuning_nor_planning_takes_several(recipes, second):
    recipe = of_two(recipes["towers"], second)
    with pytest.raises(TwinrankError, match="more than one encoder is not planned"):
        build_workload(recipe, answers=10, queries=10)
    with pytest.raises(TwinrankError, match="takes one encoder: leave out others"):
        Recipe.validated({**recipe.values(), "tuning": {}}, source="two")
