"""A ranker's folder: whole for every reader, whoever writes, is killed, or made the folder."""

import json
import os
import shutil
import signal
import time

import numpy as np
import polars as pl
import pytest

from tests.processes import heard, results, started
from tests.ranker_files import all_files, edit_manifest, version_folder
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.ranking import Ranker, read_manifest, read_pointer, storage
from twinrank.recipe import Recipe
from twinrank.training import train

TEXTS = ["it wont let me in again", "where is my money??"]
ALWAYS = {"README.md", ".lock", "current.json", "versions", "metrics.jsonl"}


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "ranker")


def versions(folder):
    return {entry.name for entry in (folder / "versions").iterdir()}


def smaller(folder, answers=1):
    """The ranker of a folder without its first answers."""
    ranker = Ranker.load(folder)
    ranker.remove_answers(ranker.answers["id"][:answers])
    return ranker


def assert_no_leftovers(folder):
    """Whether a folder holds the versions in use, the files that they name, and no more."""
    pointer = read_pointer(folder)
    in_use = {name for name in (pointer.version, pointer.previous) if name}
    assert versions(folder) == in_use
    for version in in_use:
        previous = version != pointer.version
        names = {file.name for file in (folder / "versions" / version).iterdir()}
        assert names == {*read_manifest(folder, previous=previous).files, "manifest.json"}


def test_a_folder_holds_the_versions_in_use_and_no_more(folder):
    before, written = read_pointer(folder), version_folder(folder).stat().st_ino
    Ranker.load(folder).save(folder)  # the very same ranker
    assert read_pointer(folder) == before
    assert version_folder(folder).stat().st_ino == written  # not gone even for a moment
    smaller(folder).save(folder)
    assert read_pointer(folder).version != before.version
    assert {entry.name for entry in folder.iterdir()} == ALWAYS
    assert_no_leftovers(folder)


@pytest.mark.parametrize("links", [True, False])
def test_files_that_did_not_change_are_shared_where_links_are_possible(folder, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", full)
    smaller(folder).save(folder, keep=True)
    files = [version_folder(folder, which) / "towers.safetensors" for which in POINTERS]
    assert files[0].samefile(files[1]) == links
    assert files[0].read_bytes() == files[1].read_bytes()
    np.testing.assert_array_equal(*(f.stat().st_mode for f in files))


POINTERS = ("version", "previous")


def test_leftovers_of_a_kill_go_at_the_next_save_and_other_files_stay(folder):
    leftovers = [
        *("versions/.version.01.tmp", "versions/0123456789ab", "versions/.removed.01.tmp"),
        *("encoder-0123456789ab", ".encoder.01.tmp", ".current.json.01.tmp", ".README.md.01.tmp"),
    ]
    others = ["notes.txt", "report.html", "corpus.jsonl", "encoder-mine"]
    for name in leftovers + others:
        (folder / name).mkdir()
        (folder / name / "corpus.jsonl").write_text("")
    Ranker.load(folder).save(folder)
    assert {entry.name for entry in folder.iterdir()} == ALWAYS | set(others)
    assert_no_leftovers(folder)


def test_the_version_replaced_is_kept_to_go_back_to(folder):
    first, scores = read_pointer(folder).version, Ranker.load(folder).scores(TEXTS)
    smaller(folder).save(folder, keep=True)
    smaller(folder).save(folder)  # an answer that is removed live
    second = read_pointer(folder)
    assert second.previous == first
    assert_no_leftovers(folder)

    previous = Ranker.load(folder, previous=True)
    np.testing.assert_array_equal(previous.scores(TEXTS), scores)
    previous.save(folder, keep=True)
    assert read_pointer(folder).version == first
    assert read_pointer(folder).previous == second.version
    assert_no_leftovers(folder)
    assert Ranker.load(folder, previous=True).answers.height == previous.answers.height - 2


def test_no_previous_version_or_a_damaged_one(folder):
    with pytest.raises(RankerError, match="no previous ranker is kept"):
        Ranker.load(folder, previous=True)
    smaller(folder).save(folder, keep=True)
    file = version_folder(folder, "previous") / "corpus.jsonl"
    file.write_text("{}")
    with pytest.raises(RankerError, match="checksum differs"):
        Ranker.load(folder, previous=True)
    file.unlink()
    with pytest.raises(RankerError, match=r"corpus.jsonl: missing"):
        Ranker.load(folder, previous=True)
    assert Ranker.load(folder).answers.height == read_manifest(folder).answers


def test_saving_mends_a_damaged_version(folder):
    ranker = Ranker.load(folder)
    file = version_folder(folder) / "towers.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    ranker.save(folder)
    assert file.read_bytes() == whole
    assert_no_leftovers(folder)


@pytest.mark.parametrize("moment", ["before they are opened", "while they are read"])
def test_a_reader_whose_version_is_removed_gets_it_whole_or_the_next(folder, monkeypatch, moment):
    answers, changed = Ranker.load(folder).answers.height, smaller(folder)
    real, calls = storage.VersionFiles, []

    def replaced(path, version):
        calls.append(version)
        files = real(path, version) if moment == "while they are read" else None
        if len(calls) == 1:
            monkeypatch.setattr(storage, "VersionFiles", real)
            changed.save(folder)
            monkeypatch.setattr(storage, "VersionFiles", replaced)
        return files or real(path, version)

    monkeypatch.setattr(storage, "VersionFiles", replaced)
    height = Ranker.load(folder).answers.height
    if moment == "while they are read":  # open files stay
        assert (height, len(calls)) == (answers, 1)
    else:
        assert (height, len(calls)) == (answers - 1, 2)


def save_over_and_over(folder, answers, says):
    """A ranker and one with fewer answers by turns, each kept while the other stands."""
    pair = [Ranker.load(folder), smaller(folder, answers)]
    while True:
        for ranker in pair:
            ranker.save(folder, keep=ranker is pair[1])
            says.send("saved")
            time.sleep(0.01)  # the other's turn


@pytest.mark.slow
def test_killed_writers_leave_a_whole_ranker_to_readers(folder):
    whole = Ranker.load(folder)
    heights = {whole.answers.height - gone for gone in range(4)}  # one may start from the other's
    seen = set()
    for _ in range(5):
        writers = [started(save_over_and_over, folder, answers) for answers in (1, 2)]
        for process, hears in writers:
            assert hears.recv() == "saved"
            seen |= {Ranker.load(folder).answers.height for _ in range(2)}
            process.kill()
            seen.add(Ranker.load(folder).answers.height)
        for process, hears in writers:
            heard(hears)
            process.join()
            assert process.exitcode == -signal.SIGKILL
        assert Ranker.load(folder).scores(TEXTS).shape[1] in heights
        whole.save(folder)
        assert_no_leftovers(folder)
    assert len(seen) > 1
    assert seen <= heights


def add_answer(folder):
    """Add an answer of this process's own, as a service does: in turn with all others."""
    id_ = f"new-{os.getpid()}"
    with storage.writing(folder):
        ranker = Ranker.load(folder)
        ranker.add_answers(ranker.answers[:1].with_columns(id=pl.lit(id_)))
        ranker.save(folder)
    return id_


@pytest.mark.slow
def test_changes_of_writers_at_once_are_all_there(folder):
    before = set(Ranker.load(folder).answers["id"])
    added = results(add_answer, folder, processes=2)
    assert set(Ranker.load(folder).answers["id"]) == before | set(added)
    assert len(set(added)) == 2
    assert_no_leftovers(folder)


def test_a_change_that_fails_leaves_no_files(folder, monkeypatch):
    before = all_files(folder)
    ranker = smaller(folder)
    monkeypatch.setattr(storage, "_sync_folder", full)
    with pytest.raises(OSError, match="No space"):
        ranker.save(folder)
    assert without_readme(all_files(folder)) == without_readme(before)


def without_readme(files):
    return {name: content for name, content in files.items() if name != "README.md"}


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_tuned_encoder_has_a_folder_that_versions_share(recipe_files, help_centre, tmp_path):
    text = recipe_files["towers"].read_text().replace("epochs = 8", "epochs = 1")
    (tmp_path / "tuned.toml").write_text(
        f"{text}\n[tuning]\nepochs = 1\nbatch_size = 64\nrefresh_every = 256\n"
    )
    recipe, out = Recipe.load(tmp_path / "tuned.toml"), tmp_path / "out"
    ranker = train(help_centre, recipe, out=out, store=FeatureStore())
    manifest = read_manifest(out)
    assert manifest.encoders == (f"encoder-{manifest.encoder_identity[:12]}",)
    assert (out / manifest.encoders[0] / "model.safetensors").exists()
    scores, loaded = ranker.scores(TEXTS), Ranker.load(out)
    smaller(out).save(out)
    smaller(out).save(out)  # the version that was loaded is gone
    np.testing.assert_allclose(loaded.scores(TEXTS), scores, rtol=1e-4)
    loaded.save(tmp_path / "copy")
    loaded.save(tmp_path / "copy")
    np.testing.assert_allclose(Ranker.load(tmp_path / "copy").scores(TEXTS), scores, rtol=1e-4)
    for made in (out, tmp_path / "copy"):
        assert list(made.glob("*encoder*")) == [made / manifest.encoders[0]]


# A folder may come from anybody: it opens no file elsewhere, and waits for none.


def test_a_changed_manifest_is_refused(folder):
    file = version_folder(folder) / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"answers"', b'"answerz"'))
    with pytest.raises(RankerError, match=r"manifest\.json: not as it was written"):
        Ranker.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"/etc/passwd": "0" * 64}},
        {"files": {"../secret": "0" * 64}},
        {"files": {"idf.json": "/../secret"}},
        {"encoder_identity": "/../../etc"},
    ],
)
def test_a_manifest_names_no_file_elsewhere(folder, changes):
    edit_manifest(folder, **changes)
    with pytest.raises(RankerError, match=rf"manifest\.json: {next(iter(changes))}"):
        Ranker.load(folder)


@pytest.mark.parametrize("version", ["../../etc", "versions/..", "0123456789AB", ""])
def test_a_version_is_no_path(folder, version):
    (folder / "current.json").write_text(json.dumps({"format": 4, "version": version}))
    with pytest.raises(RankerError, match=r"current\.json: version"):
        Ranker.load(folder)


@pytest.mark.parametrize("name", ["current.json", "corpus.jsonl", "vectors.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_that_would_be_waited_for_is_refused(folder, name, kind):
    file = folder / name if name == "current.json" else version_folder(folder) / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(RankerError, match="no regular file"):
        Ranker.load(folder)


def test_saving_writes_through_no_link(folder, tmp_path):
    ranker, elsewhere = smaller(folder), tmp_path / "elsewhere"
    (folder / "versions").rename(elsewhere)
    (folder / "versions").symlink_to(elsewhere)
    before = all_files(elsewhere)
    with pytest.raises(RankerError, match="a link"):
        ranker.save(folder)
    assert all_files(elsewhere) == before


def test_no_encoder_is_fetched_because_a_folder_names_it(folder, monkeypatch):
    asked = []

    def snapshot_download(*_, local_files_only, **__):
        asked.append(local_files_only)
        raise OSError("not here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    recipe = json.loads((version_folder(folder) / "manifest.json").read_text())["recipe"]
    recipe["encoder"]["name"] = "evil/model"
    edit_manifest(folder, recipe=recipe)
    with pytest.raises(RankerError, match=r"evil/model: not on this machine; .*hf download"):
        Ranker.load(folder)
    assert asked == [True]
