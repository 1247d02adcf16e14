from functools import cache

import pytest

from twinrank.encoding import FeatureStore
from twinrank.training import train

RECIPES = ["bm25", "zero-shot", "towers", "fused"]


@pytest.fixture(scope="session")
def fitted(recipes, help_centre):
    """A function that gives a copy of the ranker of a recipe, which is trained once."""
    store = FeatureStore()
    trained = cache(lambda name: train(help_centre, recipes[name], store=store))
    return lambda name: trained(name).copy()


@pytest.fixture(params=RECIPES)
def ranker(request, fitted):
    return fitted(request.param)


@pytest.fixture
def fused(fitted):
    return fitted("fused")
