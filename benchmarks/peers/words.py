"""Peers that know words alone: bm25s, and a linear SVM on TF-IDF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bm25s as library
import numpy as np
import Stemmer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from peers.task import Ready, Task, best_of, over_all_answers, pairs

SETTINGS: dict[str, Any] = {"language": "english", "C": [0.1, 1.0, 10.0], "words": 2}


def bm25s(task: Task) -> Ready:
    """The library as its README has it, for English; all answers are retrieved."""
    stemmer = Stemmer.Stemmer(SETTINGS["language"])

    def tokens(texts: Sequence[str]) -> Any:  # noqa: ANN401 (the library's own type)
        return library.tokenize(list(texts), stopwords="en", stemmer=stemmer, show_progress=False)

    retriever = library.BM25()
    retriever.index(tokens(task.answers), show_progress=False)

    def score(texts: Sequence[str]) -> np.ndarray:
        count = len(task.answers)
        found, scores = retriever.retrieve(tokens(texts), k=count, show_progress=False)
        table = np.empty((len(texts), count), np.float32)
        np.put_along_axis(table, np.asarray(found), np.asarray(scores), axis=1)
        return table

    return Ready(score)


def svm(task: Task) -> Ready:
    """Sublinear TF-IDF of words and neighbouring words, one linear SVM an answer."""
    vectorizer = TfidfVectorizer(ngram_range=(1, SETTINGS["words"]), sublinear_tf=True)
    rows, right = pairs(task.train)
    inputs = vectorizer.fit_transform(task.train.texts)[rows]

    def fit(value: float) -> Callable[[Any], np.ndarray]:
        model = LinearSVC(C=value, random_state=0).fit(inputs, right)
        count = len(task.answers)
        return lambda some: over_all_answers(model.decision_function(some), model.classes_, count)

    unseen = vectorizer.transform(task.validation.texts)
    best, chosen = best_of(SETTINGS["C"], fit, task, unseen)
    return Ready(lambda texts: best(vectorizer.transform(texts)), chosen)
