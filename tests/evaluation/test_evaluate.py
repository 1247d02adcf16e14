import subprocess
import sys
from importlib import import_module

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from twinrank.data import Queries
from twinrank.encoding import FeatureStore
from twinrank.errors import RankerError
from twinrank.evaluation import METRICS, evaluate, measure, summarise
from twinrank.evaluation.metrics import per_query
from twinrank.ranking import Ranker
from twinrank.training import train


def rows(values, types, threads):
    frame = {"id": [str(i) for i in range(len(values))], "type": types, "thread": threads}
    figures = {m: pl.Series(values, dtype=pl.Float64) for m in METRICS}
    return pl.DataFrame(frame).with_columns(**figures)


def test_overall_types_worst_and_gap():
    got = summarise(rows([1, 0, 1, 1], ["a", "a", "b", "b"], ["1", "2", "3", "4"]))
    assert got.overall["map@3"] == 0.75
    assert {kind: figures["map@3"] for kind, figures in got.types.items()} == {"a": 0.5, "b": 1.0}
    assert got.worst["map@3"] == 0.5
    assert got.worst["loss"] == 1.0  # the worst loss is the highest
    assert got.gap["map@3"] == 0.5
    assert got.counts == {"overall": 4, "types": {"a": 2, "b": 2}}


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(150):
        values = (rng.random(80) < 0.6).astype(float)
        table = rows(values, ["a"] * 80, [str(i) for i in range(80)])
        low, high = summarise(table, resamples=200, seed=trial).intervals["overall"]["map@3"]
        hits += low <= 0.6 <= high
    assert 0.88 <= hits / 150 <= 0.99


def test_queries_of_one_thread_count_once_for_the_interval():
    values = [1.0, 0.0] * 50
    alone = summarise(rows(values, ["a"] * 100, [str(i) for i in range(100)]))
    values = [v for v in values for _ in range(4)]
    four_each = summarise(rows(values, ["a"] * 400, [str(i // 4) for i in range(400)]))
    widths = [np.diff(e.intervals["overall"]["map@3"])[0] for e in (alone, four_each)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    one_thread = summarise(rows([1, 0], ["a", "a"], ["t", "t"]))
    assert one_thread.intervals["overall"]["map@3"] is None


@pytest.mark.parametrize("size", [1, 40])
def test_chunks_do_not_change_the_figures(monkeypatch, size):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(23, 9)).astype(np.float32)
    labels = sparse.csr_array(np.eye(9)[rng.integers(9, size=23)])
    frame = pl.DataFrame({"id": [str(i) for i in range(23)]}).with_columns(
        type=pl.lit("q"), thread="id", text="id"
    )
    # The function hides the module of its name.
    monkeypatch.setattr(import_module("twinrank.evaluation.evaluate"), "SCORES_PER_CHUNK", size)
    got = measure(lambda part: scores[part], Queries(frame, labels))
    for metric, values in per_query(scores, labels).items():
        np.testing.assert_allclose(got[metric].to_numpy(), values)


def test_answers_of_the_ranker_compete_and_have_to_be_all(recipes, help_centre):
    ranker = train(help_centre, recipes["bm25"], store=FeatureStore())
    before = evaluate(ranker, help_centre, split="test", resamples=0)
    assert before.run is None  # unless a depth is asked for
    text = " ".join(help_centre.split("test").texts)
    ranker.add_answers(pl.DataFrame({"id": ["all"], "title": ["All"], "text": [text]}))
    after = evaluate(ranker, help_centre, split="test", resamples=0)
    assert after.overall["accuracy@1"] < before.overall["accuracy@1"]
    assert (after.per_query["first"] == "all").any()
    ranker.remove_answers(help_centre.answers["id"].head(2))
    with pytest.raises(RankerError, match=r"2 answers of .* are unknown"):
        evaluate(ranker, help_centre)


def test_options_are_those_of_the_ranker(trained, help_centre):
    ranker, queries = Ranker.load(trained), help_centre.split("test")
    rows = evaluate(ranker, help_centre, resamples=0).per_query
    ids = help_centre.answers["id"]
    among = []
    for i, ranking in enumerate(ranker.rank(queries.texts, 10)):
        right = {ids[int(j)] for j in queries.labels[[i]].indices}
        options = {option.id for option in ranker.clarify(ranking, below=2.0)}
        among.append(bool(options & right) if options else None)
    assert rows["among_options"].to_list() == among
    assert len(set(among)) == 3


def test_measuring_imports_no_scikit_learn():
    code = "import sys, twinrank.evaluation; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
