"""Samples made by hand, and small data sets with whatever may be missing."""

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from twinrank.data import Dataset
from twinrank.encoding import Encoder, FeatureStore
from twinrank.exploration.sample import Sample

QUERIES = dict.fromkeys(("id", "type", "thread", "text"), pl.String)
LABELS = dict.fromkeys(("query", "answer", "split"), pl.String)
SECTION = pl.List(pl.Struct({"title": pl.String, "text": pl.String}))
ANSWERS = dict.fromkeys(("id", "title", "text", "url"), pl.String) | {"sections": SECTION}


def unit(points):
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def sample_of(points, labels, answer_points, *, threads=None, splits=None):
    """A sample of given vectors of one type; each query has a thread of its own by default."""
    n = len(points)
    labels = sparse.csr_array(np.asarray(labels, np.float32).reshape(n, len(answer_points)))
    names = [f"a{i}" for i in range(len(answer_points))]
    ids = [f"q{i}" for i in range(n)]
    frame = pl.DataFrame({"id": ids, "thread": threads or ids, "text": ids}).with_columns(
        type=pl.lit("t"), split=pl.Series(splits or [None] * n, dtype=pl.String)
    )
    answers = pl.DataFrame(
        {"id": names, "title": names, "text": [f"text of {name}" for name in names]}
    )
    points = unit(np.asarray(points, np.float32))
    return Sample(frame, answers, labels, points, points, unit(np.asarray(answer_points)))


def dataset(queries, labels, answers=(("a1", "One", "text of one"),)):
    """From rows of (id, type, thread, text), (query, answer, split) and (id, title, text)."""
    rows = [(*answer, None, None) for answer in answers]
    return Dataset(
        name="made",
        answers=pl.DataFrame(rows, schema=ANSWERS, orient="row"),
        queries=pl.DataFrame(queries, schema=QUERIES, orient="row"),
        labels=pl.DataFrame(labels, schema=LABELS, orient="row"),
    )


@pytest.fixture(scope="session")
def encoder(tiny_model):
    return Encoder(str(tiny_model), max_tokens=16, precision="fp32")


@pytest.fixture(scope="session")
def store():
    return FeatureStore()
