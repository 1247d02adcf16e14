import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel
from typer.testing import CliRunner

from twinrank.cli.common import app
from twinrank.encoding import Encoder, FeatureStore
from twinrank.errors import TwinrankError
from twinrank.planning import (
    CONSTANTS,
    Machine,
    Shape,
    Workload,
    build_workload,
    count_step,
    find_machine,
    format_duration,
    plan,
    read_shape,
)
from twinrank.ranking import Passages
from twinrank.recipe import Recipe
from twinrank.training.tower_modules import Past, Towers

CORES = Machine(cores=16, memory=64e9)
GROWING = ("answers", "queries", "qps", "sections", "passage_tokens", "query_tokens", "validation")
SIZES = ("plan", "--answers", "1e8", "--queries", "1e9", "--qps", "5000")


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


def by_stage(workload, machine=CORES, **options):
    return {needs.stage: needs for needs in plan(workload, machine, **options).stages}


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(GROWING),
    factor=st.floats(1.0, 1e3),
    gpu=st.sampled_from([None, "h200", "l4"]),
)
def test_more_of_anything_never_needs_less(even, name, factor, gpu):
    machine = find_machine(gpu=gpu, cpu=16, memory_gb=1e9)  # room for all: workers stay as many
    before = by_stage(even, machine)
    larger = replace(even, **{name: getattr(even, name) * factor})
    for stage, needs in by_stage(larger, machine).items():
        for measure in ("memory", "disk", "seconds", "machines"):
            least = getattr(before[stage], measure) * (1 - 1e-9)
            assert getattr(needs, measure) >= least, (stage, measure)


@settings(deadline=None, max_examples=30)
@given(cores=st.integers(1, 512), more=st.integers(0, 512), gb=st.floats(1, 1e4))
def test_a_larger_machine_never_needs_more_of_them_or_more_time(even, cores, more, gb):
    small = by_stage(even, Machine(cores, gb * 1e9))
    large = by_stage(even, Machine(cores + more, 2 * gb * 1e9))
    for stage, needs in large.items():
        assert needs.machines <= small[stage].machines, stage
        assert needs.seconds <= small[stage].seconds * (1 + 1e-9), stage


def test_stages_are_those_of_the_recipe(even):
    def stages(name):
        return set(by_stage(replace(even, recipe=Recipe.load(name))))

    assert stages("bm25") == {"words and weights", "serving, all answers"}
    assert not any("training" in stage for stage in stages("zero-shot"))
    assert "words and weights" in stages("even") - stages("residual")


def test_what_does_not_fit_is_said_with_what_to_do(even):
    huge = replace(even, answers=1e8, queries=1e9, qps=5000)
    stages = by_stage(huge, find_machine(gpu="h200"))
    for stage in ("encode", "training, sampled index", "serving, by FAISS HNSW"):
        assert not stages[stage].fits and stages[stage].mend, stage
    assert stages["index, Milvus"].fits and stages["index, Milvus"].machines > 1


def test_training_and_index_are_as_they_would_be_at_that_size(even):
    small, large = (by_stage(replace(even, answers=answers)) for answers in (1e3, 1e6))
    assert {"training, exact index", "index, FAISS flat"} <= set(small)
    assert {"training, sampled index", "index, FAISS hnsw"} <= set(large)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda even: plan(replace(even, answers=0), CORES),
            "answers is 0; give a number of 1 or more",
        ),
        (lambda even: plan(even, CORES, within_hours=0.0), "within is 0"),
        (lambda even: find_machine(gpu="h900"), "no GPU is called 'h900' here; choose one of a100"),
        (lambda even: plan(even, find_machine(memory_gb=float("nan"))), "memory is nan"),
        (lambda even: build_workload(even.recipe, answers=1e6), "give --answers and --queries"),
        (
            lambda even: build_workload(Recipe.load("even-tuned"), answers=9, queries=9),
            "tuning of the encoder is not planned",
        ),
    ],
)
def test_nonsense_is_refused(even, make, message):
    with pytest.raises(TwinrankError, match=message):
        make(even)


def test_an_encoder_multiplies_what_torch_counts(tiny_model):
    model = BertModel.from_pretrained(
        tiny_model, attn_implementation="eager", add_pooling_layer=False
    ).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(1, 40, dtype=torch.long))
    flop = read_shape(str(tiny_model)).flop(40)
    assert flop == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_a_step_multiplies_what_torch_counts(even):
    w = replace(even, answers=40.0, sections=5.0, queries=300.0)
    towers = Towers.for_recipe(w.recipe, w.encoder.width)
    features, queries = torch.randn(200, w.encoder.width), torch.randn(128, w.encoder.width)
    past = Past(torch.randn(300, w.encoder.width), torch.arange(300), torch.arange(300) % 40)
    owner = np.repeat(np.arange(40), 5)
    with FlopCounterMode(display=False) as counter:
        passages = Passages(towers.answer(features), owner, 40)
        towers.scores(towers.query(queries), passages, past).sum().backward()
    assert count_step(w, CORES, sampled=False)["step_flop"] == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )


def test_the_store_takes_the_bytes_that_are_planned(tiny_model, tmp_path):
    encoder = Encoder(str(tiny_model), max_tokens=16, precision="fp32")
    encoder.width = 384

    def batches(encoder, texts):
        yield np.arange(len(texts)), np.ones((len(texts), 2, encoder.width), np.float32)

    store = FeatureStore(tmp_path, batches=batches)
    store.features(encoder, [f"text number {i}" for i in range(3_000)], "mean")
    disk = CONSTANTS["encode"]["disk"]
    planned = 3_000 * (disk["texts"] + encoder.width * disk["text_floats"])
    (file,) = tmp_path.glob("*.sqlite")
    assert file.stat().st_size == pytest.approx(planned, rel=0.1)


def test_a_data_set_says_how_long_its_texts_are(help_centre, recipe_files):
    fused = Recipe.load(recipe_files["fused"])
    w = build_workload(fused, data=help_centre)
    assert (w.answers, w.queries) == (help_centre.answers.height, len(help_centre.split("train")))
    assert w.sections > 1 and w.passage_tokens <= 64 and w.epochs == 8
    larger = build_workload(fused, answers=1e6, data=help_centre)
    assert (larger.answers, larger.sections) == (1e6, w.sections)


def test_a_plan_is_a_table_and_its_assumptions():
    def run(*args):
        return CliRunner().invoke(app, args, env={"COLUMNS": "200"})

    shown = run(*SIZES, "--gpu", "h200").stdout
    assert "100,000,000 answers" in shown and "H200 141 GB SXM" in shown
    assert "does not fit" in shown and " ! serving, all answers takes " in shown
    for source in ("measured: ", "published: ", "assumed, as ", "not planned: "):
        assert f" - {source}" in shown
    both = run(*SIZES, "--gpu", "h200", "--cpu", "8")
    assert both.exit_code == 2 and "not both" in both.stderr
    values = json.loads(run(*SIZES, "--json").stdout)
    assert values["answers"] == 1e8 and values["stages"][0]["stage"] == "encode"


def test_durations_have_units():
    times = {2e-3: "2 ms", 12: "12 s", 90: "1.5 min", 4320: "1.2 h", 7.2e6: "2,000 h"}
    assert {number: format_duration(number) for number in times} == times
