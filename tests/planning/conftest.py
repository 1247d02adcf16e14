from dataclasses import replace

import pytest

from twinrank.planning import Measured, Shape, Workload
from twinrank.recipe import Recipe


@pytest.fixture(scope="session")
def measured() -> Measured:
    return Measured.load()


@pytest.fixture(scope="session")
def even() -> Workload:
    return Workload(
        recipe=Recipe.load("even"),
        encoder=Shape(layers=6, width=384, inner=1536),
        answers=1e5,
        queries=1e6,
        qps=100.0,
        sections=6.0,
        passage_tokens=130.0,
        query_tokens=90.0,
        validation=1e3,
        epochs=12.0,
        source="a test",
    )


@pytest.fixture(scope="session")
def stale(even) -> Workload:
    training = even.recipe.training.model_copy(update={"index": "stale"})
    return replace(even, recipe=even.recipe.model_copy(update={"training": training}))
