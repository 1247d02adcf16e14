"""A ranker's folder while it changes: one ranker or the other, whoever reads and is killed."""

import os
import signal
import time

import numpy as np
import pytest

from tests.processes import heard, started
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.ranking import Ranker, generations, read_card
from twinrank.recipe import Recipe
from twinrank.training import train

TEXTS = ["it wont let me in again", "where is my money??"]


@pytest.fixture(scope="module")
def trained(recipes, help_centre, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(help_centre, recipes["fused"], out=folder, store=FeatureStore())
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    Ranker.load(trained).save(tmp_path / "ranker")
    return tmp_path / "ranker"


def names(folder):
    return {entry.name for entry in folder.iterdir()} - {"README.md", ".lock"}


def smaller(folder, answers=1):
    """The ranker of a folder without its first answers."""
    ranker = Ranker.load(folder)
    ranker.remove_answers(ranker.answers["id"][:answers])
    return ranker


def test_a_folder_holds_what_its_card_names_and_no_more(folder):
    card = read_card(folder)
    assert names(folder) == card.named | {"ranker.json"}
    for name, checksum in card.files.items():
        assert card.file(name).split(".")[0].endswith(checksum[:12])
    smaller(folder).save(folder)
    assert names(folder) == read_card(folder).named | {"ranker.json"}
    assert read_card(folder).named.isdisjoint({card.file("corpus.jsonl")})
    assert card.file("towers.safetensors") in names(folder)  # it has not changed


def test_answers_of_a_data_set_in_the_same_folder_stay(folder, help_centre):
    help_centre.save(folder)
    smaller(folder).save(folder)
    assert {"corpus.jsonl", "queries.jsonl", "qrels"} < names(folder)


def test_leftovers_of_a_kill_go_at_the_next_save_and_nothing_else(folder):
    left = [
        *("corpus-0123456789ab.jsonl", ".towers.safetensors.tmp", ".ranker.json.tmp"),
        ".tmpAb3dEf",  # of safetensors, which writes aside, too
        *("encoder-0123456789ab", ".encoder.tmp"),
    ]
    others = ["notes.txt", "metrics.jsonl", "report.html", "encoder", "past.jsonl", "index-0.faiss"]
    for name in left + others:
        if "encoder" in name:
            (folder / name).mkdir()
            (folder / name / "config.json").write_text("{}")
        else:
            (folder / name).write_text("")
    Ranker.load(folder).save(folder)
    assert names(folder) == read_card(folder).named | {"ranker.json", *others}


def test_the_one_replaced_is_kept_to_go_back_to(folder):
    first = read_card(folder)
    scores = Ranker.load(folder).scores(TEXTS)
    smaller(folder).save(folder, keep=True)
    assert read_card(folder).previous == first
    smaller(folder).save(folder)  # an answer that is removed live
    second = read_card(folder)
    assert second.previous == first
    assert names(folder) == second.named | {"ranker.json"}

    previous = Ranker.load(folder, previous=True)
    np.testing.assert_array_equal(previous.scores(TEXTS), scores)
    previous.save(folder, keep=True)
    assert read_card(folder).files == first.files
    assert read_card(folder).previous == second.model_copy(update={"previous": None})
    assert names(folder) == read_card(folder).named | {"ranker.json"}
    assert Ranker.load(folder, previous=True).answers.height == first.answers - 2


def test_no_previous_ranker_or_a_damaged_one(folder):
    with pytest.raises(RankerError, match="no previous ranker is kept"):
        Ranker.load(folder, previous=True)
    smaller(folder).save(folder, keep=True)
    file = folder / read_card(folder).previous.file("corpus.jsonl")
    file.write_text("{}")
    with pytest.raises(RankerError, match="checksum differs"):
        Ranker.load(folder, previous=True)
    file.unlink()
    with pytest.raises(RankerError, match=r"corpus-.*missing"):
        Ranker.load(folder, previous=True)
    assert Ranker.load(folder).answers.height == read_card(folder).answers


@pytest.mark.parametrize("moment", ["before they are opened", "while they are read"])
def test_who_reads_while_another_takes_its_place_gets_that(folder, monkeypatch, moment):
    answers = Ranker.load(folder).answers.height
    other = smaller(folder)
    real, calls = generations.Opened, []

    def replaced(path, card):
        calls.append(card)
        files = real(path, card) if moment == "while they are read" else None
        if len(calls) == 1:
            other.save(folder)
        return files or real(path, card)

    monkeypatch.setattr(generations, "Opened", replaced)
    height = Ranker.load(folder).answers.height
    if moment == "while they are read":  # what is open stays
        assert (height, len(calls)) == (answers, 1)
    else:
        assert (height, len(calls)) == (answers - 1, 2)


def save_over_and_over(folder, answers, says):
    """A ranker and one with fewer answers by turns, each kept while the other stands."""
    pair = [Ranker.load(folder), smaller(folder, answers)]
    while True:
        for ranker in pair:
            ranker.save(folder, keep=ranker is pair[1])
            time.sleep(0.01)  # the other's turn
        says.send("saved")


def test_killed_savers_leave_a_whole_ranker_to_who_loads(folder):
    whole = Ranker.load(folder)
    heights = {whole.answers.height - gone for gone in range(4)}  # one may start from the other's
    seen = set()
    for _ in range(5):
        savers = [started(save_over_and_over, folder, answers) for answers in (1, 2)]
        for process, hears in savers:
            assert hears.recv() == "saved"
            seen |= {Ranker.load(folder).answers.height for _ in range(2)}
            process.kill()
            seen.add(Ranker.load(folder).answers.height)
        for process, hears in savers:
            heard(hears)
            process.join()
            assert process.exitcode == -signal.SIGKILL
        assert Ranker.load(folder).scores(TEXTS).shape[1] in heights
        whole.save(folder)
        assert names(folder) == read_card(folder).named | {"ranker.json"}
    assert len(seen) > 1
    assert seen <= heights


def test_a_tuned_encoder_has_a_folder_of_its_identity(recipe_files, help_centre, tmp_path):
    text = recipe_files["towers"].read_text().replace("epochs = 8", "epochs = 1")
    (tmp_path / "tuned.toml").write_text(
        f"{text}\n[tuning]\nepochs = 1\nbatch_size = 64\nrefresh_every = 256\n"
    )
    recipe, out = Recipe.load(tmp_path / "tuned.toml"), tmp_path / "out"
    ranker = train(help_centre, recipe, out=out, store=FeatureStore())
    card = read_card(out)
    assert card.encoder == f"encoder-{card.encoder_identity[:12]}"
    assert (out / card.encoder / "model.safetensors").exists()
    assert list(out.glob("*encoder*")) == [out / card.encoder]
    scores = ranker.scores(TEXTS)
    loaded = Ranker.load(out)
    np.testing.assert_allclose(loaded.scores(TEXTS), scores, rtol=1e-4)
    loaded.save(tmp_path / "copy")
    loaded.save(tmp_path / "copy")
    np.testing.assert_allclose(Ranker.load(tmp_path / "copy").scores(TEXTS), scores, rtol=1e-4)
    assert names(tmp_path / "copy") == names(out) - {"metrics.jsonl"}


@pytest.mark.parametrize("name", ["ranker.json", "corpus", "vectors"])
def test_what_is_read_without_end_is_refused(folder, name):
    file = next(folder.glob(f"{name}*"))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(RankerError, match="no regular file"):
        Ranker.load(folder)


def test_a_device_is_refused(folder):
    file = next(folder.glob("corpus*"))
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(RankerError, match="no regular file"):
        read_card(folder)
