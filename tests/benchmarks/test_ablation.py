import pytest

from ablation import WITHOUT, varied
from twinrank.recipe import Recipe


@pytest.mark.parametrize("name", WITHOUT)
def test_a_variant_lacks_one_part(name):
    everything = Recipe.load("even")
    values = varied(everything, name).model_dump()
    changed = {table for table, value in everything.model_dump().items() if values[table] != value}
    assert changed == {"name", *WITHOUT[name]}


def test_what_a_recipe_does_not_have_cannot_be_taken_out():
    residual = Recipe.load("residual")
    assert varied(residual, "memory") is None
    assert varied(residual, "offsets") is None
