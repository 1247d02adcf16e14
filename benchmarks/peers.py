"""The systems that people would pick instead of twinrank, each as a function from a task to scores.

| name | system | seeds |
|---|---|---|
| `bm25s` | the library as its README says: stop words, stemming, `retrieve` | one |
| `encoder` | `SentenceTransformer.encode` and cosine, nothing trained | one |
| `logistic` | scikit-learn's logistic regression on mean-pooled features | one |
| `svm` | TF-IDF of words and pairs of words, linear SVM | one |
| `tuned` | sentence-transformers: the whole encoder, in-batch negatives | each |
| `colbert` | sentence-transformers: a vector a token, MaxSim, in-batch negatives | each |
| `setfit` | SetFit: the encoder on pairs of queries, then logistic regression | each |

ColBERT is the `MultiVectorEncoder` of sentence-transformers: PyLate, where it comes from, pins
sentence-transformers 5. `logistic`, `svm` and `setfit` know only the answers that were right in
train; the others come last, in corpus order. Libraries are imported by the peer that needs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twinrank.data import Queries
from twinrank.encoding import POOLINGS, Encoder, resolve
from twinrank.evaluation import means, measure

Scorer = Callable[[Sequence[str]], np.ndarray]  # n texts to n x m scores
REGULARISATIONS = {"logistic": (1.0, 10.0, 100.0, 1000.0), "svm": (0.1, 1.0, 10.0)}  # of C
TUNING = {"epochs": 3, "batch_size": 48, "warmup": 0.1, "checkpoints_an_epoch": 2}
# As in the paper (Tunstall et al. 2022) but for the number of pairs: its few shots are thousands
# here, and a pair costs two passes through the encoder.
SETFIT = {"pairs_a_query": 20, "max_pairs": 20_000, "batch_size": 16}
SEEDED = frozenset({"tuned", "colbert", "setfit"})


@dataclass(frozen=True)
class Task:
    """The data that every peer gets; no test query is in it.

    Attributes:
        answers: texts of the m answers.
        train: to train on.
        validation: to choose settings by.
        encoder: a name or folder.
        max_tokens: longer texts are cut there.
        learning_rate: of those that train the encoder.
        seed: decides everything random.
        folder: for checkpoints.
    """

    answers: list[str]
    train: Queries
    validation: Queries
    encoder: str
    max_tokens: int
    learning_rate: float
    seed: int
    folder: Path

    @property
    def model(self) -> str:
        """The encoder's folder, for libraries that load it themselves."""
        return str(resolve(self.encoder).folder)

    def labels(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
        """Give the row of the query and the number of the answer, for every label."""
        rows = np.repeat(np.arange(len(queries)), np.diff(queries.labels.indptr))
        return rows, np.asarray(queries.labels.indices)


@dataclass(frozen=True)
class System:
    """A system that can rank, and the settings that validation chose."""

    score: Scorer
    chosen: dict[str, Any] = field(default_factory=dict)


def map_at_10(score: Callable[[slice], np.ndarray], queries: Queries) -> float:
    """Measure the figure that choices are made by."""
    return means(measure(score, queries))["map@10"]


def bm25s(task: Task) -> System:
    """The library as its README has it, for English."""
    import bm25s as library
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokenise(texts: Sequence[str]) -> Any:  # noqa: ANN401 (the library's own type)
        return library.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False)

    retriever = library.BM25()
    retriever.index(tokenise(task.answers), show_progress=False)

    def score(texts: Sequence[str]) -> np.ndarray:
        count = len(task.answers)
        columns, scores = retriever.retrieve(tokenise(texts), k=count, show_progress=False)
        table = np.empty((len(texts), count), np.float32)
        np.put_along_axis(table, np.asarray(columns), np.asarray(scores), axis=1)
        return table

    return System(score)


def encoder(task: Task) -> System:
    """Cosine of the vectors of `SentenceTransformer.encode`; no code of ours."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(task.model)
    model.max_seq_length = task.max_tokens
    return _cosine(model, task.answers)


def _cosine(model: Any, answers: Sequence[str]) -> System:  # noqa: ANN401
    def unit(texts: Sequence[str]) -> np.ndarray:
        vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors)

    vectors = unit(answers)
    return System(lambda texts: unit(texts) @ vectors.T)


def logistic(task: Task) -> System:
    """Multinomial logistic regression on unit vectors, one class an answer."""
    from sklearn.linear_model import LogisticRegression

    backbone, mean = Encoder(task.encoder, max_tokens=task.max_tokens), POOLINGS.index("mean")

    def unit(texts: Sequence[str]) -> np.ndarray:
        features = backbone.encode(list(texts))[:, mean]
        scaled: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
        return scaled

    rows, right = task.labels(task.train)
    inputs = unit(task.train.texts)[rows]

    def fit(value: float) -> tuple[Callable[[Any], np.ndarray], np.ndarray]:
        model = LogisticRegression(C=value, max_iter=1000).fit(inputs, right)
        return model.predict_log_proba, model.classes_

    return _choose("logistic", fit, unit, task)


def svm(task: Task) -> System:
    """Sublinear TF-IDF of words and neighbouring words, one linear SVM an answer."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    rows, right = task.labels(task.train)
    inputs = vectorizer.fit_transform(task.train.texts)[rows]

    def fit(value: float) -> tuple[Callable[[Any], np.ndarray], np.ndarray]:
        model = LinearSVC(C=value, random_state=0).fit(inputs, right)
        return model.decision_function, model.classes_

    return _choose("svm", fit, vectorizer.transform, task)


def _choose(
    name: str,
    fit: Callable[[float], tuple[Callable[[Any], np.ndarray], np.ndarray]],
    read: Callable[[Sequence[str]], Any],
    task: Task,
) -> System:
    """Fit with each value of C, and keep the one that ranks validation best; the first of ties."""
    inputs, reached, best = read(task.validation.texts), {}, None
    for value in REGULARISATIONS[name]:
        decide, classes = fit(value)

        def score(rows: Any, decide: Any = decide, classes: np.ndarray = classes) -> np.ndarray:  # noqa: ANN401
            return _over_all_answers(decide(rows), classes, len(task.answers))

        reached[value] = map_at_10(partial(_score_rows, score, inputs), task.validation)
        if best is None or reached[value] > reached[best[0]]:
            best = (value, score)
    assert best  # noqa: S101 (there are values)
    chosen, scorer = best
    return System(lambda texts: scorer(read(texts)), {"C": chosen, "map@10": reached})


def _score_rows(score: Callable[[Any], np.ndarray], inputs: Any, part: slice) -> np.ndarray:  # noqa: ANN401
    return score(inputs[part])


def _over_all_answers(scores: np.ndarray, classes: np.ndarray, answers: int) -> np.ndarray:
    """Give scores of all m answers; those unknown to a classifier come last."""
    if scores.ndim == 1:  # scikit-learn gives one column where there are two classes
        scores = np.stack([-scores, scores], axis=1)
    table = np.repeat(scores.min(axis=1, keepdims=True) - 1, answers, axis=1)
    table[:, classes] = scores
    return table


def tuned(task: Task) -> System:
    """The encoder with all its weights trained; ranks by cosine."""
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    torch.manual_seed(task.seed)
    model = SentenceTransformer(task.model)
    model.max_seq_length = task.max_tokens
    evaluator = InformationRetrievalEvaluator(*_retrieval(task), **EVALUATION)
    arguments = SentenceTransformerTrainingArguments(**_arguments(task, "cosine"))
    chosen = _train(
        SentenceTransformerTrainer, arguments, MultipleNegativesRankingLoss, evaluator, model, task
    )
    return System(_cosine(model, task.answers).score, chosen)


def colbert(task: Task) -> System:
    """The encoder with a new linear layer on each token's vector; ranks by MaxSim."""
    import torch
    from sentence_transformers import (
        MultiVectorEncoder,
        MultiVectorEncoderTrainer,
        MultiVectorEncoderTrainingArguments,
    )
    from sentence_transformers.multi_vector_encoder.evaluation import (
        MultiVectorInformationRetrievalEvaluator,
    )
    from sentence_transformers.multi_vector_encoder.losses import (
        MultiVectorMultipleNegativesRankingLoss,
    )

    torch.manual_seed(task.seed)  # of the new layer
    model = MultiVectorEncoder(task.model)
    model.max_seq_length = task.max_tokens
    evaluator = MultiVectorInformationRetrievalEvaluator(*_retrieval(task), **EVALUATION)
    arguments = MultiVectorEncoderTrainingArguments(**_arguments(task, "maxsim"))
    loss = MultiVectorMultipleNegativesRankingLoss
    chosen = _train(MultiVectorEncoderTrainer, arguments, loss, evaluator, model, task)
    vectors = model.encode_document(task.answers, show_progress_bar=False)

    def score(texts: Sequence[str]) -> np.ndarray:
        queries = model.encode_query(list(texts), show_progress_bar=False)
        return np.asarray(model.similarity(queries, vectors).float().cpu())

    return System(score, chosen)


EVALUATION: dict[str, Any] = {
    **{"name": "validation", "map_at_k": [10], "write_csv": False, "show_progress_bar": False}
}


def _retrieval(task: Task) -> tuple[Any, Any, Any]:
    right: dict[str, set[str]] = {}
    for row, answer in zip(*task.labels(task.validation), strict=True):
        right.setdefault(str(row), set()).add(str(answer))
    queries = {str(i): text for i, text in enumerate(task.validation.texts)}
    return queries, {str(j): text for j, text in enumerate(task.answers)}, right


def _arguments(task: Task, similarity: str) -> dict[str, Any]:
    from sentence_transformers.base.sampler import BatchSamplers

    examples = len(task.labels(task.train)[0])
    steps = math.ceil(examples / TUNING["batch_size"] / TUNING["checkpoints_an_epoch"])
    return {
        "output_dir": str(task.folder),
        "num_train_epochs": TUNING["epochs"],
        "per_device_train_batch_size": TUNING["batch_size"],
        "learning_rate": task.learning_rate,
        "warmup_steps": TUNING["warmup"],  # below one: a share of all steps
        "batch_sampler": BatchSamplers.NO_DUPLICATES,
        "seed": task.seed,
        **{"eval_strategy": "steps", "eval_steps": steps},
        **{"save_strategy": "steps", "save_steps": steps, "save_total_limit": 2},
        "load_best_model_at_end": True,
        "metric_for_best_model": f"eval_validation_{similarity}_map@10",
        "greater_is_better": True,
        **{"logging_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }


def _train(
    trainer_class: Any,  # noqa: ANN401
    arguments: Any,  # noqa: ANN401
    loss_class: Any,  # noqa: ANN401
    evaluator: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
    task: Task,
) -> dict[str, Any]:
    """Train in place on pairs of a query and a right answer; keep the best checkpoint."""
    from datasets import Dataset as Pairs

    rows, right = task.labels(task.train)
    columns = {
        "query": [task.train.texts[i] for i in rows],
        "answer": [task.answers[j] for j in right],
    }
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=Pairs.from_dict(columns),
        loss=loss_class(model),
        evaluator=evaluator,
    )
    trainer.train()
    model.eval()
    return {"step": trainer.state.best_global_step, "map@10": trainer.state.best_metric}


def setfit(task: Task) -> System:
    """Its two stages with its own defaults, but for the number of pairs."""
    from datasets import Dataset as Labelled
    from setfit import SetFitModel, Trainer, TrainingArguments

    rows, right = task.labels(task.train)
    pairs = min(2 * SETFIT["pairs_a_query"] * len(rows), SETFIT["max_pairs"])
    model = SetFitModel.from_pretrained(task.model)
    model.model_body.max_seq_length = task.max_tokens
    arguments = TrainingArguments(
        output_dir=str(task.folder),
        batch_size=SETFIT["batch_size"],
        num_epochs=1,
        max_steps=max(1, pairs // SETFIT["batch_size"]),
        max_length=task.max_tokens,
        seed=task.seed,
        **{"save_strategy": "no", "logging_strategy": "no", "report_to": "none"},
        show_progress_bar=False,
    )
    texts = {"text": [task.train.texts[i] for i in rows], "label": right.tolist()}
    Trainer(model=model, args=arguments, train_dataset=Labelled.from_dict(texts)).train()
    classes = np.asarray(model.model_head.classes_)

    def score(texts: Sequence[str]) -> np.ndarray:
        shares = model.predict_proba(list(texts), as_numpy=True, show_progress_bar=False)
        tiny = np.finfo(np.float64).tiny  # no share is zero: its logarithm must be finite
        logs = np.log(np.maximum(np.asarray(shares, dtype=np.float64), tiny))
        return _over_all_answers(logs, classes, len(task.answers))

    return System(score, {"pairs": pairs})


PEERS: dict[str, Callable[[Task], System]] = {
    peer.__name__: peer for peer in (bm25s, encoder, logistic, svm, tuned, colbert, setfit)
}
