"""A ranker is packaged with its encoders converted, and ranks the same without torch."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.encoding.test_sentence_settings import MODELS, save
from tests.ranker_files import all_files
from tests.ranking.test_several_encoders import of_two
from tests.ranking.test_without_torch import BLOCKED, RANK, TEXTS, rank_in_another_process
from twinrank.encoding import Encoder, FeatureStore
from twinrank.encoding.packaging import package_encoder
from twinrank.errors import EncoderError, RankerError
from twinrank.ranking import RULES, Ranker, read_manifest
from twinrank.sharing.export import export
from twinrank.sharing.hub import push
from twinrank.sharing.package import package
from twinrank.training import train

ABSENT = """
import sys
from importlib.machinery import PathFinder
find, absent = PathFinder.find_spec, ("torch", "transformers")
PathFinder.find_spec = lambda name, *where: None if name in absent else find(name, *where)
"""
COMMAND = f"""{ABSENT}
from twinrank.cli import main
sys.argv = ["twinrank", *sys.argv[1:]]
main()
"""
PIP = "torch and transformers: pip install 'twinrank[train]'"


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """The choice is left to twinrank."""
    monkeypatch.delenv("TWINRANK_BACKEND")


@pytest.fixture(scope="module")
def packaged(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packaged") / "ranker"
    package(trained, folder)
    return folder


@pytest.fixture
def changeable(packaged, tmp_path):
    return shutil.copytree(packaged, tmp_path / "ranker")


def command(*arguments, code=COMMAND):
    call = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_it_ranks_and_takes_answers_without_torch(packaged, trained):
    ids, scores = rank_in_another_process(packaged, BLOCKED + RANK)
    ranker = Ranker.load(trained)
    assert ids == [[answer.id for answer in ranking] for ranking in ranker.rank(TEXTS, 3)]
    np.testing.assert_allclose(scores, ranker.scores(TEXTS), rtol=1e-4, atol=1e-4)


def test_it_holds_what_the_ranker_holds(packaged, trained):
    names = {name.split("/")[-1] for name in all_files(trained)}
    encoder = {"config.json", "tokenizer.json", "packaged.json", "network.xml", "network.bin"}
    expected = names - {"metrics.jsonl"} | encoder  # without the curves of its training
    assert {name.split("/")[-1] for name in all_files(packaged)} == expected
    assert Ranker.load(packaged).fingerprint == Ranker.load(trained).fingerprint
    (past,) = packaged.rglob("past.jsonl")
    assert past.stat().st_mode & 0o077 == 0


def test_it_is_neither_exported_nor_pushed(packaged, tmp_path):
    with pytest.raises(RankerError, match="give the ranker that it was packaged from"):
        export(Ranker.load(packaged), "sentence-transformers", tmp_path / "out")
    with pytest.raises(RankerError, match="give the ranker that it was packaged from"):
        push(packaged, "acme/support")
    assert not any(tmp_path.iterdir())


def test_several_encoders_of_which_the_originals_are_gone(
    recipes, tiny_model, help_centre, tmp_path
):
    folders = [save(tiny_model, tmp_path / name, **MODELS[name]) for name in ("lower", "dense")]
    recipe = of_two(recipes["zero-shot"], folders[1])
    recipe = recipe.model_copy(
        update={"encoder": recipe.encoder.model_copy(update={"name": str(folders[0])})}
    )
    ranker = train(help_centre, recipe, out=tmp_path / "ranker", store=FeatureStore())
    expected = ranker.scores(TEXTS)
    package(tmp_path / "ranker", tmp_path / "package")
    for folder in folders:
        shutil.rmtree(folder)
    loaded = Ranker.load(tmp_path / "package")
    assert [encoder.backend for encoder in loaded.dense.reader.encoders] == ["openvino"] * 2
    np.testing.assert_allclose(loaded.scores(TEXTS), expected, rtol=1e-4, atol=1e-4)
    package(tmp_path / "package", tmp_path / "again")
    again = Ranker.load(tmp_path / "again")
    np.testing.assert_array_equal(again.scores(TEXTS), loaded.scores(TEXTS))


@pytest.mark.parametrize("layout", ["vocab.txt", "0_Transformer"])
def test_an_encoder_of_another_layout_is_packaged(tiny_model, tmp_path, layout):
    folder = save(tiny_model, tmp_path / "encoder", **MODELS["layers"], do_lower_case=True)
    inside = folder
    if layout == "0_Transformer":
        inside = folder / layout
        inside.mkdir()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (folder / name).rename(inside / name)
        shutil.move(folder / "sentence_bert_config.json", inside)
        modules = json.loads((folder / "modules.json").read_text())
        modules[0]["path"] = layout
        (folder / "modules.json").write_text(json.dumps(modules))
    else:
        (folder / "tokenizer.json").unlink()
        shutil.copyfile(tiny_model / "vocab.txt", folder / "vocab.txt")
    original = Encoder(str(folder), max_tokens=48, precision="fp32", backend="torch")
    package_encoder(original, tmp_path / "packaged")
    copy = Encoder(str(tmp_path / "packaged"), max_tokens=48, precision="fp32")
    assert not list((tmp_path / "packaged").rglob("0_Transformer/*.safetensors"))
    assert copy.identity == original.identity
    names = ("pooling", "query_prompt", "document_prompt", "dim", "width", "longest")
    assert [getattr(copy, name) for name in names] == [getattr(original, name) for name in names]
    texts = [*TEXTS, "A BIG Æ"]
    np.testing.assert_allclose(copy.encode(texts), original.encode(texts), atol=1e-3)  # halves


def test_changed_answers_stay_packaged(changeable):
    packages = read_manifest(changeable).packaged
    ranker = Ranker.load(changeable)
    ranker.remove_answers(ranker.answers["id"][0])
    ranker.save(changeable)
    assert read_manifest(changeable).packaged == packages
    assert Ranker.load(changeable).answers.height == ranker.answers.height
    ranker.save(changeable.parent / "copy")
    assert Ranker.load(changeable.parent / "copy").dense.reader.encoder.backend == "openvino"


@pytest.mark.parametrize("name", ["network.bin", "network.xml", "tokenizer.json", "config.json"])
def test_a_damaged_encoder_is_refused(changeable, name):
    (file,) = changeable.glob(f"encoder-*/{name}")
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RankerError, match=rf"{name}: not as it was written .* package the ranker"):
        Ranker.load(changeable)


@pytest.mark.parametrize("content", ['{"files": {}}', "[]", "{"])
def test_a_damaged_list_of_files_is_refused(changeable, content):
    (file,) = changeable.glob("encoder-*/packaged.json")
    file.write_text(content)
    with pytest.raises(RankerError, match=r"packaged\.json: "):
        Ranker.load(changeable)


def test_it_is_for_openvino_alone(packaged, monkeypatch):
    monkeypatch.setenv("TWINRANK_BACKEND", "torch")
    with pytest.raises(EncoderError, match="unset TWINRANK_BACKEND"):
        Ranker.load(packaged).rank("refund")


def test_nothing_is_overwritten_and_rules_go_along(trained, tmp_path):
    ranker = shutil.copytree(trained, tmp_path / "ranker")
    (ranker / RULES).write_text('[[synonyms]]\nwords = ["vpn", "tunnel"]\n')
    package(ranker, tmp_path / "package")
    assert Ranker.load(tmp_path / "package").rules == Ranker.load(ranker).rules
    with pytest.raises(RankerError, match="is there already; give the name of a new folder"):
        package(ranker, tmp_path / "package")


def test_a_package_that_fails_leaves_nothing(trained, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ranker, "save", fail)
    with pytest.raises(OSError, match="No space"):
        package(trained, tmp_path / "package")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["learn", "{packaged}"], f"trainings need {PIP}"),
        (["train", "{data}", "--out", "{out}"], f"trainings need {PIP}"),
        (
            ["rank", "{trained}", "refund"],
            f"encoders that are neither converted nor packaged need {PIP}",
        ),
    ],
)
def test_what_needs_torch_says_what_to_install(
    packaged, trained, help_centre_folder, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.setenv("TWINRANK_CACHE", str(tmp_path / "cache"))
    places = {"packaged": packaged, "trained": trained, "data": help_centre_folder}
    done = command(*(word.format(**places, out=tmp_path / "out") for word in arguments))
    assert (done.returncode, done.stderr.strip()) == (2, message)


def test_the_rooms_of_a_service_import_no_torch():
    done = command(code=f"{ABSENT}import twinrank.service.app, twinrank.feedback.gaps")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["evaluate", "{packaged}", "{data}"], ["forget", "{packaged}", "--text", "x"]]
)
def test_a_packaged_ranker_is_used_without_torch(packaged, help_centre_folder, arguments):
    places = {"packaged": packaged, "data": help_centre_folder}
    done = command(*(word.format(**places) for word in arguments))
    assert done.returncode == 0, done.stderr
