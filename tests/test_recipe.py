import pytest

from twinrank.errors import TwinrankError
from twinrank.recipe import Recipe, recipe_names


def recipe(**tables):
    towers = {"kind": "residual"}
    return {"name": "mine", "encoder": {}, "towers": towers, "training": {}, **tables}


def test_every_named_recipe_loads_and_keeps_its_name():
    assert [Recipe.load(name).name for name in recipe_names()] == list(recipe_names())
    assert {"handover-barlow-freeze", "barlow-joint", "control-shuffled"} < set(recipe_names())


def test_values_make_the_same_recipe_again():
    for name in recipe_names():
        made = Recipe.load(name)
        assert Recipe.validated(made.values(), source=name) == made


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"training": None}, "go together"),
        ({"pretraining": {"use": "zero-shot"}}, "takes single \\[towers\\], and no \\[training\\]"),
        ({"towers": None, "training": None, "pretraining": {"use": "freeze"}}, "to pre-train"),
        ({"pretraining": {"use": "freeze", "weight": 2.0}}, "weight has no effect"),
        ({"pretraining": {"use": "joint", "epochs": 3}}, "epochs has no effect"),
        ({"pretraining": {"use": "inherit", "min_pairs": 9}}, "min_pairs has no effect"),
        ({"pretraining": {"use": "inherit", "statistics": "all"}}, "statistics has no effect"),
        (
            {"pretraining": {"use": "inherit", "pairing": "within-answer", "shuffled": True}},
            "shuffled has no effect",
        ),
        ({"pretraining": {"use": "inherit", "pairing": "x"}}, "pretraining.pairing"),
        ({"pretraining": {"use": "inherit", "colour": 1}}, "pretraining.colour"),
        ({"memory": {}, "towers": {"kind": "projection"}}, "compares unit vectors"),
        ({"memory": {}, "towers": None, "training": None}, "stand beside towers"),
        ({"words": {}, "towers": None, "training": None}, "stand beside towers"),
        ({"words": {}, "language": "klingon"}, "'klingon' is not known; choose auto, arabic"),
        ({"encoder": {"text": "sections", "answers": "sections"}}, "give text = 'tfidf'"),
        ({"pretraining": {"use": "inherit", "batch_size": 1}}, "pretraining.batch_size"),
        ({"training": {"even": 0.1}}, "^mine.toml: training.even: no such field, or none any more"),
        ({"encoder": {"precision": "int8"}}, "encoder.precision: Input should be 'auto'"),
        ({"tuning": {"rank": 4}}, "rank has no effect with method = 'full'; leave it out"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(tables, message):
    values = {k: v for k, v in recipe(**tables).items() if v is not None}
    with pytest.raises(TwinrankError, match=message):
        Recipe.validated(values, source="mine.toml")
