"""Rankers pushed to a stub of a hub and loaded from there, by huggingface_hub itself."""

import logging
import re
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from huggingface_hub import HfApi, ModelCard, constants, snapshot_download

from tests.sharing.hub_stub import serve_hub
from twinrank import cli
from twinrank.errors import RankerError
from twinrank.ranking import Explainer, Ranker
from twinrank.recipe import TuningSettings
from twinrank.sharing.hub import push
from twinrank.training import train

NAME, ENCODER = "acme/support", "acme/tiny"
ASKED = ["I forgot my password", "refund for the invoice of my team, please", "quux"]
NEW = pl.DataFrame([{"id": "new", "title": "Refund a team", "text": "Ask for a refund of it."}])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve_hub() as hub:
        for name, value in {
            "ENDPOINT": hub.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_stub")
        yield hub


@pytest.fixture
def folder(hub, trained, tiny_model, tmp_path):
    """A ranker with all signals, whose encoder is on the hub, and was fetched."""
    hub.repos[ENCODER] = {file.name: file.read_bytes() for file in tiny_model.iterdir()}
    snapshot_download(ENCODER)
    ranker = Ranker.load(trained)
    encoder = ranker.recipe.encoder.model_copy(update={"name": ENCODER})
    recipe = ranker.recipe.model_copy(update={"encoder": encoder})
    replace(ranker, recipe=recipe).save(tmp_path / "ranker")
    return tmp_path / "ranker"


def test_a_ranker_without_what_people_wrote_ranks_the_same(hub, folder, trained):
    push(folder, NAME)
    files, ranker = hub.repos[NAME], Ranker.load(folder)
    assert {name.rpartition("/")[2] for name in files} == {
        *("README.md", "current.json", "manifest.json", "corpus.jsonl"),
        *("towers.safetensors", "vectors.safetensors"),
    }
    everything = b"".join(files.values())
    corpus = " ".join(ranker.answers["text"])
    texts = [text for text in ranker.past.texts if len(text) > 20 and text not in corpus]
    assert len(texts) > 300
    for secret in (*texts, *map(str, [*ranker.past.ids, folder, trained])):
        assert secret.encode() not in everything
    shared = Ranker.from_hub(NAME)
    np.testing.assert_allclose(shared.scores(ASKED), ranker.scores(ASKED), rtol=1e-4, atol=1e-4)
    assert [a.id for a in shared.rank(ASKED)[0]] == [a.id for a in ranker.rank(ASKED)[0]]


@pytest.mark.usefixtures("hub")
def test_a_ranker_without_texts_takes_answers_and_names_no_query(folder, tmp_path):
    push(folder, NAME)
    shared, ranker = Ranker.from_hub(NAME), Ranker.load(folder)
    for each in (shared, ranker):
        each.put_answers(NEW)
    scores, expected = (each.scores([*ASKED, NEW["title"][0]]) for each in (shared, ranker))
    np.testing.assert_allclose(scores[:, :-1], expected[:, :-1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores[:, -1], expected[:, -1], atol=np.ptp(expected) / 10)
    removed = ranker.rank(ASKED[0], 1)[0][0].id
    shared.set_aside(removed)
    shared.restore_answer(removed)
    assert removed in [answer.id for answer in shared.rank(ASKED[0], 10)[0]]
    ((evidence,),) = Explainer(shared).explain(ASKED[:1], [[removed]])
    assert not evidence.past_queries
    shared.save(tmp_path / "again")
    again = Ranker.load(tmp_path / "again")
    np.testing.assert_allclose(again.scores(ASKED), shared.scores(ASKED), rtol=1e-5, atol=1e-5)
    assert "not their texts" in (tmp_path / "again" / "README.md").read_text()


def test_texts_and_rules_go_if_that_is_wanted(hub, folder):
    (folder / "rules.toml").write_text('[[synonyms]]\nwords = ["vpn", "tunnel"]\n')
    push(folder, NAME)
    assert "rules.toml" not in hub.repos[NAME]
    push(folder, NAME, with_queries=True)
    shared, ranker = Ranker.from_hub(NAME), Ranker.load(folder)
    assert shared.past.texts == ranker.past.texts
    assert shared.rules == ranker.rules
    np.testing.assert_array_equal(shared.scores(ASKED), ranker.scores(ASKED))


def test_a_new_version_takes_the_place_of_the_one_before(hub, folder):
    push(folder, NAME, private=True)
    assert hub.private[NAME]
    hub.repos[NAME]["notes.md"] = b"mine"
    ranker = Ranker.load(folder)
    ranker.put_answers(NEW)
    ranker.save(folder)
    push(folder, NAME)
    assert len({name.split("/")[1] for name in hub.repos[NAME] if "/" in name}) == 1
    assert "notes.md" in hub.repos[NAME]
    assert "new" in Ranker.from_hub(NAME).answers["id"]


def test_the_card_on_the_hub_has_the_figures_and_loads_from_there(hub, folder):
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("# license: yours to choose", "license: mit"))
    push(folder, NAME)
    card = ModelCard(hub.repos[NAME]["README.md"].decode())
    quality = Ranker.load(folder).origin.quality
    figures = {
        (each.dataset_config, each.metric_type): each.metric_value
        for each in card.data.eval_results
    }
    assert figures["all types", "map@10"] == pytest.approx(quality["map@10"], abs=1e-4)
    assert len(figures) == 4 * (1 + len(quality["types"]))
    for kind, values in quality["types"].items():
        assert figures[kind, "accuracy@3"] == pytest.approx(values["accuracy@3"], abs=1e-4)
    assert (card.data.license, card.data.model_name) == ("mit", "support")
    assert re.search(r'ranker = Ranker.from_hub\("acme/support"\)', card.text)
    assert "licence" not in readme.read_text() and "model-index" not in readme.read_text()


def test_it_is_said_first_what_others_will_read(hub, folder, caplog, monkeypatch, capsys):
    hub.refuses = True
    with caplog.at_level(logging.INFO), pytest.raises(RankerError, match="does not take it"):
        push(folder, NAME, with_queries=True)
    assert "AS PEOPLE WROTE THEM" in caplog.text and "texts and metadata of" in caplog.text
    hub.refuses = False
    monkeypatch.setattr(sys, "argv", ["twinrank", "push", str(folder), NAME])
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit, match="0"):
        cli.main()
    assert "not their texts" in caplog.text
    assert f"pushed: {hub.address}/{NAME}" in capsys.readouterr().err


def test_an_encoder_that_nobody_else_has_is_refused(hub, trained):
    with pytest.raises(RankerError, match="is a folder that nobody else has"):
        push(trained, NAME)
    assert not hub.repos


@pytest.mark.slow
def test_an_encoder_that_was_tuned_goes_along(hub, help_centre, recipes, tmp_path):
    tuned = {"tuning": TuningSettings(epochs=1), "language": "english"}
    ranker = train(help_centre, recipes["zero-shot"].model_copy(update=tuned), out=tmp_path / "own")
    push(tmp_path / "own", NAME)
    assert any(re.fullmatch(r"encoder-\w+/model\.safetensors", name) for name in hub.repos[NAME])
    assert str(tmp_path.parent).encode() not in b"".join(hub.repos[NAME].values())
    np.testing.assert_allclose(Ranker.from_hub(NAME).scores(ASKED), ranker.scores(ASKED), rtol=1e-4)


@pytest.mark.usefixtures("hub")
def test_a_ranker_of_words_goes_too(help_centre, recipes, tmp_path):
    ranker = train(help_centre, recipes["bm25"], out=tmp_path / "words")
    with pytest.raises(RankerError, match="give USER/NAME"):
        push(tmp_path / "words", "words")
    push(tmp_path / "words", NAME)
    np.testing.assert_allclose(Ranker.from_hub(NAME).scores(ASKED), ranker.scores(ASKED))


def test_what_is_damaged_or_not_there_is_refused_in_a_line(hub, folder):
    push(folder, NAME)
    (towers,) = (name for name in hub.repos[NAME] if name.endswith("towers.safetensors"))
    hub.repos[NAME][towers] = b"{}" + hub.repos[NAME][towers]
    with pytest.raises(RankerError, match="checksum differs"):
        Ranker.from_hub(NAME)
    with pytest.raises(RankerError, match="acme/none: cannot be had from the hub") as failure:
        Ranker.from_hub("acme/none")
    assert "\n" not in str(failure.value)
    with pytest.raises(RankerError, match="cannot be had from the hub"):
        Ranker.from_hub("../etc")
    HfApi().create_repo("acme/other")
    with pytest.raises(RankerError, match=r"no current\.json"):
        Ranker.from_hub("acme/other")
