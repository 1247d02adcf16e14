import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields

import polars as pl
import pytest
from typer.main import get_command_name

from tests.conftest import HELP_CENTRE
from twinrank.cli import main
from twinrank.cli.common import app
from twinrank.data import Columns
from twinrank.ranking import Ranker, read_manifest


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def twinrank(*args, stdin="", check=True, **environment):
    """Run a command as the shell would, but in this process: torch is imported once."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["twinrank", *map(str, args)])
        patch.setattr(sys, "stdin", stdin if stdin is None else io.StringIO(stdin))
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        except Exception:
            code = 1
            traceback.print_exc(file=err)
    if check:
        assert code == 0, err.getvalue()
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def files(tmp_path_factory, recipe_files, help_centre_folder):
    home = tmp_path_factory.mktemp("cli")
    made = {name: home / name for name in ("nothing.jsonl", "latin1.toml", "folder.toml")}
    made["nothing.jsonl"].touch()
    made["latin1.toml"].write_bytes('# a\nname = "caf\xe9"\n'.encode("latin-1"))
    made["folder.toml"].mkdir()
    known = {file.stem: file for file in made.values()}
    return {"data": help_centre_folder, "home": home, **recipe_files, **known}


@pytest.fixture(scope="module")
def run(files):
    out = files["home"] / "run"
    twinrank("train", files["data"], "--recipe", files["towers"], "--seed", 0, "--out", out)
    return out


def test_help_does_not_import_what_is_slow():
    code = "import sys, twinrank.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "polars", "numpy", "scipy"} & set(done.stdout.split())


COMMANDS = [get_command_name(c.name or c.callback.__name__) for c in app.registered_commands]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    assert f"Example: twinrank {command}" in " ".join(twinrank(command, "--help").stdout.split())


def test_import_lists_its_fields_and_goes_on_from_what_it_says(tmp_path):
    shown = twinrank("import", "--help", COLUMNS="200").stdout
    assert {field.name for field in fields(Columns)} - {"separator"} <= {*re.findall(r"\w+", shown)}
    (tmp_path / "a.csv").write_text("id,text,url\na1,Press.,https://help.example/a1\n")
    (tmp_path / "q.csv").write_text("text,Solved with article\nno login,https://help.example/a1\n")
    command = ["import", tmp_path / "out", "--answers", tmp_path / "a.csv"]
    command += ["--queries", tmp_path / "q.csv"]
    option = "query_answer=Solved with article"
    assert f"--column '{option}'" in twinrank(*command, COLUMNS="200").stdout
    refused = twinrank("split", tmp_path / "out", "--out", tmp_path / "out", check=False)
    assert refused.returncode == 2
    assert "the data set has no labels; import it anew (--fresh) with some" in refused.stderr
    assert "--fresh" in twinrank(*command, check=False).stderr
    done = twinrank(*command, "--column", option, "--fresh", "--json")
    assert json.loads(done.stdout)["counts"]["labels"] == 1
    for options, what in ((("--separator", ""), "--separator"), (("--column", "id=a"), "'id'")):
        done = twinrank(*command, *options, check=False)
        assert done.returncode == 2
        assert what in done.stderr
        assert ";=" not in done.stderr


def test_dividing_in_place_leaves_answers_and_queries_as_they_were_written(tmp_path):
    data = shutil.copytree(HELP_CENTRE, tmp_path / "data")
    for file in (data / "corpus.jsonl", data / "queries.jsonl"):  # a row of no use, and odd blanks
        file.write_text(f'{{"_id": "odd",  "text": ""}}\n{file.read_text("utf-8")}', "utf-8")
    before = {file.name: file.read_bytes() for file in data.glob("*.jsonl")}
    twinrank("split", data, "--out", data, "--test", "0.3")
    assert {file.name: file.read_bytes() for file in data.glob("*.jsonl")} == before
    assert (data / "qrels/test.tsv").read_text() != (HELP_CENTRE / "qrels/test.tsv").read_text()


def test_any_systems_run_is_measured_beside_a_ranker(files, run, tmp_path):
    file = tmp_path / "run.trec"
    written = twinrank("evaluate", run, files["data"], "--run", file, COLUMNS="80")
    assert f"written: {file}" in written.stderr
    assert "nDCG@10" in written.stdout
    assert [line for line in written.stdout.splitlines() if len(line.rstrip()) > 80] == []
    alone = json.loads(twinrank("evaluate", files["data"], "--from-run", file, "--json").stdout)
    done = twinrank("evaluate", run, files["data"], "--from-run", file, "--json")
    both = json.loads(done.stdout)
    assert both["run"] == alone
    assert alone["published"]["overall"] == both["published"]["overall"]
    assert {row["p_holm"] for row in both["differences"]} == {1.0}
    shown = twinrank("evaluate", run, files["data"], "--from-run", file, COLUMNS="80").stdout
    assert "Paired tests over threads" in shown
    assert [line for line in shown.splitlines() if len(line.rstrip()) > 80] == []


def test_articles_alone_become_a_ranker(files, tmp_path):
    table, data, out = tmp_path / "a.csv", tmp_path / "data", tmp_path / "started"
    rows = map(json.loads, (files["data"] / "corpus.jsonl").read_text("utf-8").splitlines())
    answers = pl.DataFrame([{"id": r["_id"], "title": r["title"], "text": r["text"]} for r in rows])
    answers.write_csv(table)
    assert "no query has a label" in twinrank("import", data, "--answers", table).stdout
    done = twinrank("bootstrap", data, "--out", out, "--recipe", files["towers"])
    assert f"now: twinrank train {out}" in done.stderr
    assert "passage" in done.stdout
    twinrank("train", out, "--recipe", files["towers"], "--out", tmp_path / "run")
    title = answers["title"][0]
    [ranking] = json.loads(twinrank("rank", tmp_path / "run", title, "--json").stdout)
    assert answers["id"][0] in [answer["id"] for answer in ranking["answers"]]


def test_rules_are_shown_and_measured(files, run, tmp_path):
    ranker = shutil.copytree(run, tmp_path / "run")
    labels = (files["data"] / "qrels/test.tsv").read_text().splitlines()[1].split("\t")
    rows = map(json.loads, (files["data"] / "queries.jsonl").read_text("utf-8").splitlines())
    text = next(row["text"] for row in rows if row["_id"] == labels[0])
    pin = f"[[pins]]\nquery = {json.dumps(text[:200])}\nanswer = '{labels[1]}'\n"
    (ranker / "rules.toml").write_text(pin)
    [ranking] = json.loads(twinrank("rank", ranker, text[:200], "--json").stdout)
    assert ranking["answers"][0]["id"] == labels[1]
    assert f"pinned for {text[:20]!r}"[:-1] in twinrank("rank", ranker, text[:200]).stdout
    values = json.loads(twinrank("evaluate", ranker, files["data"], "--json").stdout)
    plain = json.loads(twinrank("evaluate", run, files["data"], "--json").stdout)
    assert values["without_rules"] == plain
    assert {row["without"] for row in values["differences"]} == {"without its rules"}
    shown = twinrank("evaluate", ranker, files["data"], COLUMNS="80").stdout
    assert shown.count("As BEIR and MTEB measure") == 1
    assert "without its rules, test" in shown


def test_explore_prints_findings_and_writes_their_page(files, tiny_model, tmp_path):
    page = tmp_path / "new" / "explore.html"
    encoder = ("--encoder", tiny_model, "--max-tokens", 32)
    done = twinrank("explore", files["data"], "--out", page, *encoder, COLUMNS="200")
    assert f"written: {page}" in done.stderr
    assert "mend" in done.stdout
    assert page.read_text().count("<!doctype html>") == 1


def test_rank_is_silent_where_it_is_not_sure(run):
    first = json.loads(twinrank("rank", run, "refund", "--json").stdout)[0]["answers"][0]
    sure = first["confidence"]
    for least, silent in ((sure * 0.9, False), (sure + (1 - sure) * 0.1, True)):
        shown = twinrank("rank", run, "refund", "--min-confidence", least).stdout
        assert ("no answer is likely enough" in shown) is silent
        assert (first["id"] in shown) is not silent


def test_rank_asks_back_where_the_first_is_not_likely_enough(trained, help_centre, tmp_path):
    file = tmp_path / "texts.jsonl"
    texts = help_centre.split("test").texts
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    args = ["rank", trained, "--file", file, "-k", 1]
    asked = [entry["ask"] for entry in json.loads(twinrank(*args, "--json").stdout)]
    assert any(asked)
    assert not all(asked)
    shown = twinrank(*args).stdout
    assert shown.count("Which of these is meant?") == sum(map(bool, asked))
    assert all(option["id"] in shown for options in asked for option in options)
    silent = json.loads(twinrank(*args, "--ask-below", 0, "--min-confidence", 1, "--json").stdout)
    assert not any(entry["ask"] or entry["answers"] for entry in silent)


def test_rank_goes_by_metadata_and_a_faulty_filter_is_a_line(run, tmp_path):
    ranker = Ranker.load(run)
    column = [json.dumps({"locale": f"l{row % 3}"}) for row in range(ranker.answers.height)]
    ranker.answers = ranker.answers.with_columns(metadata=pl.Series(column))
    ranker.save(tmp_path)
    chosen = ranker.answers.filter(pl.col("metadata").is_in(column[1:3]))["id"].to_list()
    args = ("rank", tmp_path, "refund", "-k", 1_000, "--json", "--where", "locale=l1,l2")
    ranked = [answer["id"] for answer in json.loads(twinrank(*args).stdout)[0]["answers"]]
    assert sorted(ranked) == sorted(chosen)
    assert json.loads(twinrank(*args, "--where", "brand=x").stdout)[0]["answers"] == []
    shown = twinrank("rank", tmp_path, "refund", "--where", "brand=x").stdout
    assert "no answer fits the filter" in shown
    done = twinrank(*args[:-1], "locale", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'locale' is no filter; write FIELD=VALUE" in done.stderr


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
        "compare",
        files["data"],
        "--recipes",
        recipes,
        "--seeds",
        2,
        "--workers",
        1,
        *("--out", tmp_path, "--json"),
    )
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(done.stdout)
    table = (tmp_path / "comparison.md").read_text()
    assert "over 2 seeds" in table
    assert "| bm25 | ." in table
    assert "| towers | ." in table


@pytest.mark.slow
def test_sweep_writes_what_it_shows_and_train_takes_its_recipe(files, tmp_path):
    (tmp_path / "mine.toml").write_text("training.batch_size = {choices = [32, 64]}")
    args = ["--ranges", tmp_path / "mine.toml", "--recipe", files["towers"], "--out", tmp_path]
    args += ["--trials", 2, "--workers", 1]
    done = twinrank("sweep", files["data"], *args, "--json")
    found = json.loads(done.stdout)
    assert json.loads((tmp_path / "sweep.json").read_text()) == found
    assert len(found["trials"]) == 2
    best = tmp_path / "best.toml"
    trained = twinrank(
        "train", files["data"], "--recipe", best, "--out", tmp_path / "run", "--json"
    )
    assert json.loads(trained.stdout)["quality"]["loss"] == found["best"]["value"]
    assert "best.toml" in done.stderr
    shown = " ".join(twinrank("sweep", files["data"], *args).stdout.split())
    assert "towers on help-centre, validation split: 2 trials, 0 of them pruned." in shown


def test_report_writes_a_page_into_the_run_and_opens_it(run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    done = twinrank("report", run, "--split", "validation", "--open", "--json")
    page = run / "report.html"
    assert opened == [page.as_uri()]
    assert f"written: {page}" in done.stderr
    assert page.read_text().count("<!doctype html>") == 1
    told = json.loads(done.stdout)
    assert (told["split"], list(told["runs"])) == ("validation", ["towers"])
    assert told["runs"]["towers"]["mistakes"]["worst"][0]["text"]
    assert twinrank("rank", run, "refund").stdout  # the page beside it does no harm


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "nowhere", "--out", "x"], "nowhere: no such folder"),
        (["train", "{data}", "--recipe", "nonsense", "--out", "x"], "no recipe is called"),
        (["train", "{data}", "--recipe", "{folder}", "--out", "x"], "no such recipe file"),
        (["train", "{data}", "--recipe", "{latin1}", "--out", "x"], "latin1.toml:2: not UTF-8"),
        (["train", "{data}", "--out", "x", "--track", "aim"], "no tracker is called 'aim'"),
        (
            ["train", "{data}", "--recipe", "{towers}", "--seed", "7", "--out", "{run}"],
            "another se",
        ),
        (["evaluate", "{data}", "{data}"], "no current.json here"),
        (["import", "x", "--queries", "{nothing}"], "give --answers and --queries, or --from"),
        (
            ["import", "x", "--answers", "{nothing}", "--clean-mail"],
            "nothing to label, cast or clean",
        ),
        (["bootstrap", "{data}", "--out", "x", "--recipe", "bm25"], "bm25 takes no encoder"),
        (["bootstrap", "{data}", "--out", "x", "--endpoint", "y"], "name the model, too"),
        (["import", "x", "--from", "hf:x", "--labels", "{nothing}"], "public data takes no"),
        (["import", "x", "--from", "scifact"], "give one of zendesk"),
        (["evaluate", "{data}"], "give RANKER DATA"),
        (["evaluate", "{data}", "--run", "x", "--from-run", "y"], "give RANKER DATA"),
        (["evaluate", "{data}", "--from-run", "{nothing}"], "nothing.jsonl: holds no ranking"),
        (["evaluate", "{run}", "{data}", "--split", "dev"], "dev.tsv: no labels"),
        (["rank", "{run}", ""], "the text is empty"),
        (["rank", "{run}"], "the text is empty"),
        (["rank", "{run}", "--file", "{nothing}"], "nothing.jsonl: holds no text"),
        (["compare", "{data}"], "give --recipes, or --study, or both"),
        (["compare", "{data}", "--study", "thesis"], "'thesis' is not one of 'handover'"),
        (["report", "{data}"], "no current.json here"),
        (["report", "{run}", "{run}"], "given twice"),
        (["sweep", "{data}", "--ranges", "gone.toml"], "gone.toml: no such file of ranges"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(files, run, args, message):
    known = {**{name: str(path) for name, path in files.items()}, "run": str(run)}
    done = twinrank(*(arg.format(**known) for arg in args), check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_killed_while_encoding_and_while_training_it_finishes_the_same(files, tmp_path):
    """kill -9 as soon as encoding begins, at the first checkpoint, and some epochs later.

    The run beside it reads the same stored features: encoded anew, in other batches, they would
    differ in the last bits.
    """
    out, cache = tmp_path / "killed", tmp_path / "cache"
    command = ["train", files["data"], "--recipe", files["towers"], "--seed", "0", "--out", out]
    metrics = out / "metrics.jsonl"
    moments = [
        lambda: any(cache.glob("*.lock")),
        (out / "checkpoint.safetensors").exists,
        lambda: metrics.read_text().count("\n") > 4,
    ]
    for has_come in moments:
        process = start(command, cache)
        while process.poll() is None and not has_come():
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "current.json").exists()
    assert start(command, cache).wait() == 0
    whole = tmp_path / "whole"
    assert start([*command[:-1], whole], cache).wait() == 0
    assert read_manifest(out).files == read_manifest(whole).files
    assert _without_times(metrics.read_text()) == _without_times(
        (whole / "metrics.jsonl").read_text()
    )


def start(command, cache):
    return subprocess.Popen(
        [sys.executable, "-m", "twinrank.cli", *map(str, command)],
        env=os.environ | {"TWINRANK_CACHE": str(cache)},
    )


def _without_times(metrics: str) -> list[dict[str, object]]:
    records = [json.loads(line) for line in metrics.splitlines()]
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


@pytest.mark.parametrize("place", ["ftp://nowhere", "http://127.0.0.1:1", "nothing.db", "nothing"])
def test_an_index_that_is_not_there_is_one_line(run, place):
    done = twinrank("rank", run, "hello", "--index", place, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(place)


def test_an_empty_text_is_refused_before_torch_is_imported():
    code = (
        "import sys; from twinrank.cli import main; sys.argv = ['', 'rank', '-', ' ']\n"
        "try: main()\nexcept SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_any_encoding_of_stdout_will_do(run):
    text = "caf\xe9 \u30ed\u30b0 \U0001f621"
    for options in ((), ("--json",)):
        out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", write_through=True)
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
            patch.setattr(sys, "argv", ["twinrank", "rank", str(run), text, *options])
            with pytest.raises(SystemExit, match="0"):
                main()
        shown = out.buffer.getvalue()
    assert json.loads(shown)[0]["query"] == text  # as UTF-8, which ASCII is
    shown.decode("ascii")


@pytest.fixture(scope="module")
def marked(files):
    """The data with types that are markup to rich, to HTML and to Markdown."""
    data = files["home"] / "marked"
    shutil.copytree(files["data"], data)
    queries = (data / "queries.jsonl").read_text()
    queries = queries.replace('"question"', '"[bug] <b>|"').replace('"conversation"', '"[/how]"')
    (data / "queries.jsonl").write_text(queries)
    return data


def test_names_in_brackets_are_shown_as_they_are(files, marked, tmp_path):
    out = tmp_path / "[run]"
    trained = twinrank("train", marked, "--recipe", files["bm25"], "--out", out, COLUMNS="120")
    measured = twinrank("evaluate", out, marked, COLUMNS="120")
    described = twinrank("describe", marked, COLUMNS="120")
    options = ("--recipes", files["bm25"], "--seeds", 1, "--out", tmp_path)
    compared = twinrank("compare", marked, *options, COLUMNS="120")
    for done in (trained, measured, described, compared):
        assert "[bug] <b>|" in done.stdout
        assert "[/how]" in done.stdout
    assert "[run]" in " ".join((trained.stdout + measured.stdout).split())
    for file in (tmp_path / "comparison.md", out / "README.md"):
        assert r"\[bug\] \<b\>\|" in file.read_text()


def test_a_title_does_not_reach_the_terminal_raw(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    ranker = Ranker.load(tmp_path / "run")
    row = {"title": "clear\x1b[2J\x9b2J\u202e", "text": "zeppelin zeppelin"}
    ranker.put_answers(pl.DataFrame([{"id": name, **row} for name in ranker.answers["id"]]))
    ranker.save(tmp_path / "run")
    for options in ((), ("--json",)):
        shown = twinrank("rank", tmp_path / "run", "zeppelin", *options, COLUMNS="120").stdout
        assert not set("\x1b\x9b\u202e") & set(shown)
        assert r"\u001b" in shown


def test_no_figure_is_lost_on_a_narrow_terminal(files, run):
    command = ("evaluate", run, files["data"])
    wide, narrow = (twinrank(*command, COLUMNS=columns).stdout for columns in ("90", "20"))
    assert "\u2026" not in narrow
    figures = {word for word in wide.split() if word[-1].isdigit()}
    assert figures <= set(narrow.split())


def test_data_and_encoder_are_found_from_another_folder(files, tiny_model, tmp_path, monkeypatch):
    there = tmp_path / "there"
    shutil.copytree(files["data"], there / "data")
    shutil.copytree(tiny_model, there / "enc")
    recipe = '[encoder]\nname = "enc"\nmax_tokens = 32\nprecision = "fp32"\n'
    (there / "mine.toml").write_text(recipe)
    monkeypatch.chdir(there)
    twinrank("train", "data", "--recipe", "mine.toml", "--out", "run")
    monkeypatch.chdir(tmp_path)
    assert Ranker.load("there/run").origin.dataset().name == "data"
    assert twinrank("rank", "there/run", "hello", "--json").stdout
    there.rename(tmp_path / "moved")
    twinrank("report", "moved/run", "--json")
    monkeypatch.chdir(tmp_path / "moved")
    twinrank("train", "data", "--recipe", "mine.toml", "--out", "run")  # finished already


def test_a_type_with_few_queries_is_named_where_the_worst_type_and_the_gap_are(files, tmp_path):
    data = shutil.copytree(files["data"], tmp_path / "data")
    lines = [json.loads(line) for line in (data / "queries.jsonl").read_text().splitlines()]
    rare = (data / "qrels" / "test.tsv").read_text().splitlines()[1].split("\t")[0]
    for line in lines:
        if line["_id"] == rare:
            line["metadata"]["type"] = "email"
    (data / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ("--recipes", files["bm25"], "--seeds", 1, "--out", tmp_path / "all")
    shown = twinrank("compare", data, *options).stderr
    (warning,) = [line for line in shown.splitlines() if "beware" in line]
    assert "fewer than 50 queries in test" in warning
    assert warning.endswith("and email has 1")
