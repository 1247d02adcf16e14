import math
from collections import Counter
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from twinrank.encoding import FeatureStore
from twinrank.evaluation import signs_of_collapse
from twinrank.evaluation.geometry import read_vectors
from twinrank.training import train


@pytest.fixture(scope="module")
def ranker(recipes, help_centre):
    return train(help_centre, recipes["zero-shot"], store=FeatureStore())


def test_signs_are_those_of_loops_over_single_vectors(ranker, help_centre):
    signs = signs_of_collapse(ranker, help_centre)
    queries, points, answers = read_vectors(ranker, help_centre, "test")
    past, past_points, _ = read_vectors(ranker, help_centre, "train")
    right = [set(row.indices) for row in queries.labels]
    past_right = [set(row.indices) for row in past.labels]
    solved, ratios, dot, cosine, first = 0, [], 0, 0, Counter()
    for point, own in zip(points, right, strict=True):
        nearest = min(range(len(past_points)), key=lambda i: math.dist(point, past_points[i]))
        solved += bool(own & past_right[nearest])
        distances = [math.dist(point, answer) for answer in answers]
        near = np.mean([distances[j] for j in own])
        ratios.append(near / np.mean([d for j, d in enumerate(distances) if j not in own]))
        products = [float(point @ answer) for answer in answers]
        angles = [p / np.linalg.norm(answers[j]) for j, p in enumerate(products)]
        first[int(np.argmax(products))] += 1
        dot += bool(own & set(np.argsort(products)[-3:]))
        cosine += bool(own & set(np.argsort(angles)[-3:]))
    n = len(points)
    assert signs.figures["nearest_past_query"] == pytest.approx(solved / n)
    assert signs.figures["right_over_wrong"] == pytest.approx(np.mean(ratios))
    assert signs.figures["dot_accuracy"] == pytest.approx(dot / n)
    assert signs.figures["cosine_accuracy"] == pytest.approx(cosine / n)
    common = first.most_common(3)
    assert signs.figures["first_places"] == pytest.approx(sum(c for _, c in common) / n)
    assert [round(hub["share"] * n) for hub in signs.hubs] == [c for _, c in common]
    assert signs.hubs[0]["title"] == ranker.answers["title"][common[0][0]]


def test_on_train_a_query_is_not_its_own_past(ranker, help_centre):
    assert signs_of_collapse(ranker, help_centre, split="train").figures["nearest_past_query"] < 1


def test_where_every_answer_is_right_no_figure_is_undefined(ranker, help_centre):
    ids = help_centre.split("test").frame["id"]
    pairs = ids.to_frame("query").join(help_centre.answers.select(answer="id"), how="cross")
    others = help_centre.labels.filter(pl.col("split") != "test")
    every = pairs.with_columns(split=pl.lit("test")).select(others.columns)
    dataset = replace(help_centre, labels=pl.concat([others, every]))
    figures = signs_of_collapse(ranker, dataset).figures
    assert all(math.isfinite(value) for value in figures.values())


def test_the_plane_has_queries_and_answers(ranker, help_centre):
    signs = signs_of_collapse(ranker, help_centre)
    sides = Counter(signs.plane["side"])
    assert sides == {
        "query": help_centre.split("test").frame.height,
        "answer": ranker.answers.height,
    }
    queries = signs.plane.filter(signs.plane["side"] == "query")
    assert signs.figures["axis_low"] == pytest.approx(queries["x"].min())
    assert signs.figures["axis_high"] == pytest.approx(queries["x"].max())
    assert queries["x"].var() > queries["y"].var()
    assert signs.explained[0] == pytest.approx(signs.figures["first_axis"])
