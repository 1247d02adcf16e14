"""The benchmark against peers: right figures, and only what is missing is computed."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize
from sklearn.svm import LinearSVC

import quality
from peers import files, vectors, words
from peers.encoding import TimedStore
from peers.results import Result
from peers.table import Measured, best_of_ours, compared
from peers.task import over_all_answers, pairs
from twinrank.data import Dataset
from twinrank.encoding import Encoder
from twinrank.evaluation import METRICS, evaluate
from twinrank.training import train


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Four answers, one of them never right in train; queries of one type, some with two labels."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    (folder / "qrels").mkdir(parents=True)
    topics = ["password", "invoice", "calendar", "refund"]
    answers = [{"_id": f"a{i}", "title": t, "text": f"the {t}"} for i, t in enumerate(topics)]
    queries, splits = [], {"train": [], "validation": [], "test": []}
    for n in range(24):
        split = ("train", "train", "validation", "test")[n % 4]
        right = [n // 4 % 3] if split == "train" else [n // 4 % 4]
        right += [(right[0] + 1) % 3] if n % 5 == 0 else []
        text = f"{n} hello {' '.join(topics[i] for i in right)}"
        queries.append({"_id": f"q{n}", "text": text})
        splits[split] += [f"q{n}\ta{i}\t1" for i in right]
    for name, rows in {"corpus": answers, "queries": queries}.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    for split, rows in splits.items():
        lines = ["query-id\tcorpus-id\tscore", *rows]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def measured(tiny_model, tmp_path):
    """Runs the benchmark and gives what quality.json holds of each system."""

    def run(data, peers: str, recipes: str = "", **options) -> dict:
        quality.main(
            data, peers=peers, recipes=recipes, encoder=str(tiny_model), max_tokens=64,
            out=tmp_path, **{"seeds": 1, **options},
        )  # fmt: skip
        content = json.loads((tmp_path / "quality.json").read_text())
        return {system["name"]: system for system in content["systems"]}

    return run


def rows_of(tmp_path, system: str) -> pl.DataFrame:
    (file,) = tmp_path.glob(f"{system}-*/seed-0.json")
    return Result.load(file).rows


def test_bm25s_ranks_as_an_independent_reading_of_it(measured, help_centre, recipes, tmp_path):
    measured(help_centre.folder, "bm25s")
    ours = evaluate(train(help_centre, recipes["bm25"]), help_centre, resamples=0).per_query
    theirs = rows_of(tmp_path, "bm25s")
    ranks = [metric for metric in METRICS if metric != "loss"]
    assert theirs.select("id", "type", "thread").equals(ours.select("id", "type", "thread"))
    np.testing.assert_allclose(theirs.select(ranks), ours.select(ranks))


def test_the_bare_encoder_is_our_zero_shot(measured, shop, recipe_files, tmp_path):
    recipe = recipe_files["zero-shot"]
    found = measured(shop, "encoder", str(recipe))
    assert found["encoder"]["overall"]["map@10"] == pytest.approx(
        found["zero-shot"]["overall"]["map@10"], abs=1e-6
    )
    assert (tmp_path / "quality.md").read_text().count("| encoder |") == 2


def test_classifiers_are_scikit_learns(measured, help_centre, tiny_model, monkeypatch):
    for settings in (words.SETTINGS, vectors.SETTINGS):
        monkeypatch.setitem(settings, "C", [0.1, 1.0])
    found = measured(help_centre.folder, "svm,logistic")
    train, test = help_centre.split("train"), help_centre.split("test")
    encoder = Encoder(str(tiny_model), max_tokens=64)
    features = FunctionTransformer(lambda texts: normalize(encoder.encode(texts)[:, 1]))
    c = {name: system["seeds"]["0"]["chosen"]["C"] for name, system in found.items()}
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    models = {
        "svm": make_pipeline(terms, LinearSVC(C=c["svm"], random_state=0)),
        "logistic": make_pipeline(features, LogisticRegression(C=c["logistic"], max_iter=1000)),
    }
    rows, right = pairs(train)
    for name, model in models.items():
        model.fit([train.texts[i] for i in rows], right)
        first = model.predict(test.texts)
        hits = test.labels.toarray()[np.arange(len(test)), first]
        assert found[name]["overall"]["accuracy@1"] == pytest.approx(hits.mean())
        assert found[name]["seeds"]["0"]["training_s"] > 0


def test_several_right_answers_one_type_and_an_answer_never_in_train(measured, shop, recipe_files):
    both = f"{recipe_files['bm25']},{recipe_files['towers']}"
    found = measured(shop, "bm25s,encoder,logistic,svm", both)
    assert set(found) == {"bm25s", "encoder", "logistic", "svm", "bm25", "towers"}
    for system in found.values():
        assert list(system["types"]) == ["query"]
        assert np.isfinite(list(system["overall"].values())).all()
    assert found["bm25s"]["overall"]["accuracy@3"] == 1
    assert found["svm"]["overall"]["accuracy@10"] == 1  # the unknown answer is ranked, too


def test_answers_never_in_train_come_last_in_corpus_order():
    scores = over_all_answers(np.array([[0.5, -2.0], [-1.0, 3.0]]), np.array([3, 1]), 5)
    assert scores.tolist() == [[-3, -2, -3, 0.5, -3], [-2, 3, -2, -1, -2]]
    one_column = over_all_answers(np.array([2.0]), np.array([0, 2]), 3)
    assert one_column.tolist() == [[-2, -3, 2]]


def test_only_what_is_missing_is_computed(measured, shop, monkeypatch):
    computed = []
    carried_out = quality.carried_out

    def counting(prepare, task, test):
        computed.append(prepare.__name__)
        return carried_out(prepare, task, test)

    monkeypatch.setattr(quality, "carried_out", counting)
    first = measured(shop, "bm25s", seeds=3)
    second = measured(shop, "bm25s,svm", seeds=3)
    assert computed == ["bm25s", "svm"]  # once each: neither depends on a seed
    assert first["bm25s"] == second["bm25s"]
    measured(shop, "bm25s", learning_rate=1e-3)  # which it does not read
    assert len(computed) == 2


def test_a_result_that_was_half_written_is_computed_again(measured, shop, monkeypatch, tmp_path):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files.Path, "replace", killed)
        measured(shop, "bm25s")
    (half,) = tmp_path.glob("bm25s-*/seed-0.json.tmp")
    half.write_text(half.read_text()[:100])
    assert measured(shop, "bm25s")["bm25s"]["counts"]["overall"] == 6


def test_encoding_counts_where_the_store_had_the_features(tiny_model, tmp_path):
    encoder, texts = Encoder(str(tiny_model), max_tokens=64), [f"hello {n}" for n in range(50)]
    for _ in range(2):
        store = TimedStore(tmp_path / "timed", tmp_path / "store")
        features = store.features(encoder, texts, "mean")
        seconds = store.elsewhere_s() + store.spent_s
        (kept,) = (tmp_path / "timed").iterdir()
        assert seconds == pytest.approx(json.loads(kept.read_text())["seconds"])
    assert features.encoded == 0


def result(validation: float, hits: list[int]) -> Result:
    ids = [str(i) for i in range(len(hits))]
    figures = {metric: np.array(hits, dtype=float) for metric in METRICS}
    rows = pl.DataFrame({"id": ids, "type": "question", "thread": ids, **figures})
    return Result(0, 1.0, 1.0, validation, {}, {}, rows)


def test_peers_are_compared_with_the_recipe_that_validation_prefers():
    better_on_test = Measured("lucky", True, (result(0.1, [1] * 20),))
    chosen = Measured("chosen", True, (result(0.5, [1] * 15 + [0] * 5),))
    peer = Measured("peer", False, (result(0.9, [1] * 5 + [0] * 15), result(0.9, [0] * 20)))
    systems = [better_on_test, chosen, peer]
    assert best_of_ours(systems) is chosen
    overall = [row for row in compared(systems) if row["type"] is None]
    assert [row["ours"] for row in overall] == ["chosen", "chosen"]
    assert overall[0]["difference"] == pytest.approx((5 / 20 + 0) / 2 - 15 / 20)
    assert overall[0]["p"] < 0.001
    assert peer.spread("accuracy@3") == pytest.approx(np.std([0.25, 0], ddof=1))


def test_a_tuned_encoder_goes_on_from_its_last_whole_checkpoint(
    shop, tiny_model, monkeypatch, tmp_path
):
    pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    from peers import checkpoints, tuned

    dataset = Dataset.load(shop)
    task = SimpleNamespace(
        answers=dataset.answer_texts(), train=dataset.split("train"), seed=0, max_tokens=64,
        validation=dataset.split("validation"), model=str(tiny_model), learning_rate=1e-3,
        folder=tmp_path / "killed",
    )  # fmt: skip
    monkeypatch.setitem(tuned.SETTINGS, "batch_size", 4)
    whole = tuned.tuned(SimpleNamespace(**{**vars(task), "folder": tmp_path / "whole"}))
    marked = checkpoints.Marks.on_save

    def killed(self, args, state, control, **kwargs):
        if state.global_step > 2:
            raise KeyboardInterrupt
        marked(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints.Marks, "on_save", killed)
        tuned.tuned(task)
    last, seconds = checkpoints.last_whole(task.folder)
    assert last.name == "checkpoint-2" and seconds > 0
    assert [folder.name for folder in task.folder.glob("checkpoint-*")] == ["checkpoint-2"]
    resumed = tuned.tuned(task)
    assert resumed.earlier_s == seconds
    texts = dataset.split("test").texts
    np.testing.assert_allclose(resumed.score(texts), whole.score(texts), atol=1e-5)
