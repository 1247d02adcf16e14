import pytest

from twinrank.errors import RecipeError
from twinrank.experiments.sweep_ranges import Between, Choices, Ranges
from twinrank.recipe import Recipe

NESTED = """
[training]
learning_rate = {low = 1e-5, high = 1e-2, log = true}
batch_size = {low = 16, high = 64}
index = {choices = ["exact", "stale"]}
[towers]
dropout = {low = 0, high = 0.5}
"""
DOTTED = """
"training.learning_rate" = {low = 1e-5, high = 1e-2, log = true}
training.batch_size = {low = 16, high = 64}
"training.index" = {choices = ["exact", "stale"]}
"towers.dropout" = {low = 0, high = 0.5}
"""


@pytest.fixture
def load(tmp_path):
    def loaded(toml, recipe="residual"):
        file = tmp_path / "ranges.toml"
        file.write_text(toml)
        return Ranges.load(file, Recipe.load(recipe))

    return loaded


@pytest.mark.parametrize("toml", [NESTED, DOTTED])
def test_a_file_looks_like_a_recipe_or_names_its_fields(load, toml):
    assert dict(load(toml).fields) == {
        "training.learning_rate": Between(low=1e-5, high=1e-2, log=True),
        "training.batch_size": Between(low=16, high=64),
        "training.index": Choices(choices=("exact", "stale")),
        "towers.dropout": Between(low=0.0, high=0.5),
    }


def test_numbers_are_of_the_type_of_their_field(load):
    dropout, batch = (
        load(NESTED).fields[path] for path in ("towers.dropout", "training.batch_size")
    )
    assert [type(bound) for bound in dropout.bounds] == [float, float]
    assert [type(bound) for bound in batch.bounds] == [int, int]


def test_without_a_file_it_is_the_handovers_four():
    usual = Ranges.load(None, Recipe.load("handover-dual"))
    assert [path.split(".")[1] for path in usual.fields] == [
        *("dropout", "learning_rate", "batch_size", "weight_decay")
    ]
    assert usual.start(Recipe.load("handover-dual"))["training.learning_rate"] == 1.4e-3


def test_a_recipe_beyond_the_ranges_is_no_start(load):
    assert load("training.batch_size = {low = 100, high = 200}").start(Recipe.load("even"))
    assert load("training.batch_size = {low = 200, high = 300}").start(Recipe.load("even")) is None
    assert load("training.index = {choices = ['auto', 'stale']}").start(Recipe.load("even"))


RATE = "training.learning_rat = {low = 1e-5, high = 1e-2}"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (RATE, r"did you mean training\.learning_rate\?"),
        ("optimiser.speed = {low = 1, high = 2}", "has no such field; it has encoder.name"),
        ("name = {choices = ['a', 'b']}", "name: the recipe residual has no such field"),
        ("memory.newcomer = {low = 1.0, high = 9.0}", r"has no \[memory\] table; add one"),
        ("towers.dropout = {low = 0.1, high = 1.5}", r"towers\.dropout = 1\.5: .*less than 1"),
        ("training.batch_size = {low = 1.5, high = 9}", r"batch_size = 1\.5: .*integer"),
        ("training.index = {choices = ['exact', 'new']}", r"index = 'new': .*'auto', 'exact'"),
        ("towers.dual = {low = 0, high = 1}", r"is no number; give choices = \[...\] instead"),
        ("towers.dropout = {low = 0.5, high = 0.1}", "low has to be below high"),
        ("towers.dropout = {low = 0.0, high = 0.1, log = true}", "low has to be above zero"),
        ("towers.dropout = {low = 0.0, high = nan}", "finite number"),
        ("towers.dropout = {low = 0.0}", r"towers\.dropout\.high: Field required"),
        ("towers.dropout = {low = 0.0, high = 0.1, step = 1}", r"step: Extra inputs"),
        ("towers.dropout = {choices = [0.1]}", "at least 2 items"),
        ("towers.dropout = {choices = [0.1, 0.1]}", "a choice is there twice"),
        ("towers.dropout = 0.1", r"towers\.dropout is no range; write, for example"),
        ("", "no ranges; write, for example"),
        ("towers = [", "not valid TOML"),
    ],
)
def test_what_cannot_be_varied_is_one_line_with_the_file_and_the_mend(load, toml, message):
    with pytest.raises(RecipeError, match=r"ranges\.toml: .*" + message):
        load(toml)


def test_a_missing_file_and_a_recipe_without_the_usual_fields(tmp_path):
    with pytest.raises(RecipeError, match=r"gone\.toml: no such file"):
        Ranges.load(tmp_path / "gone.toml", Recipe.load("residual"))
    with pytest.raises(RecipeError, match=r"--ranges\): .*bm25 has no \[towers\] table"):
        Ranges.load(None, Recipe.load("bm25"))
