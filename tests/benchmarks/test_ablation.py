import pytest

from ablation import WITHOUT, varied
from twinrank.recipe import Recipe


@pytest.fixture
def everything():
    """`even`, with the options that it leaves out."""
    even = Recipe.load("even")
    options = {"label_smoothing": 0.1, "even": 0.1}
    return even.model_copy(update={"training": even.training.model_copy(update=options)})


@pytest.mark.parametrize("name", WITHOUT)
def test_a_variant_lacks_one_part(everything, name):
    values = varied(everything, name).model_dump()
    changed = {table for table, value in everything.model_dump().items() if values[table] != value}
    assert changed == {"name", *WITHOUT[name]}


def test_what_a_recipe_does_not_have_cannot_be_taken_out():
    residual = Recipe.load("residual")
    assert varied(residual, "memory") is None
    assert varied(residual, "offsets") is None
    assert varied(Recipe.load("even"), "smoothing") is None
