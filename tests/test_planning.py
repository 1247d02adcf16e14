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
from twinrank.errors import PlanError
from twinrank.planning import (
    Machine,
    Shape,
    Workload,
    build_workload,
    find_machine,
    load_constants,
    plan,
    read_shape,
)
from twinrank.planning.estimate import Estimate, format_duration, format_size, stored_text_bytes
from twinrank.ranking import Passages
from twinrank.recipe import Recipe
from twinrank.training.tower_modules import Past, Towers

GPUS = ("a100", "h100", "h200", "l4", "l40s")
SIZES = ("plan", "--answers", "1e8", "--queries", "1e9", "--qps", "5000")


@pytest.fixture(scope="session")
def constants():
    return load_constants()


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


@pytest.fixture(scope="session")
def stale(even) -> Workload:
    training = even.recipe.training.model_copy(update={"index": "stale"})
    return replace(even, recipe=even.recipe.model_copy(update={"training": training}))


CORES = Machine(cores=16, memory=64e9)
GROWING = ("answers", "queries", "qps", "sections", "passage_tokens", "query_tokens", "validation")


def by_stage(found):
    return {needs.stage: needs for needs in found.stages}


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(GROWING),
    factor=st.floats(1.0, 1e3),
    gpu=st.sampled_from([None, *GPUS]),
)
def test_more_of_anything_never_needs_less(even, constants, name, factor, gpu):
    machine = find_machine(gpu=gpu, cpu=16, memory_gb=1e9)  # room for all: workers stay as many
    before = by_stage(plan(even, machine, constants))
    larger = replace(even, **{name: getattr(even, name) * factor})
    for stage, needs in by_stage(plan(larger, machine, constants)).items():
        old = before[stage]
        assert needs.memory >= old.memory * (1 - 1e-9), stage
        assert needs.disk >= old.disk * (1 - 1e-9), stage
        assert needs.seconds >= old.seconds * (1 - 1e-9), stage
        assert needs.machines >= old.machines, stage


@settings(deadline=None, max_examples=30)
@given(cores=st.integers(1, 512), more=st.integers(0, 512), gb=st.floats(1, 1e4))
def test_a_larger_machine_never_needs_more_of_them_or_more_time(even, constants, cores, more, gb):
    small = by_stage(plan(even, Machine(cores, gb * 1e9), constants))
    large = by_stage(plan(even, Machine(cores + more, 2 * gb * 1e9), constants))
    for stage, needs in large.items():
        assert needs.machines <= small[stage].machines, stage
        assert needs.seconds <= small[stage].seconds * (1 + 1e-9), stage
        assert needs.fits or not small[stage].fits, stage


def test_what_grows_with_answers_alone_doubles_with_them(even, constants):
    once = by_stage(plan(even, CORES, constants))
    twice = by_stage(plan(replace(even, answers=2 * even.answers), CORES, constants))
    for stage in ("index, FAISS flat", "index, Milvus"):
        assert twice[stage].disk == pytest.approx(2 * once[stage].disk)
        assert twice[stage].seconds == pytest.approx(2 * once[stage].seconds)
    both = replace(even, answers=2 * even.answers, queries=2 * even.queries)
    all_twice = by_stage(plan(replace(both, validation=2e3), CORES, constants))
    assert all_twice["feature store"].disk == pytest.approx(2 * once["feature store"].disk)
    assert all_twice["encode"].seconds == pytest.approx(2 * once["encode"].seconds)


def test_encoding_takes_as_many_machines_as_the_hours_ask_for(even, constants):
    seconds = by_stage(plan(even, CORES, constants))["encode"].seconds
    hours = seconds / 3600 / 4.5
    assert by_stage(plan(even, CORES, constants, within_hours=hours))["encode"].machines == 5


def test_serving_doubles_with_the_questions(even, constants):
    busy = replace(even, qps=1e6)
    once = by_stage(plan(busy, CORES, constants))["serving, by FAISS HNSW"]
    twice = by_stage(plan(replace(busy, qps=2e6), CORES, constants))["serving, by FAISS HNSW"]
    assert twice.machines == pytest.approx(2 * once.machines, abs=1)
    assert twice.seconds == once.seconds


def test_stages_are_those_of_the_recipe(even, constants):
    def stages(name):
        return set(by_stage(plan(replace(even, recipe=Recipe.load(name)), CORES, constants)))

    assert stages("bm25") == {"words and weights", "serving, all answers"}
    assert not any("training" in stage for stage in stages("zero-shot"))
    assert "training, exact index" in stages("residual")
    assert "words and weights" not in stages("residual")
    assert "words and weights" in stages("even")


def test_the_index_of_the_recipe_is_marked(even, stale, constants):
    small = replace(even, answers=700.0)
    for workload, chosen in ((small, "exact"), (even, "sampled"), (stale, "stale")):
        stages = by_stage(plan(workload, CORES, constants))
        for index in ("exact", "sampled", *(["stale"] if chosen == "stale" else [])):
            note = stages[f"training, {index} index"].note
            assert note.startswith("as the recipe has it") == (index == chosen)


def test_what_does_not_fit_says_so(even, constants):
    huge = replace(even, answers=1e8, queries=1e9, qps=5000)
    stages = by_stage(plan(huge, find_machine(gpu="h200"), constants))
    for stage in ("encode", "training, exact index", "serving, by FAISS HNSW"):
        assert not stages[stage].fits and stages[stage].mend, stage
    assert stages["training, exact index"].room == 141e9
    for stage, needs in stages.items():
        less = replace(huge, answers=1e8 * needs.share, queries=1e9 * needs.share)
        assert by_stage(plan(less, find_machine(gpu="h200"), constants))[stage].fits, stage
        if not needs.fits:
            more = replace(huge, answers=1.02e8 * needs.share, queries=1.02e9 * needs.share)
            assert not by_stage(plan(more, find_machine(gpu="h200"), constants))[stage].fits, stage
    assert stages["index, Milvus"].fits and stages["index, Milvus"].machines > 1


def test_every_constant_that_a_stage_reads_is_an_assumption_of_the_plan(even, constants):
    for machine in (CORES, find_machine(gpu="l4")):
        estimated = plan(even, machine, constants)
        lines = "\n".join(estimated.assumptions)
        assert all(stage.rests_on for stage in estimated.stages if stage.memory)
        for name in {name for stage in estimated.stages for name in stage.rests_on}:
            assert constants.line(name) in lines
        assert len(set(estimated.assumptions)) == len(estimated.assumptions)
    assert "published: L4 24 GB: 24 GB at 300 GB/s" in lines
    assert "none was measured" in lines and "processor cores beside a GPU: 16" in lines


def test_a_plan_is_json(even, constants):
    values = json.loads(json.dumps(plan(even, CORES, constants).as_dict()))
    assert values["answers"] == 1e5 and values["recipe"] == "even"
    assert values["stages"][0]["stage"] == "encode"
    for stage in values["stages"]:
        assert {"memory", "disk", "seconds", "machines", "fits"} <= set(stage)


@pytest.mark.parametrize(("field", "value"), [("answers", 0), ("queries", -1), ("qps", -1)])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_nonsense_is_refused(even, field, value, bad):
    with pytest.raises(PlanError, match=rf"{field} is .*give a number of"):
        replace(even, **{field: value if bad is None else bad})


@pytest.mark.parametrize("hours", [0.0, -3.0, float("nan")])
def test_no_time_is_refused(even, constants, hours):
    with pytest.raises(PlanError, match="is no time"):
        plan(even, CORES, constants, within_hours=hours)


def test_unknown_machines_are_refused():
    with pytest.raises(PlanError, match="no GPU is called 'h900' here; choose one of a100, "):
        find_machine(gpu="h900")
    with pytest.raises(PlanError, match="memory is nan GB"):
        find_machine(cpu=4, memory_gb=float("nan"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no TOML"),
        ("[measured]\nspeed = 3", "no constant is called speed"),
        ("[assumed]\nepochs = -1", "epochs is -1; give a number of 0 or more"),
        ("epochs = nan", "epochs is nan"),
        (None, "no such file"),
    ],
)
def test_constants_that_are_none_are_refused(tmp_path, content, message):
    file = tmp_path / "constants.toml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PlanError, match=message):
        load_constants(file)


def test_constants_of_another_machine_are_taken(tmp_path, even):
    file = tmp_path / "constants.toml"
    file.write_text('[source]\non = "mine"\n[measured]\nencode_flop_s = 1e9')
    slower = plan(even, CORES, load_constants(file))
    assert by_stage(slower)["encode"].seconds > by_stage(plan(even, CORES))["encode"].seconds
    assert any("mine" in line for line in slower.assumptions)


@pytest.mark.parametrize("tokens", [8, 40, 64])
def test_an_encoder_multiplies_what_torch_counts(tiny_model, tokens):
    model = BertModel.from_pretrained(
        tiny_model, attn_implementation="eager", add_pooling_layer=False
    ).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(1, tokens, dtype=torch.long))
    flop = read_shape(str(tiny_model)).flop(tokens)
    assert flop == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_an_encoder_that_does_not_say_its_shape_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": "six"}))
    with pytest.raises(PlanError, match=r"config\.json names no num_hidden_layers"):
        read_shape(str(folder))


def test_a_step_multiplies_what_torch_counts(even, constants):
    w = replace(even, answers=40.0, sections=5.0, queries=300.0)
    towers = Towers.for_recipe(w.recipe, w.encoder.width)
    features, queries = torch.randn(200, w.encoder.width), torch.randn(128, w.encoder.width)
    past = Past(torch.randn(300, w.encoder.width), torch.arange(300), torch.arange(300) % 40)
    owner = np.repeat(np.arange(40), 5)
    with FlopCounterMode(display=False) as counter:
        passages = Passages(towers.answer(features), owner, 40)
        towers.scores(towers.query(queries), passages, past).sum().backward()
    step = Estimate(w, CORES, constants).training_step("exact")
    assert step.flop == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_store_takes_the_bytes_that_are_planned(tiny_model, tmp_path):
    encoder = Encoder(str(tiny_model), max_tokens=16, precision="fp32")
    encoder.dim = 384

    def batches(encoder, texts):
        yield np.arange(len(texts)), np.ones((len(texts), 2, encoder.dim), np.float32)

    store = FeatureStore(tmp_path, batches=batches)
    store.features(encoder, [f"text number {i}" for i in range(3_000)], "mean")
    planned = 3_000 * stored_text_bytes(encoder.dim)
    assert store.entries()[0].bytes == pytest.approx(planned, rel=0.1)


def test_a_data_set_says_how_long_its_texts_are(help_centre, recipe_files):
    fused = Recipe.load(recipe_files["fused"])
    w = build_workload(fused, data=help_centre)
    assert (w.answers, w.queries) == (help_centre.answers.height, len(help_centre.split("train")))
    assert w.sections > 1 and w.passage_tokens <= 64 and w.epochs == 8
    assert w.source == "counted in help-centre"
    larger = build_workload(fused, answers=1e6, data=help_centre)
    assert (larger.answers, larger.sections) == (1e6, w.sections)
    assert build_workload(Recipe.load(recipe_files["towers"]), data=help_centre).sections == 1


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(PlanError, match="give --answers and --queries, or a data set"):
        build_workload(Recipe.load("even"), answers=1e6)
    for name, stage in (("even-tuned", "tuning of the encoder"), ("barlow-joint", "pre-training")):
        with pytest.raises(PlanError, match=f"{stage} is not planned"):
            build_workload(Recipe.load(name), answers=10, queries=10)


def run(*args):
    return CliRunner().invoke(app, args, env={"COLUMNS": "200"})


def test_a_plan_is_a_table_and_its_assumptions():
    shown = run(*SIZES, "--gpu", "h200").stdout
    assert "100,000,000 answers" in shown and "H200 141 GB SXM" in shown
    for stage in ("encode", "feature store", "training, exact index", "index, FAISS HNSW"):
        assert stage in shown
    assert "does not fit" in shown and " ! serving, all answers takes " in shown
    for source in ("measured: ", "published: ", "assumed: ", "not planned: "):
        assert f" - {source}" in shown


def test_a_machine_is_one_or_the_other():
    result = run(*SIZES, "--gpu", "h200", "--cpu", "8")
    assert result.exit_code == 2 and "not both" in result.stderr


def test_figures_have_units():
    sizes = {12: "12 B", 1.5e3: "1.5 kB", 2.34e9: "2.34 GB", 5e13: "50 TB", 2e18: "2,000 PB"}
    assert {number: format_size(number) for number in sizes} == sizes
    times = {2e-3: "2 ms", 12: "12 s", 90: "1.5 min", 4320: "1.2 h", 7.2e6: "2,000 h"}
    assert {number: format_duration(number) for number in times} == times
