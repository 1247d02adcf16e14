import json

import pytest
from typer.testing import CliRunner

from twinrank.cli.common import app
from twinrank.errors import PlanError
from twinrank.planning.units import duration, size

SIZES = ("plan", "--answers", "1e8", "--queries", "1e9", "--qps", "5000")


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


def test_programs_get_json():
    found = json.loads(run(*SIZES, "--cpu", "8", "--json").stdout)
    assert found["machine"] == "8 cores, 32 GB" and found["qps"] == 5000
    assert {"stage", "memory", "disk", "seconds", "machines", "fits"} <= set(found["stages"][0])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("plan", "--answers", "-3", "--queries", "10"), "answers is -3"),
        (("plan", "--answers", "nan", "--queries", "10"), "answers is nan"),
        (("plan", "--answers", "10"), "give --answers and --queries"),
        ((*SIZES, "--gpu", "h900"), "no GPU is called 'h900'"),
        ((*SIZES, "--within", "0"), "0 hours is no time"),
    ],
)
def test_nonsense_is_one_line(args, said):
    result = run(*args)
    assert isinstance(result.exception, PlanError)
    assert said in str(result.exception) and "\n" not in str(result.exception)


def test_a_machine_is_one_or_the_other():
    result = run(*SIZES, "--gpu", "h200", "--cpu", "8")
    assert result.exit_code == 2 and "not both" in result.stderr


def test_figures_have_units():
    assert [size(n) for n in (12, 1.5e3, 2.34e9, 5e13, 2e18)] == [
        "12 B",
        "1.5 kB",
        "2.34 GB",
        "50 TB",
        "2,000 PB",
    ]
    assert [duration(s) for s in (2e-3, 12, 90, 4320, 7.2e6)] == [
        "2 ms",
        "12 s",
        "1.5 min",
        "1.2 h",
        "2,000 h",
    ]
