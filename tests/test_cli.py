import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TWINRANK = [sys.executable, "-m", "twinrank.cli"]


def twinrank(*args, stdin=None, check=True, **environment):
    done = subprocess.run(
        [*TWINRANK, *map(str, args)],
        capture_output=True,
        text=True,
        input=stdin,
        env=os.environ | environment,
        check=False,
        timeout=240,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory, recipe_files, help_centre_folder):
    return {"data": help_centre_folder, "home": tmp_path_factory.mktemp("cli"), **recipe_files}


@pytest.fixture(scope="module")
def run(files):
    out = files["home"] / "run"
    twinrank("train", files["data"], "--recipe", files["towers"], "--seed", 0, "--out", out)
    return out


def test_help_does_not_import_what_is_slow():
    code = "import sys, twinrank.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "polars", "numpy", "scipy"} & set(done.stdout.split())


COMMANDS = ["import", "split", "describe", "train", "evaluate", "rank", "compare", "cache"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    assert f"Example: twinrank {command}" in " ".join(twinrank(command, "--help").stdout.split())


def test_evaluate_prints_the_shape_other_tools_build_on(files, run):
    got = json.loads(twinrank("evaluate", run, files["data"], "--split", "test", "--json").stdout)
    metrics = {"accuracy@1", "accuracy@3", "accuracy@10", "map@3", "map@10", "loss"}
    assert set(got["overall"]) == set(got["worst"]) == metrics
    assert set(got["types"]) == {"question", "conversation"}
    assert all(set(figures) == metrics for figures in got["types"].values())
    low, high = got["intervals"]["overall"]["map@10"]
    assert low <= got["overall"]["map@10"] <= high


def test_evaluate_shows_a_table(files, run):
    shown = twinrank("evaluate", run, files["data"], COLUMNS="120").stdout
    assert all(word in shown for word in ("overall", "question", "worst type", "gap", "MAP@10"))


def test_rank_reads_an_argument_stdin_and_a_file(run, tmp_path):
    text = "User: hello\nAgent: hi\nUser: reset my password"
    lines = [json.dumps({"_id": str(i), "text": t}) for i, t in enumerate([text, "refund"])]
    (tmp_path / "asked.jsonl").write_text("\n".join(lines))
    by_argument = json.loads(twinrank("rank", run, text, "-k", 3, "--json").stdout)
    by_stdin = json.loads(twinrank("rank", run, "-k", 3, "--json", stdin=text).stdout)
    by_file = json.loads(
        twinrank("rank", run, "--file", tmp_path / "asked.jsonl", "-k", 3, "--json").stdout
    )
    assert by_argument == by_stdin
    assert [entry["query"] for entry in by_file] == [text, "refund"]
    assert [a["id"] for a in by_file[0]["answers"]] == [a["id"] for a in by_argument[0]["answers"]]
    assert [a["rank"] for a in by_argument[0]["answers"]] == [1, 2, 3]


def test_compare_writes_what_it_shows(files, tmp_path):
    recipes = ",".join(str(files[name]) for name in ("bm25", "towers"))
    done = twinrank(
        "compare", files["data"], "--recipes", recipes, "--seeds", 2, "--out", tmp_path, "--json"
    )
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(done.stdout)
    table = (tmp_path / "comparison.md").read_text()
    assert "| bm25 | 1 |" in table
    assert "| towers | 2 |" in table


def test_cache_shows_and_clears(run, tmp_path):
    assert run.exists()
    shown = json.loads(twinrank("cache", "--json").stdout)
    assert any(entry["texts"] > 500 for entry in shown)
    twinrank("cache", "--clear", "--yes", TWINRANK_CACHE=str(tmp_path))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "nowhere", "--out", "x"], "nowhere: no such folder"),
        (["train", "{data}", "--recipe", "nonsense", "--out", "x"], "no recipe is called"),
        (["train", "{data}", "--recipe", "gone.toml", "--out", "x"], "no such recipe file"),
        (["evaluate", "{data}", "{data}"], "no ranker.json here"),
        (["evaluate", "{run}", "{data}", "--split", "dev"], "dev.tsv: no labels"),
        (["rank", "{run}", ""], "text 1 of 1 is empty"),
        (["rank", "{run}", "--file", "gone.jsonl"], "gone.jsonl"),
        (
            ["train", "{data}", "--recipe", "{towers}", "--seed", "7", "--out", "{run}"],
            "another se",
        ),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(files, run, args, message):
    known = {**{name: str(path) for name, path in files.items()}, "run": str(run)}
    done = twinrank(*(arg.format(**known) for arg in args), check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (
        "Traceback"
        in twinrank("--debug", *(arg.format(**known) for arg in args), check=False).stderr
    )


def test_killed_while_encoding_and_while_training_it_finishes_the_same(files, run, tmp_path):
    """kill -9 at growing delays until a run ends by itself; then as if nothing had been."""
    out = tmp_path / "killed"
    cache = tmp_path / "cache"
    command = ["train", files["data"], "--recipe", files["towers"], "--seed", "0", "--out", out]
    kills = 0
    for delay in (0.8, 1.2, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0, 5.0, 60.0):
        process = subprocess.Popen(
            [*TWINRANK, *map(str, command)], env=os.environ | {"TWINRANK_CACHE": str(cache)}
        )
        deadline = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 2
    assert process.returncode == 0
    for name in ("towers.safetensors", "vectors.safetensors"):
        assert (out / name).read_bytes() == (run / name).read_bytes()
    ours, theirs = (Path(folder / "metrics.jsonl").read_text() for folder in (out, run))
    assert _without_times(ours) == _without_times(theirs)


def _without_times(metrics: str) -> list[dict[str, object]]:
    records = [json.loads(line) for line in metrics.splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]
