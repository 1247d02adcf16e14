"""MTEB runs a ranker on a data set, and measures what `evaluate` measures."""

import json
from dataclasses import replace

import polars as pl
import pytest

mteb = pytest.importorskip("mteb")

from mteb.models.models_protocols import SearchProtocol  # noqa: E402

from twinrank.data import Dataset  # noqa: E402
from twinrank.evaluation import evaluate  # noqa: E402
from twinrank.mteb import RankerModel, as_task  # noqa: E402
from twinrank.ranking import Ranker  # noqa: E402

MEASURES = {"mrr@10": "mrr_at_10", "ndcg@10": "ndcg_at_10", "map@10": "map_at_10"}


@pytest.fixture(scope="module")
def ranker(trained):
    return Ranker.load(trained)


def scores_of(ranker, dataset, split="test"):
    (result,) = mteb.evaluate(
        RankerModel(ranker), as_task(dataset, split=split), cache=None, show_progress_bar=False
    ).task_results
    return {scores["hf_subset"]: scores for scores in result.scores[split]}


def test_mteb_and_evaluate_agree_by_type(ranker, help_centre):
    evaluation = evaluate(ranker, help_centre, resamples=0)
    scores = scores_of(ranker, help_centre)
    assert scores.keys() == evaluation.types.keys()
    for kind, figures in evaluation.types.items():
        figures |= evaluation.published.types[kind]
        for ours, of_mteb in MEASURES.items():
            assert scores[kind][of_mteb] == pytest.approx(figures[ours], abs=1e-4)


def write(folder, answers, queries, qrels):
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", answers), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *qrels]))
    return Dataset.load(folder)


def test_another_collection_is_ranked_by_new_answers(ranker, tmp_path):
    """An id that is an answer's brings nothing of that answer."""
    known = ranker.answers["id"][0]
    answers = [{"_id": known, "title": "", "text": "invoice refund"}]
    answers += [{"_id": f"d{i}", "title": "Calendar", "text": f"booking {i}"} for i in range(4)]
    queries = [{"_id": "q", "text": "refund"}, {"_id": "r", "text": "booking 2 hello"}]
    dataset = write(
        tmp_path / "small", answers, queries, [f"q\t{known}\t1", "r\td2\t2", "r\td0\t1"]
    )
    renamed = dataset.answers.with_columns(id="new " + pl.col("id"))
    bare = ranker.copy()
    bare.put_answers(renamed)
    bare.remove_answers(ranker.answers["id"].to_list())
    answer = "new " + pl.col("answer")
    same = replace(
        dataset,
        answers=renamed,
        labels=dataset.labels.with_columns(answer=answer),
        judgements=dataset.judgements.with_columns(answer=answer),
    )
    evaluation = evaluate(bare, same, resamples=0)
    expected = evaluation.overall | evaluation.published.overall
    (scores,) = scores_of(ranker, dataset).values()
    for ours, of_mteb in MEASURES.items():
        assert scores[of_mteb] == pytest.approx(expected[ours], abs=1e-4)
    assert ranker.answers.height > 5  # it is as it was


def test_a_reranking_task_names_its_documents(ranker, help_centre):
    model, task = RankerModel(ranker), as_task(help_centre)
    assert isinstance(model, SearchProtocol)
    task.load_data()
    part = next(iter(task.dataset.values()))["test"]
    model.index(part["corpus"])
    ids = ranker.answers["id"].to_list()[:3]
    queries = part["queries"]
    found = model.search(queries, top_k=2, top_ranked=dict.fromkeys(queries["id"], ids))
    assert all(len(best) == 2 and set(best) <= set(ids) for best in found.values())
