"""A whole study of the handover's recipes on the tiny encoder, a few epochs each."""

import pytest

from twinrank.encoding import FeatureStore
from twinrank.experiments import handover_study, run_study
from twinrank.recipe import Recipe

CHOICES = {
    "RECIPES": (
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
    "CONTROLS": (
        *("control-no-steps", "control-across", "control-large-answers"),
        "control-across-freeze",
    ),
    "FEW_LABELS": ("residual", "barlow-inherit"),
    "SHARES": (0.25,),
    "RARE_SHARE": 0.25,
    "MAX_FEW_SEEDS": 1,
    "PICTURED": ("zero-shot-cls", "handover-barlow-freeze"),
    "READING": (("handover-sections", "handover-dual"), ("tfidf-128", "residual")),
}


@pytest.fixture(scope="package")
def home(tiny_model, tmp_path_factory):
    """The folder of the runs; as long as it is in use, a study has the choices above."""
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
        for name, value in CHOICES.items():
            patch.setattr(handover_study, name, value)
        yield tmp_path_factory.mktemp("study")


@pytest.fixture(scope="package")
def study(help_centre, home):
    return run_study(help_centre, seeds=2, out=home, store=FeatureStore(), workers=1)
