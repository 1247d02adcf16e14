"""Chosen sentences reach the encoder alike in training, in ranking, and from a folder on disk."""

import json

import polars as pl
import pytest

from tests.ranker_files import version_folder
from twinrank.data.text_selection import Idf
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.ranking import Ranker
from twinrank.recipe import Recipe
from twinrank.training import TrainingData, build_reader, train

LONG = "Agent: hello.\nUser: my calendar is lost, and nobody can book. Where is it?\n" * 3


def reading(recipe, **settings):
    values = recipe.values()
    values["encoder"] |= settings
    return Recipe.validated(values, source="reading")


@pytest.fixture(
    scope="module",
    params=[("towers", "sections", "whole"), ("fused", "tfidf", "sections")],
    ids=["sections", "a vector a section"],
)
def recipe(request, recipes):
    name, text, answers = request.param
    return reading(recipes[name], text=text, answers=answers)


@pytest.fixture(scope="module")
def trained(recipe, help_centre, tmp_path_factory):
    out = tmp_path_factory.mktemp("reading")
    return train(help_centre, recipe, out=out, store=FeatureStore()), out


def test_it_ranks_alike_from_a_folder_with_a_store_and_without(trained, help_centre):
    ranker, out = trained
    texts = [*help_centre.split("test").texts[:20], LONG]
    expected = ranker.rank(texts, k=5)
    for store in (FeatureStore(), None):
        ranked = Ranker.load(out, store=store).rank(texts, k=5)
        assert [[a.id for a in r] for r in ranked] == [[a.id for a in r] for r in expected]
    again = Ranker.load(out, store=FeatureStore())
    assert again.scores(texts) == pytest.approx(ranker.scores(texts), abs=1e-5)


def test_ranking_and_training_read_the_same(trained, help_centre, recipe):
    _, out = trained
    seen = build_reader(help_centre, recipe, FeatureStore(), "cpu")
    loaded = Ranker.load(out).dense.reader
    asked = help_centre.split("train").texts
    assert list(loaded.queries(asked)) == list(seen.queries(asked))
    assert loaded.queries(asked) != asked
    answers = [reader.passages(help_centre.answers).rows for reader in (loaded, seen)]
    assert answers[0] == answers[1]

    data = TrainingData.read(help_centre, recipe, seen)
    assert loaded(asked[:50]) == pytest.approx(data.train.features[:50], abs=1e-5)
    features = loaded.features(answers[0][:50])
    assert features == pytest.approx(data.answers.rows[:50], abs=1e-5)


def test_an_answer_that_is_added_is_read_as_those_trained_on(trained, help_centre):
    _, out = trained
    ranker = Ranker.load(out)
    first = help_centre.answers.head(1)
    vectors = ranker.dense.vectors
    width = 1 if vectors.owner is None else int((vectors.owner == 0).sum())
    ranker.add_answers(first.with_columns(pl.lit("copy").alias("id")))
    rows, offsets = ranker.dense.vectors.rows, ranker.dense.offsets
    read = rows[:width] - (0 if offsets is None else offsets[0])
    assert rows[-width:] == pytest.approx(read, abs=1e-5)


def test_weights_of_words_are_kept_and_of_what_training_may_see(trained, help_centre, tmp_path):
    _, out = trained
    Ranker.load(out).save(tmp_path)
    file = version_folder(tmp_path) / "idf.json"
    assert file.read_bytes() == (version_folder(out) / "idf.json").read_bytes()
    file.unlink()
    with pytest.raises(RankerError, match=r"idf.json: missing; copy the whole folder"):
        Ranker.load(tmp_path)

    texts = [*help_centre.answer_texts(), *help_centre.for_pretraining().texts]
    assert Idf(**json.loads((version_folder(out) / "idf.json").read_text())) == Idf.of(texts)
    unseen = {t for s in ("validation", "test") for t in help_centre.split(s).frame["thread"]}
    assert not unseen & set(help_centre.for_pretraining().frame["thread"])
