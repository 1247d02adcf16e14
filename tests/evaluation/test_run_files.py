"""Rankings written and read as TREC runs, and measured like those of a ranker."""

from dataclasses import replace

import ir_measures
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_dataset import write
from twinrank.data import Dataset, read_run, write_run
from twinrank.encoding import FeatureStore
from twinrank.errors import DataError, TwinrankError
from twinrank.evaluation import METRICS, compare_pairs, evaluate, evaluate_run
from twinrank.evaluation.metrics import PUBLISHED_METRICS
from twinrank.training import train

RANK_METRICS = [metric for metric in (*METRICS, *PUBLISHED_METRICS) if metric != "loss"]


@pytest.fixture(scope="module")
def ranker(recipes, help_centre):
    return train(help_centre, recipes["bm25"], store=FeatureStore())


@pytest.fixture(scope="module")
def graded(help_centre):
    """The help centre, its labels judged from 1 to 3."""
    judged = help_centre.labels.with_row_index("row")
    scores = judged.select("query", "answer", score=1.0 + pl.col("row") % 3, split="split")
    return replace(help_centre, judgements=scores)


def test_a_ranker_and_its_run_measure_alike(ranker, graded, tmp_path):
    """BM25 gives many answers one score: their order has to hold."""
    measured = evaluate(ranker, graded, resamples=0, depth=1_000)
    write_run(tmp_path / "run.trec", measured.run)
    of_run = evaluate_run(read_run(tmp_path / "run.trec"), graded, resamples=0)
    for metric in RANK_METRICS:
        assert of_run.per_query[metric].to_list() == measured.per_query[metric].to_list(), metric
    assert of_run.published.overall == measured.published.overall
    assert "loss" not in of_run.overall
    [row, *_] = compare_pairs([(("run", of_run), ("ranker", measured))])
    assert (row["difference"], row["p"]) == (0.0, 1.0)


def test_trec_eval_reads_the_same_figures_from_the_file(ranker, graded, tmp_path):
    measured = evaluate(ranker, graded, resamples=0, depth=1_000)
    write_run(tmp_path / "run.trec", measured.run)
    test = graded.judgements.filter(pl.col("split") == "test")
    qrels = [ir_measures.Qrel(q, a, int(score)) for q, a, score, _ in test.rows()]
    run = ir_measures.read_trec_run(str(tmp_path / "run.trec"))
    names = {"ndcg@10": "nDCG@10", "recall@10": "R@10", "recall@100": "R@100", "mrr@10": "RR@10"}
    measures = {name: ir_measures.parse_measure(text) for name, text in names.items()}
    values = ir_measures.calc_aggregate(measures.values(), qrels, run)
    for name, measure in measures.items():
        assert measured.published.overall[name] == pytest.approx(values[measure], abs=1e-6), name
    types = measured.published.as_dict()["types"]
    assert types.keys() == measured.types.keys()


SCORES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40)


@given(queries=st.lists(SCORES, min_size=1, max_size=4))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_in_the_same_order_by_score_alone(tmp_path_factory, queries):
    rows = [
        (f"q{q}", f"a{a}", score)
        for q, scores in enumerate(queries)
        for a, score in enumerate(sorted(scores, reverse=True))
    ]
    run = pl.DataFrame(rows, schema=["query", "answer", "score"], orient="row")
    file = tmp_path_factory.mktemp("run") / "run.trec"
    write_run(file, run)
    again = read_run(file).sort("query", maintain_order=True)
    assert again.drop("score").rows() == run.drop("score").sort("query", maintain_order=True).rows()
    for _, scores in again.group_by("query"):
        assert (np.diff(scores["score"].to_numpy().astype(np.float32)) < 0).all()


CORPUS = [{"_id": f"a{i}", "title": f"Article {i}", "text": "Text."} for i in range(4)]
QUERIES = [{"_id": name, "text": name} for name in ("q1", "q2", "a3")]
LABELS = [("q1", "a0", 1), ("q1", "a1", 2), ("q2", "a2", 1), ("a3", "a0", 1)]


@pytest.fixture
def small(tmp_path):
    return Dataset.load(write(tmp_path / "small", CORPUS, QUERIES, test=LABELS))


def run_of(tmp_path, text):
    file = tmp_path / "system.trec"
    file.write_text(text)
    return read_run(file)


def test_another_systems_run_is_measured_as_it_is(small, tmp_path, caplog):
    """Unknown answers keep their ranks, and a query without a ranking is missed."""
    run = run_of(
        tmp_path,
        "q1 Q0 elsewhere 9 7.5 mine\n\nq1 Q0 a1 1 5 mine\nq1\tQ0\ta0\t1\t-2e0\tmine\n"
        "q1 Q0 a1 4 1 mine\nq2 Q0 a1 1 1 mine\nq9 Q0 a1 1 1 mine\n",
    )
    assert "lines of an answer that ranks higher left out: 1" in caplog.text
    got = evaluate_run(run, small, resamples=0)
    rows = {row["id"]: row for row in got.per_query.rows(named=True)}
    assert rows["q1"]["mrr@10"] == 1 / 2
    assert rows["q1"]["map@10"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert rows["q1"]["accuracy@1"] == rows["q2"]["accuracy@10"] == rows["a3"]["recall@100"] == 0
    for said in (
        "1 queries of test have no ranking in the run",
        "1 queries of the run are not labelled in test",
        "1 answers of the run are not in the data",
    ):
        assert said in caplog.text


def test_answers_with_the_id_of_the_query_are_not_ranked_if_asked(small, tmp_path, recipes):
    run = run_of(tmp_path, "a3 Q0 a3 1 2 x\na3 Q0 a0 2 1 x\n")
    assert evaluate_run(run, small).per_query["mrr@10"].to_list() == [0, 0, 1 / 2]
    got = evaluate_run(run, small, ignore_identical_ids=True)
    assert got.per_query["mrr@10"].to_list() == [0, 0, 1]
    of_ranker = train(small, recipes["bm25"], store=FeatureStore())
    first = evaluate(of_ranker, small, resamples=0, ignore_identical_ids=True, depth=9)
    assert first.run.filter(pl.col("query") == pl.col("answer")).is_empty()
    assert first.run.group_by("query").len().sort("query")["len"].to_list() == [3, 4, 4]
    assert np.isfinite(first.overall["loss"])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no ranking; write lines of query, Q0, answer"),
        ("\n \n", "holds no ranking"),
        ("q1 Q0 a1 1\n", "no line of a run: 'q1 Q0 a1 1'"),
        ("q1 Q0 a1 1 high mine\n", "no line of a run"),
        ("q1 Q0 a1 1 nan mine\n", "no line of a run"),
        ("query,answer,score\nq1,a1,1\n", "no line of a run: 'query,answer,score'"),
        ("q1 Q0 a b 1 2 mine\n", "no line of a run"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, text, what):
    with pytest.raises(DataError, match=r"system\.trec") as caught:
        run_of(tmp_path, text)
    assert what in str(caught.value)


def test_a_run_of_other_queries_is_refused(small, tmp_path):
    with pytest.raises(TwinrankError, match=r"ranks no query of test .* first query is 'x'"):
        evaluate_run(run_of(tmp_path, "x Q0 a1 1 1 mine\n"), small)


def test_ids_with_blanks_cannot_be_written(tmp_path):
    run = pl.DataFrame({"query": ["q"], "answer": ["a b"], "score": [1.0]})
    with pytest.raises(DataError, match="the answer id 'a b' holds blanks"):
        write_run(tmp_path / "run.trec", run)
    assert not (tmp_path / "run.trec").exists()
