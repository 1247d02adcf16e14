"""A ranker's folder may come from anybody: it opens no file elsewhere, and waits for none."""

import hashlib
import json
import os
import shutil

import pytest
from safetensors.torch import load_file, save_file

from twinrank.errors import RankerError
from twinrank.ranking import Ranker, read_card


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "ranker")


def rewrite(folder, **changes):
    card = json.loads((folder / "ranker.json").read_text())
    (folder / "ranker.json").write_text(json.dumps(card | changes))


def file(folder, name):
    return folder / read_card(folder).file(name)


@pytest.mark.parametrize("name", ["{secret}", "../secret", "encoder/../../secret"])
def test_a_card_names_no_file_elsewhere(folder, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text("private")
    checksum = hashlib.sha256(secret.read_bytes()).hexdigest()
    files = read_card(folder).files | {name.format(secret=secret): checksum}
    rewrite(folder, files=files)
    with pytest.raises(RankerError, match=r"ranker\.json: files"):
        Ranker.load(folder)


def test_a_checksum_and_an_identity_are_no_paths(folder):
    files = read_card(folder).files
    rewrite(folder, files=files | {"idf.json": "/../secret"})
    with pytest.raises(RankerError, match=r"ranker\.json: files\.idf\.json"):
        Ranker.load(folder)
    rewrite(folder, files=files, encoder_identity="/../../etc")
    with pytest.raises(RankerError, match=r"ranker\.json: encoder_identity"):
        Ranker.load(folder)


@pytest.mark.parametrize("name", ["ranker.json", "corpus.jsonl", "vectors.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_that_would_be_waited_for_is_refused(folder, name, kind):
    there = folder / name if name == "ranker.json" else file(folder, name)
    there.unlink()
    if kind == "pipe":
        os.mkfifo(there)
    else:
        there.symlink_to("/dev/zero")
    with pytest.raises(RankerError, match="no regular file"):
        Ranker.load(folder)


def test_saving_writes_through_no_link(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("corpus.jsonl", "vectors.safetensors", "ranker.json", "README.md"):
        (folder / f".{name}.tmp").symlink_to(victim)
    ranker = Ranker.load(folder)
    ranker.remove_answers(ranker.answers["id"][:1])
    ranker.save(folder)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": {"dense": 1e300}}, "weights"),
        ({"weights": {"dense": 1.0}}, "no weight of"),
        ({"scale": 1e300}, "scale"),
        ({"confidence": {"slope": 1e999, "intercept": 0.0}}, "confidence"),
    ],
)
def test_numbers_by_which_no_answer_can_be_ranked_are_refused(folder, change, said):
    rewrite(folder, **change)
    with pytest.raises(RankerError, match=said):
        Ranker.load(folder)


@pytest.mark.parametrize("name", ["vectors", "past", "votes", "voters", "owner", "newcomers"])
def test_tensors_that_do_not_fit_are_refused(folder, name):
    tensors = load_file(file(folder, "vectors.safetensors"))
    if tensors[name].is_floating_point():
        tensors[name][0, 0] = float("inf")
    else:
        tensors[name] = tensors[name].clone()[:-1]
    save_file(tensors, folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    (folder / "new").rename(folder / f"vectors-{digest[:12]}.safetensors")
    rewrite(folder, files=read_card(folder).files | {"vectors.safetensors": digest})
    with pytest.raises(RankerError, match=r"do not fit|not finite"):
        Ranker.load(folder)


def test_no_encoder_is_fetched_because_a_folder_names_it(folder, monkeypatch):
    asked = []

    def snapshot_download(*_, local_files_only, **__):
        asked.append(local_files_only)
        raise OSError("not here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    recipe = json.loads((folder / "ranker.json").read_text())["recipe"]
    recipe["encoder"]["name"] = "evil/model"
    rewrite(folder, recipe=recipe)
    with pytest.raises(RankerError, match=r"evil/model: not on this machine; .*hf download"):
        Ranker.load(folder)
    assert asked == [True]


def test_a_change_that_fails_leaves_no_files(folder, monkeypatch):
    before = {entry.name for entry in folder.iterdir()}
    ranker = Ranker.load(folder)
    ranker.remove_answers(ranker.answers["id"][:1])
    monkeypatch.setattr("twinrank.ranking.folder.swap", full)
    with pytest.raises(OSError, match="No space"):
        ranker.save(folder)
    assert {entry.name for entry in folder.iterdir()} == before | {".lock"}
    monkeypatch.undo()
    (folder / "ranker.json").write_text("{")  # what it names is not known
    monkeypatch.setattr("twinrank.ranking.folder.swap", full)
    with pytest.raises(OSError, match="No space"):
        ranker.save(folder)
    assert before <= {entry.name for entry in folder.iterdir()}


def full(*_, **__):
    raise OSError(28, "No space left on device")
