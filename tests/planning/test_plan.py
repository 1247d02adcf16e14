import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinrank.errors import PlanError
from twinrank.planning import Assumed, Machine, Measured, machine_of, plan
from twinrank.planning.constants import gpus
from twinrank.recipe import Recipe

CORES = Machine(cores=16, memory=64e9)
GROWING = ("answers", "queries", "qps", "sections", "passage_tokens", "query_tokens", "validation")


def by_stage(found):
    return {needs.stage: needs for needs in found.stages}


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(GROWING),
    factor=st.floats(1.0, 1e3),
    gpu=st.sampled_from([None, *gpus()]),
)
def test_more_of_anything_never_needs_less(even, measured, name, factor, gpu):
    machine = machine_of(gpu=gpu, cpu=16, memory_gb=1e9)  # room for all: workers stay as many
    before = by_stage(plan(even, machine, measured))
    larger = replace(even, **{name: getattr(even, name) * factor})
    for stage, needs in by_stage(plan(larger, machine, measured)).items():
        old = before[stage]
        assert needs.memory >= old.memory * (1 - 1e-9), stage
        assert needs.disk >= old.disk * (1 - 1e-9), stage
        assert needs.seconds >= old.seconds * (1 - 1e-9), stage
        assert needs.machines >= old.machines, stage


@settings(deadline=None, max_examples=30)
@given(cores=st.integers(1, 512), more=st.integers(0, 512), gb=st.floats(1, 1e4))
def test_a_larger_machine_never_needs_more_of_them_or_more_time(even, measured, cores, more, gb):
    small = by_stage(plan(even, Machine(cores, gb * 1e9), measured))
    large = by_stage(plan(even, Machine(cores + more, 2 * gb * 1e9), measured))
    for stage, needs in large.items():
        assert needs.machines <= small[stage].machines, stage
        assert needs.seconds <= small[stage].seconds * (1 + 1e-9), stage
        assert needs.fits or not small[stage].fits, stage


def test_what_grows_with_answers_alone_doubles_with_them(even, measured):
    once = by_stage(plan(even, CORES, measured))
    twice = by_stage(plan(replace(even, answers=2 * even.answers), CORES, measured))
    for stage in ("index, FAISS flat", "index, Milvus"):
        assert twice[stage].disk == pytest.approx(2 * once[stage].disk)
        assert twice[stage].seconds == pytest.approx(2 * once[stage].seconds)
    both = replace(even, answers=2 * even.answers, queries=2 * even.queries)
    all_twice = by_stage(plan(replace(both, validation=2e3), CORES, measured))
    assert all_twice["feature store"].disk == pytest.approx(2 * once["feature store"].disk)
    assert all_twice["encode"].seconds == pytest.approx(2 * once["encode"].seconds)


def test_encoding_takes_as_many_machines_as_the_hours_ask_for(even, measured):
    seconds = by_stage(plan(even, CORES, measured))["encode"].seconds
    hours = seconds / 3600 / 4.5
    assert by_stage(plan(even, CORES, measured, within_hours=hours))["encode"].machines == 5


def test_serving_doubles_with_the_questions(even, measured):
    busy = replace(even, qps=1e6)
    found = by_stage(plan(busy, CORES, measured))["serving, by FAISS HNSW"]
    twice = by_stage(plan(replace(busy, qps=2e6), CORES, measured))["serving, by FAISS HNSW"]
    assert twice.machines == pytest.approx(2 * found.machines, abs=1)
    assert twice.seconds == found.seconds


def test_stages_are_those_of_the_recipe(even, measured):
    def stages(name):
        return set(by_stage(plan(replace(even, recipe=Recipe.load(name)), CORES, measured)))

    assert stages("bm25") == {"words and weights", "serving, all answers"}
    assert not any("training" in stage for stage in stages("zero-shot"))
    assert "training, exact index" in stages("residual")
    assert "words and weights" not in stages("residual")
    assert "words and weights" in stages("even")


def test_the_index_of_the_recipe_is_marked(even, stale, measured):
    small = replace(even, answers=700.0)
    for workload, own in ((small, "exact"), (even, "sampled"), (stale, "stale")):
        found = by_stage(plan(workload, CORES, measured))
        for index in ("exact", "sampled", *(["stale"] if own == "stale" else [])):
            note = found[f"training, {index} index"].note
            assert note.startswith("as the recipe has it") == (index == own)


def test_what_does_not_fit_says_so(even, measured):
    huge = replace(even, answers=1e8, queries=1e9, qps=5000)
    found = by_stage(plan(huge, machine_of(gpu="h200"), measured))
    for stage in ("encode", "training, exact index", "serving, by FAISS HNSW"):
        assert not found[stage].fits and found[stage].mend, stage
    assert found["training, exact index"].room == 141e9
    for stage, needs in found.items():
        less = replace(huge, answers=1e8 * needs.share, queries=1e9 * needs.share)
        assert by_stage(plan(less, machine_of(gpu="h200"), measured))[stage].fits, stage
        if not needs.fits:
            more = replace(huge, answers=1.02e8 * needs.share, queries=1.02e9 * needs.share)
            assert not by_stage(plan(more, machine_of(gpu="h200"), measured))[stage].fits, stage
    assert found["index, Milvus"].fits and found["index, Milvus"].machines > 1


def test_every_constant_a_stage_rests_on_is_an_assumption_of_the_plan(even, measured):
    for machine in (CORES, machine_of(gpu="l4")):
        found = plan(even, machine, measured)
        said = "\n".join(found.assumptions)
        for name in {name for needs in found.stages for name in needs.rests_on}:
            of = measured if name in Measured.model_fields else Assumed.load()
            assert of.line(name) in said
        assert len(set(found.assumptions)) == len(found.assumptions)
    assert "published: L4 24 GB: 24 GB at 300 GB/s" in said
    assert "none was measured" in said and "processor cores beside a GPU: 16" in said


def test_a_plan_is_json(even, measured):
    found = json.loads(json.dumps(plan(even, CORES, measured).as_dict()))
    assert found["answers"] == 1e5 and found["recipe"] == "even"
    assert found["stages"][0]["stage"] == "encode"
    assert all({"memory", "disk", "seconds", "machines", "fits"} <= set(s) for s in found["stages"])


@pytest.mark.parametrize(("field", "value"), [("answers", 0), ("queries", -1), ("qps", -1)])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_nonsense_is_refused(even, field, value, bad):
    with pytest.raises(PlanError, match=rf"{field} is .*give a number of"):
        replace(even, **{field: value if bad is None else bad})


@pytest.mark.parametrize("hours", [0.0, -3.0, float("nan")])
def test_no_time_is_refused(even, measured, hours):
    with pytest.raises(PlanError, match="is no time"):
        plan(even, CORES, measured, within_hours=hours)


def test_unknown_machines_are_refused():
    with pytest.raises(PlanError, match="no GPU is called 'h900' here; choose one of a100, "):
        machine_of(gpu="h900")
    with pytest.raises(PlanError, match="memory is nan GB"):
        machine_of(cpu=4, memory_gb=float("nan"))


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "JSON: Invalid JSON"), ("{}", "on: Field required"), (None, "no such file")],
)
def test_constants_that_are_none_are_refused(tmp_path, content, said):
    file = tmp_path / "constants.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(PlanError, match=said):
        Measured.load(file)


def test_constants_of_another_machine_are_taken(tmp_path, even, measured):
    file = tmp_path / "constants.json"
    slower = measured.model_copy(update={"encode_flop_s": measured.encode_flop_s / 2})
    file.write_text(slower.model_dump_json())
    found = by_stage(plan(even, CORES, Measured.load(file)))["encode"].seconds
    assert found > by_stage(plan(even, CORES, measured))["encode"].seconds
