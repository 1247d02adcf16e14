"""What a plan counts, beside what torch counts, and what the store writes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils.flop_counter import FlopCounterMode

from floor import flops
from plan_constants import shares
from twinrank.encoding import Encoder, FeatureStore, resolve
from twinrank.errors import PlanError
from twinrank.planning import Shape, workload_of
from twinrank.planning.encoding import text_bytes
from twinrank.planning.training import step_of
from twinrank.ranking import Passages, total
from twinrank.recipe import Recipe
from twinrank.training.index import ExactIndex, SampledIndex, StaleIndex
from twinrank.training.tower_modules import Past, towers_of


@pytest.mark.parametrize("tokens", [8, 40, 64])
def test_an_encoder_multiplies_what_torch_counts(tiny_model, tokens):
    counted = flops(resolve(str(tiny_model)))([tokens])
    assert Shape.of(str(tiny_model)).flop(tokens) == pytest.approx(
        counted, rel=5e-3
    )  # theirs has the pooler


def test_an_encoder_that_does_not_say_its_shape_is_refused(tiny_model, monkeypatch):
    from twinrank.planning import workload

    monkeypatch.setattr(workload, "NAMES", {**workload.NAMES, "layers": ("depth",)})
    with pytest.raises(PlanError, match=r"config\.json names no depth"):
        Shape.of(str(tiny_model))


@pytest.mark.parametrize("index", ["exact", "stale"])
def test_a_step_multiplies_what_torch_counts(even, index):
    w = replace(even, answers=40.0, sections=5.0, queries=300.0)
    towers = towers_of(w.recipe, w.width)
    features, queries = torch.randn(200, w.width), torch.randn(128, w.width)
    past = Past(torch.randn(300, w.width), torch.arange(300), torch.arange(300) % 40)
    kept = ExactIndex(features) if index == "exact" else StaleIndex(features, 50, seed=0)
    kept.refresh(towers, 0)  # a stale index begins with all
    owner = np.repeat(np.arange(40), 5)
    with FlopCounterMode(display=False) as counter:
        passages = Passages(kept.refresh(towers, 1), owner, 40)
        total(towers.parts(towers.query(queries), passages, past)).sum().backward()
    assert step_of(w, index).flop == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_sampled_step_multiplies_what_torch_counts(even):
    training = even.recipe.training.model_copy(update={"answer_sample": 64})
    recipe = even.recipe.model_copy(update={"training": training})
    w = replace(even, recipe=recipe, answers=4000.0, sections=5.0, queries=300.0)
    towers, queries = towers_of(recipe, w.width), torch.randn(128, w.width)
    answers = Passages(torch.randn(20_000, w.width), np.repeat(np.arange(4000), 5), 4000)
    labels = sparse.csr_array((np.ones(128), (np.arange(128), np.arange(128) * 31)), (128, 4000))
    past = Past(torch.randn(300, w.width), torch.arange(300), torch.arange(300) * 13)
    index = SampledIndex(answers, 64, seed=0)
    index.renew(towers)
    with FlopCounterMode(display=False) as counter:
        vectors = towers.query(queries)
        found = index.candidates(towers, vectors, labels, 0)
        voting, _ = past.among(found.places, 4000)
        total(towers.parts(vectors, found.passages, voting)).sum().backward()
    assert step_of(w, "sampled").flop == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_the_store_takes_the_bytes_that_are_planned(tiny_model, tmp_path):
    store = FeatureStore(tmp_path)
    encoder = Encoder(str(tiny_model), max_tokens=16, precision="fp32")
    store.features(encoder, [f"text number {i}" for i in range(300)], "mean")
    assert store.entries()[0].bytes == pytest.approx(300 * text_bytes(encoder.dim), rel=0.03)


def test_a_data_set_says_how_long_its_texts_are(help_centre, recipe_files):
    fused = Recipe.load(recipe_files["fused"])
    w = workload_of(fused, data=help_centre)
    assert (w.answers, w.queries) == (help_centre.answers.height, len(help_centre.split("train")))
    assert w.sections > 1 and w.passage_tokens <= 64 and w.epochs == 8
    assert w.source == "counted in help-centre"
    larger = workload_of(fused, answers=1e6, data=help_centre)
    assert (larger.answers, larger.sections) == (1e6, w.sections)
    whole = workload_of(Recipe.load(recipe_files["towers"]), data=help_centre)
    assert whole.sections == 1


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(PlanError, match="give --answers and --queries, or a data set"):
        workload_of(Recipe.load("even"), answers=1e6)
    for name, said in (("even-tuned", "tuning of the encoder"), ("barlow-joint", "pre-training")):
        with pytest.raises(PlanError, match=f"{said} is not planned"):
            workload_of(Recipe.load(name), answers=10, queries=10)


def test_costs_are_split_over_what_they_grow_with():
    rng = np.random.default_rng(0)
    rows = rng.uniform(1, 10, (12, 3)) * [1e9, 1e3, 1]
    costs = rows @ [2e-9, 0, 0.5] * rng.uniform(0.99, 1.01, 12)
    found = shares(rows.tolist(), costs.tolist())
    assert found[0] == pytest.approx(2e-9, rel=0.05)
    assert found[1] * 1e3 < 0.1 and min(found) >= 0
    assert found[2] == pytest.approx(0.5, rel=0.1)
