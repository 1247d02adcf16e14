import pytest

from twinrank.errors import TwinrankError
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
    fields = dict(load(toml).fields)
    assert fields == {
        "training.learning_rate": Between(low=1e-5, high=1e-2, log=True),
        "training.batch_size": Between(low=16, high=64),
        "training.index": Choices(choices=("exact", "stale")),
        "towers.dropout": Between(low=0.0, high=0.5),
    }
    # Numbers are of the type of their field.
    assert [type(fields[f"{name}"].low) for name in ("towers.dropout", "training.batch_size")] == [
        *(float, int)
    ]


def test_without_a_file_it_is_the_handovers_four():
    usual = Ranges.load(None, Recipe.load("handover-dual"))
    assert [path.split(".")[1] for path in usual.fields] == [
        *("dropout", "learning_rate", "batch_size", "weight_decay")
    ]
    assert usual.start(Recipe.load("handover-dual"))["training.learning_rate"] == 1.4e-3
    with pytest.raises(TwinrankError, match=r"--ranges\): .*bm25 has no \[towers\] table"):
        Ranges.load(None, Recipe.load("bm25"))


def test_a_recipe_beyond_the_ranges_is_no_start(load):
    assert load("training.batch_size = {low = 100, high = 200}").start(Recipe.load("even"))
    assert load("training.batch_size = {low = 200, high = 300}").start(Recipe.load("even")) is None


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            "training.learning_rat = {low = 1e-5, high = 1e-2}",
            r"learning_rat: no such field",
        ),
        ("optimiser.speed = {low = 1, high = 2}", r"has no \[optimiser\] table"),
        ("memory.newcomer = {low = 1.0, high = 9.0}", r"has no \[memory\] table"),
        ("name = {choices = ['a', 'b']}", r"has no \[name\] table"),
        ("towers.dropout = {low = 0.1, high = 1.5}", r"towers\.dropout = 1\.5: .*less than 1"),
        ("training.index = {choices = ['exact', 'new']}", r"index = 'new': .*'auto', 'exact'"),
        ("towers.dropout = {low = 0.5, high = 0.1}", "low has to be below high"),
        ("towers.dropout = {low = 0.0, high = nan}", "finite number"),
        ("towers.dropout = {low = 0.0}", r"towers\.dropout\.high: Field required"),
        ("towers.dropout = {choices = [0.1]}", "at least 2 items"),
        ("towers.dropout = 0.1", r"towers\.dropout: .*write, for example"),
        ("", "no ranges; write, for example"),
        ("towers = [", "not valid TOML"),
    ],
)
def test_a_range_that_is_none_is_one_line_with_the_file_and_the_mend(load, toml, message):
    with pytest.raises(TwinrankError, match=r"ranges\.toml: .*" + message):
        load(toml)
