"""Learning from feedback: what is trained, what is compared, and what takes whose place."""

import json
import logging
import shutil
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tests.processes import Killed
from tests.ranker_files import all_files
from tests.test_cli import twinrank
from twinrank.data import Dataset
from twinrank.encoding import FeatureStore
from twinrank.errors import AnswerIndexError, FeedbackError, RankerError
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback
from twinrank.feedback.forget import forget
from twinrank.feedback.learning import learn
from twinrank.ranking import Ranker, read_manifest, read_pointer, roll_back
from twinrank.recipe import Recipe
from twinrank.training import checkpoint, train
from twinrank.training.loop import Trainer

TEXTS = ["it wont let me in again", "where is my money??"]
NOTHING = (FeedbackError, "nothing to learn")
learn_module = sys.modules[learn.__module__]


@pytest.fixture(scope="module")
def data(help_centre, tmp_path_factory):
    """Half of the labels of train, and verdicts that say the other half."""
    fewer = help_centre.fewer_labels(0.5)
    gone = help_centre.labels.join(fewer.labels, on=["query", "answer", "split"], how="anti")
    told = gone.join(help_centre.queries, left_on="query", right_on="id")
    folder = tmp_path_factory.mktemp("data") / "half"
    stays = ~pl.col("id").is_in(gone["query"].implode())
    replace(fewer, queries=help_centre.queries.filter(stays)).save(folder)
    verdicts = [
        Verdict(f"{n}", row["text"], row["type"], row["answer"], True, (row["answer"],))
        for n, row in enumerate(told.sort("query", "answer").iter_rows(named=True))
    ]
    return folder, verdicts


@pytest.fixture(scope="module")
def trained(data, recipes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "ranker"
    values = recipes["fused"].values()
    values["training"]["epochs"] = 4
    recipe = Recipe.validated(values, source="test")
    train(Dataset.load(data[0]), recipe, seed=3, out=folder, store=FeatureStore())
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "ranker")


@pytest.fixture
def learned(folder, data):
    """Learn in the folder; a margin and a level that let anything pass, unless told otherwise."""

    def learned(verdicts=data[1], **options):
        return learn(folder, verdicts, store=FeatureStore(), **({"margin": 1.0} | options))

    return learned


@pytest.fixture
def lenient(monkeypatch):
    monkeypatch.setattr("twinrank.feedback.learning.SIGNIFICANCE_LEVEL", 0.0)


def new_answer(ranker, answer_id="new", text="Moor your zeppelin."):
    row = ranker.answers[:1]
    return row.with_columns(id=pl.lit(answer_id), title=pl.lit("Zeppelins"), text=pl.lit(text))


@pytest.mark.usefixtures("lenient")
def test_it_learns_and_takes_its_own_place(folder, data, learned):
    old, before = Ranker.load(folder), read_pointer(folder)
    learning = learned()
    assert learning.replaced
    assert learning.worse == ()
    counts = learning.counts
    assert counts["learned"] > counts["held_back"] > 0
    assert [each.on for each in learning.compared] == ["test", "feedback"]
    assert learning.compared[0].new.counts["overall"] == len(Dataset.load(data[0]).split("test"))
    assert learning.compared[1].new.counts["overall"] == counts["held_back"]

    new = Ranker.load(folder)
    assert read_pointer(folder).previous == before.version
    assert (new.recipe, new.origin.seed) == (old.recipe, 3)
    assert new.origin.learned.queries == counts["learned"]
    trained_on = sum(new.origin.labelled["train"].values())
    assert trained_on == sum(old.origin.labelled["train"].values()) + counts["learned"]
    assert new.origin.dataset().fingerprint == old.origin.data_fingerprint
    assert f"{counts['learned']} were labelled by people" in (folder / "README.md").read_text()
    taught = set(new.past.texts) - set(old.past.texts)
    assert len(taught) == counts["learned"]
    assert taught <= {verdict.text for verdict in data[1]}
    assert not np.allclose(new.scores(TEXTS), old.scores(TEXTS))

    roll_back(folder)
    np.testing.assert_allclose(Ranker.load(folder).scores(TEXTS), old.scores(TEXTS), rtol=1e-5)
    roll_back(folder)
    np.testing.assert_allclose(Ranker.load(folder).scores(TEXTS), new.scores(TEXTS), rtol=1e-5)


@pytest.mark.usefixtures("lenient")
def test_what_was_learned_is_forgotten_for_good(folder, learned):
    before = set(Ranker.load(folder).past.texts)
    assert learned().replaced
    text = next(iter(set(Ranker.load(folder).past.texts) - before))
    roll_back(folder)
    assert forget(folder, None, text=text).past_queries == 1
    roll_back(folder)
    form = json.dumps(text, ensure_ascii=False)[1:-1].encode()
    files = [file for file in folder.parent.rglob("*") if file.is_file()]
    assert [file for file in files if form in file.read_bytes()] == []
    past = Ranker.load(folder).past
    assert text not in past.texts
    assert any(id_.startswith("feedback-") for id_ in past.ids)


@pytest.mark.usefixtures("lenient")
def test_too_few_to_tell_by_leave_the_old_ranker_and_that_is_said(folder, learned, data):
    before = (folder / "current.json").read_bytes()
    learning = learned(data[1][:12])
    assert learning.counts["held_back"] < 6
    assert not learning.replaced
    assert any(note.startswith("too few to tell") for note in learning.notes)
    assert (folder / "current.json").read_bytes() == before
    assert learned(data[1][:12], hold_back=0.0).replaced


def test_what_is_too_old_is_erased_before_anything_is_learned(folder, data):
    long_ago = datetime.now(UTC) - timedelta(366)
    with closing(Feedback.open(f"{folder}.feedback.db")) as feedback:
        for verdict in data[1][:3]:
            feedback.add(replace(verdict, at=long_ago))
        for option, left in (("--dry-run", 3), ("--json", 0)):
            done = twinrank("learn", folder, option, check=False)
            assert done.returncode == 2
            assert "3 verdicts older than 365 days" in done.stderr
            assert "no verdicts yet" in done.stderr
            assert len(feedback.verdicts()) == left


@pytest.mark.usefixtures("lenient")
def test_the_same_is_not_learned_twice_nor_what_was_taken_back(folder, learned, monkeypatch):
    learned()
    pointer = read_pointer(folder)
    monkeypatch.setattr(Trainer, "run", None)
    again = learned()
    assert (again.replaced, again.compared) == (False, ())
    assert again.notes == ("the ranker has learned all of this already",)
    roll_back(folder)
    (note,) = learned().notes
    assert "taken back" in note
    roll_back(folder)
    assert read_pointer(folder) == pointer


@pytest.mark.usefixtures("lenient")
def test_a_dry_run_changes_nothing_and_is_not_done_again(folder, learned, monkeypatch):
    before = all_files(folder)
    dry = learned(dry_run=True)
    assert not dry.replaced
    (verdicts,) = folder.parent.rglob("verdicts.json")
    assert verdicts.stat().st_mode & 0o777 == 0o600
    assert before == all_files(folder)
    monkeypatch.setattr(Trainer, "run", None)
    wet = learned()
    assert wet.replaced
    assert wet.compared[0].as_dict() == dry.compared[0].as_dict()


def test_a_ranker_that_is_worse_does_not_take_the_place(folder, learned, monkeypatch):
    before = (folder / "current.json").read_bytes()
    monkeypatch.setattr(learn_module, "find_losses", lambda *_, **__: (["it is worse"], []))
    learning = learned()
    assert (learning.replaced, learning.worse) == (False, ("it is worse",))
    assert (folder / "current.json").read_bytes() == before


@pytest.mark.slow
@pytest.mark.usefixtures("lenient")
def test_after_a_kill_it_goes_on_with_the_verdicts_it_began_with(
    folder, learned, monkeypatch, data, caplog
):
    whole = shutil.copytree(folder, folder.with_name("whole"))
    learn(whole, data[1][:-5], margin=1.0, store=FeatureStore())
    real = Trainer.run

    def dying(trainer, *, saved, on_epoch):
        def on_epoch_and_die(reached):
            on_epoch(reached)
            if reached.history[-1]["epoch"] == 2:
                raise Killed

        return real(trainer, saved=saved, on_epoch=on_epoch_and_die)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Trainer, "run", dying)
        patched.setattr(checkpoint, "CHECKPOINT_EVERY_S", 0)
        learned(data[1][:-5])
    caplog.set_level(logging.INFO)
    learning = learned(data[1][1:])
    said = "5 that came since, and 1 that were taken back, wait for the next time"
    assert said in caplog.text
    assert "going on after epoch 2" in caplog.text
    assert learning.counts["verdicts"] == len(data[1]) - 5
    assert read_manifest(folder).files == read_manifest(whole).files
    assert learned(data[1]).counts["verdicts"] == len(data[1])


@pytest.mark.usefixtures("lenient")
def test_answers_are_those_there_are_by_now(folder, learned, data, monkeypatch):
    ranker = Ranker.load(folder)
    often = Counter(verdict.answer for verdict in data[1]).most_common(2)
    gone, edited = (answer for answer, _ in often)
    ranker.remove_answers([gone])
    ranker.put_answers(ranker.answers.filter(id=edited).with_columns(text=pl.lit("Written anew.")))
    ranker.add_answers(pl.concat([new_answer(ranker), new_answer(ranker, "taught", "Anchors.")]))
    ranker.save(folder)
    said = [Verdict(f"t{n}", f"how do I anchor it {n}", "question", "taught", True) for n in (1, 2)]

    real = learn_module.find_losses

    def meanwhile(*args, **kwargs):
        now = Ranker.load(folder)
        now.set_aside(now.answers["id"][0])
        now.add_answers(new_answer(now, "late"))
        now.save(folder)
        return real(*args, **kwargs)

    monkeypatch.setattr(learn_module, "find_losses", meanwhile)
    learning = learned([*data[1], *said], hold_back=0.0)
    assert learning.replaced
    assert learning.counts["unknown"] == sum(verdict.answer == gone for verdict in data[1])
    assert any("queries are not measured" in note for note in learning.notes)

    new = Ranker.load(folder)
    wanted = {*ranker.answers["id"][1:], "late"}
    assert set(new.answers["id"]) == wanted
    assert new.answers.filter(id=edited)["text"].to_list() == ["Written anew."]
    newcomers = set(new.answers.filter(pl.Series(new.past.newcomers))["id"])
    assert newcomers == {"new", "late"}
    assert new.rank("how do I anchor it", k=1)[0][0].id == "taught"

    roll_back(folder)
    back = Ranker.load(folder)
    assert set(back.answers["id"]) == wanted
    for one in (new, back):  # what was deleted meanwhile can be restored in either
        one.restore_answer(ranker.answers["id"][0])
        assert one.past.solved_by(one.answers.height - 1)


def test_its_index_is_there_before_it_takes_the_place(folder, learned, monkeypatch):
    old = Ranker.load(folder, index="local")
    old.save(folder)
    save = Ranker.save
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Ranker, "save", lambda r, path, **k: kill(path, folder) or save(r, path, **k))
        learned(index="local")
    assert Ranker.load(folder, index="local").fingerprint == old.fingerprint
    assert learned(index="local").replaced
    new = Ranker.load(folder, index="local")
    assert new.fingerprint != old.fingerprint
    roll_back(folder, index="local")
    assert Ranker.load(folder, index="local").fingerprint == old.fingerprint


def kill(path, folder):
    if path == folder:
        raise Killed


@pytest.mark.usefixtures("lenient")
def test_another_ranker_that_took_the_place_meanwhile_stays(folder, learned, monkeypatch):
    def meanwhile(*_, **__):
        other = Ranker.load(folder)
        other.origin = other.origin.model_copy(update={"seed": 9})
        other.save(folder)
        return [], []

    monkeypatch.setattr(learn_module, "find_losses", meanwhile)
    with pytest.raises(RankerError, match="another ranker took its place meanwhile"):
        learned()
    assert Ranker.load(folder).origin.seed == 9


def test_without_test_labels_feedback_is_the_gate(learned, data, tmp_path):
    own = shutil.copytree(data[0], tmp_path / "own")
    (own / "qrels" / "test.tsv").unlink()
    learning = learned(data=own, dry_run=True)
    assert [compared.on for compared in learning.compared] == ["feedback"]
    assert any("no test labels" in note for note in learning.notes)
    assert any("was trained on other data" in note for note in learning.notes)
    unmeasured = learned(data=own, hold_back=0)
    assert not unmeasured.replaced
    assert any("too few to tell: 0 of" in note for note in unmeasured.notes)


def test_a_ranker_that_learns_nothing_or_has_lost_its_data(
    recipes, help_centre, data, tmp_path, folder
):
    train(help_centre, recipes["bm25"], out=tmp_path / "words")
    with pytest.raises(RankerError, match="bm25 is not trained on labels"):
        learn(tmp_path / "words", data[1], store=FeatureStore())
    ranker = Ranker.load(folder)
    ranker.origin = ranker.origin.model_copy(update={"folder": str(tmp_path / "moved")})
    ranker.save(folder)
    with pytest.raises(RankerError, match="give --data"):
        learn(folder, data[1], store=FeatureStore())
    with pytest.raises(RankerError, match="no previous ranker is kept"):
        roll_back(folder)


@pytest.mark.slow
@pytest.mark.usefixtures("lenient")
def test_a_ranker_with_its_own_encoder_tunes_it_anew(recipe_files, data, tmp_path):
    text = recipe_files["towers"].read_text().replace("epochs = 8", "epochs = 1")
    (tmp_path / "tuned.toml").write_text(f"{text}\n[tuning]\nepochs = 1\nbatch_size = 64\n")
    dataset, store = Dataset.load(data[0]), FeatureStore()
    out = tmp_path / "ranker"
    old = train(dataset, Recipe.load(tmp_path / "tuned.toml"), out=out, store=store)
    learning = learn(out, data[1], margin=1.0, store=store)
    [encoder] = read_manifest(out).encoders
    assert encoder != f"encoder-{old.dense.reader.encoder.identity[:12]}"
    assert learning.replaced
    assert len(list(out.glob("encoder-*"))) == 2
    assert Ranker.load(out).rank(TEXTS, k=1)


def test_the_command(folder, data):
    done = twinrank("learn", folder, check=False)
    assert (done.returncode, "feedback.db: there is no such file" in done.stderr) == (2, True)
    with closing(Feedback.open(f"{folder}.feedback.db")) as feedback:
        feedback.add(data[1][0])
        feedback.remove(data[1][0].key)
        done = twinrank("learn", folder, check=False)
        assert (done.returncode, "no verdicts yet" in done.stderr) == (2, True)
        for verdict in data[1]:
            feedback.add(verdict)
    shown = twinrank("learn", folder, "--dry-run").stdout
    assert "the old ranker stays" in " ".join(shown.split())  # lines are as wide as a screen
    assert all(f"  {kind}" in shown for kind in ("overall", "conversation", "question"))
    told = json.loads(twinrank("learn", folder, "--margin", 1, "--json").stdout)
    assert told["feedback"]["verdicts"] == len(data[1])
    assert told["replaced"] is not bool(told["worse"])
    done = twinrank("learn", folder, "--rollback", check=False)
    assert (done.returncode == 0) is told["replaced"]
    assert ("is in place again" in " ".join(done.stdout.split())) is told["replaced"]


@pytest.mark.parametrize(
    ("change", "options", "error", "said"),
    [
        (lambda verdicts: [], {}, FeedbackError, "there are no verdicts yet"),
        (lambda verdicts: [replace(v, right=False) for v in verdicts], {}, *NOTHING),
        (lambda verdicts: [replace(v, answer="x") for v in verdicts], {}, *NOTHING),
        (list, {"margin": np.nan}, FeedbackError, "give a number from 0"),
        (list, {"hold_back": np.nan}, FeedbackError, "give a number from 0"),
        (list, {"index": "http://127.0.0.1:1?shards=none"}, AnswerIndexError, "shards=none"),
    ],
)
def test_what_cannot_be_learned_is_said_before_it_trains(
    learned, data, change, options, error, said
):
    with pytest.raises(error, match=said):
        learned(change(data[1]), **options)
