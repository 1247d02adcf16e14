"""A whole study of the handover's recipes on the tiny encoder, a few epochs each."""

import pytest

from twinrank.encoding import FeatureStore
from twinrank.experiments import Plan, run_study
from twinrank.recipe import Recipe

PLAN = Plan(
    name="small",
    recipes=(
        "bm25",
        "zero-shot-cls",
        "handover-baseline",
        "handover-dual",
        "handover-barlow-zero-shot",
        "handover-barlow-inherit",
        "handover-barlow-freeze",
        "zero-shot",
        "residual",
        "barlow-inherit",
    ),
    controls=(
        *("control-no-steps", "control-across", "control-large-answers"),
        "control-across-freeze",
    ),
    few_labels=("residual", "barlow-inherit"),
    shares=(0.25,),
    rare=0.25,
    few_seeds=1,
    pictured=("zero-shot-cls", "handover-barlow-freeze"),
    reading=(("handover-sections", "handover-dual"), ("tfidf-128", "residual")),
)


@pytest.fixture(scope="package")
def study(tiny_model, help_centre, tmp_path_factory):
    load = Recipe.load

    def tiny(name):
        if isinstance(name, Recipe):
            return name
        values = load(name).values()
        if "encoder" in values:
            values["encoder"] |= {"name": str(tiny_model), "max_tokens": 64, "precision": "fp32"}
        for stage in ("pretraining", "training"):
            if values.get(stage):
                values[stage]["epochs"] = 2
        return Recipe.validated(values, source=name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recipe, "load", tiny)
        out = tmp_path_factory.mktemp("study")
        return run_study(PLAN, help_centre, seeds=2, out=out, store=FeatureStore(), workers=1)
