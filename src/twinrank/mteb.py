"""MTEB: a ranker as one of its models, and a data set as one of its retrieval tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from twinrank.data import Dataset, Queries
from twinrank.extras import check_installed
from twinrank.ranking import Ranker
from twinrank.ranking import top_k as best_rows

check_installed("evaluations by MTEB", "mteb", "mteb")

import datasets  # noqa: E402 (once it is sure that they can be imported)
from mteb.abstasks import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.models.model_meta import ModelMeta  # noqa: E402

NEW = "\0"  # before the id of a document that is no answer of the ranker: it may be an answer's
QUERIES_AT_ONCE = 256
COLUMNS = ["id", "title", "text"]


class RankerModel:
    """A ranker as `mteb.evaluate` takes it, for tasks of retrieval and reranking.

    A document with the id, the title and the text of an answer is that answer, with its past
    queries. Every other one is taken in as a new answer, and answers that are no document of the
    task are left out.

    Args:
        ranker: to measure; it stays as it is.
        name: in MTEB's results, as `ORGANISATION/NAME`.
    """

    def __init__(self, ranker: Ranker, name: str = "twinrank/ranker") -> None:
        self._ranker = self._indexed = ranker
        about = {"name": name, "revision": ranker.fingerprint}
        self.mteb_model_meta = ModelMeta.create_empty(about)

    def index(self, corpus: Any, **_: Any) -> None:  # noqa: ANN401 (of `datasets`, untyped)
        """Take in the documents of a task (`id`, `text`, and perhaps `title`)."""
        given = {name: list(corpus[name]) for name in COLUMNS if name in corpus.column_names}
        documents = pl.DataFrame(
            {"title": [""] * len(corpus), **given}, schema=dict.fromkeys(COLUMNS, pl.String)
        ).with_columns(pl.col("title", "text").fill_null(""))
        self._indexed = self._ranker.copy()
        new = documents.join(self._ranker.answers, on=COLUMNS, how="anti")
        self._indexed.put_answers(new.with_columns(id=NEW + pl.col("id")))
        stays = documents.join(self._ranker.answers, on=COLUMNS, how="semi")["id"]
        if gone := set(self._ranker.answers["id"]).difference(stays):
            self._indexed.remove_answers(gone)

    def search(
        self,
        queries: Any,  # noqa: ANN401 (of `datasets`, untyped)
        *,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,  # noqa: ANN401
    ) -> dict[str, dict[str, float]]:
        """Score the best documents for each query, or those of `top_ranked` alone."""
        results: dict[str, dict[str, float]] = {}
        ids = [id_.removeprefix(NEW) for id_ in self._indexed.answers["id"]]
        row_of = {id_: row for row, id_ in enumerate(ids)}
        query_ids, texts = list(queries["id"]), list(queries["text"])
        for start in range(0, len(texts), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            scores = self._indexed.scores(texts[part])
            for query, row in zip(query_ids[part], scores, strict=True):
                candidates = np.arange(len(ids))
                if top_ranked is not None:
                    candidates = np.array([row_of[id_] for id_ in top_ranked[query]])
                best = candidates[best_rows(row[candidates], top_k)]
                results[query] = {ids[i]: float(row[i]) for i in best}
        return results


def as_task(
    dataset: Dataset, *, split: str = "test", language: str = "eng-Latn"
) -> AbsTaskRetrieval:
    """Make a data set a retrieval task, with a subset for each type of query.

    MTEB's score of the task is the mean of the types' scores. It knows whole grades alone: others
    are rounded, to 1 or more.

    Args:
        dataset: its answers are the documents.
        split: whose queries are asked.
        language: of the data, as MTEB has it.

    Raises:
        DataError: if the split holds no label.
    """
    queries = dataset.split(split)
    types = queries.frame["type"].unique().sort().to_list()
    corpus = datasets.Dataset.from_dict(dataset.answers.select(COLUMNS).to_dict(as_series=False))
    subsets: Any = {kind: {split: _select_type(dataset, queries, kind, corpus)} for kind in types}

    class DatasetTask(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=dataset.name,
            description=f"The {split} split of {dataset.name}, a data set of twinrank.",
            dataset={"path": dataset.name, "revision": dataset.fingerprint},
            type="Retrieval",
            category="t2t",
            eval_splits=[split],
            eval_langs={kind: [language] for kind in types},
            main_score="ndcg_at_10",
        )

        def load_data(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
            self.dataset, self.data_loaded = subsets, True

    return DatasetTask()


def _select_type(
    dataset: Dataset, queries: Queries, kind: str, corpus: datasets.Dataset
) -> dict[str, Any]:
    """Select the queries of a type as MTEB has them, with documents and judgements."""
    grades = queries.labels if queries.grades is None else queries.grades
    answers, judged = dataset.answers["id"].to_list(), {}
    for row, (id_, of_type) in enumerate(queries.frame.select("id", "type").iter_rows()):
        if of_type == kind:
            cells = slice(grades.indptr[row], grades.indptr[row + 1])
            pairs = zip(grades.indices[cells], grades.data[cells], strict=True)
            judged[id_] = {answers[answer]: max(1, round(grade)) for answer, grade in pairs}
    asked = queries.frame.filter(pl.col("type") == kind).select("id", "text")
    rows = datasets.Dataset.from_dict(asked.to_dict(as_series=False))
    return {"corpus": corpus, "queries": rows, "relevant_docs": judged, "top_ranked": None}
