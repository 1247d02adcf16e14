"""The README and docs/: every command, file and link of theirs is checked, and run where it can be.

A page is a sequence of fenced blocks, run in order in a folder with small data. A block with a
`title="FILE"` is that file.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from filelock import FileLock
from typer.main import get_command

from tests.conftest import HELP_CENTRE
from tests.serving_help import serving
from tests.test_cli import twinrank
from twinrank.cli.common import app
from twinrank.data import Dataset
from twinrank.experiments.sweep_ranges import Ranges
from twinrank.feedback import Verdict
from twinrank.feedback.database import Feedback
from twinrank.ranking import read_rules
from twinrank.recipe import Recipe

ROOT = Path(__file__).parents[1]
EXPORTS = Path(__file__).parent / "data" / "exports"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = get_command(app).commands
QUICK = {"plan.md"}  # pages whose commands take no encoder
LANGUAGES = {"bash", "console", "css", "html", "ini", "json", "python", "text", "toml"}
FENCE = re.compile(r"^```(\S*)(?: title=\"([^\"\n]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")

# Beginnings of commands that no test runs, and why. Options of ours are checked all the same.
NOT_RUN = {
    "twinrank serve": "runs until it is stopped; the test serves what a page then asks",
    "twinrank encode data/mine --ray": "takes a cluster; tests/cluster has one",
    "twinrank train data/mine --out runs/first --ray": "takes a cluster",
    "twinrank sweep data/mine --trials 80 --ray": "takes a cluster",
    "docker": "takes Docker",
    "kubectl": "takes Kubernetes",
    "twinrank mcp": "runs until its input ends; tests/client speaks with it",
    "twinrank index runs/first --to postgresql": "takes PostgreSQL; tests/ranking has it",
    "twinrank index runs/first --to http": "takes a Milvus server; tests/ranking has one",
    "twinrank rank runs/first 'it wont let me in' --index PLACE": "takes such an index",
    "twinrank import data/scifact": "comes from a public collection on the network",
    "twinrank train data/mine --recipe danish.toml": "takes an encoder from a model hub",
    "twinrank compare data/mozilla-support": "takes hours, and data that are not in the repository",
    "twinrank compare DATA": "takes hours, and data that are not in the repository",
    "python3 -m venv": "makes an environment; tests/test_installed.py does so",
    "pip": "changes the environment; its extras are looked up in pyproject.toml",
    "make": "makes an environment; the target is looked up in the Makefile",
    "python benchmarks/": "measures for minutes; the file has to be there",
    "pytest": "is a test of the suite; the file has to be there",
    "accelerate": "trains an encoder in two processes; tests/training does so",
    "hf": "speaks with a model hub",
    "twinrank push": "speaks with a model hub; tests/sharing has one of its own",
}
PYTHON_NOT_RUN = ("Ranker.from_hub",)  # the same hub
# Fewer of what a page asks for shows the same, and so does one page of several with one command.
SMALLER = {"--trials": "2", "--seeds": "1"}
LONG = {"compare", "explore"}
long_commands_run = set()


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> list[list[str]]:
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":  # the others are what a command prints
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        elif self.language != "bash":
            return []
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def read_blocks(page):
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def reason_not_to_run(words):
    command = shlex.join(words)
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


def of_pages(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@of_pages(PAGES)
def test_every_block_can_be_checked(page):
    """Each block has a language that a test knows, and none is only indented."""
    assert not {block.language for block in read_blocks(page)} - LANGUAGES
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    assert "```" not in prose
    assert not re.findall(r"\n\n    .*", prose)


@of_pages(PAGES)
def test_a_page_opens_with_what_one_gets(page):
    """A title, a few lines, and something to do."""
    head, _, _ = page.read_text(encoding="utf-8").partition("\n## ")
    blocks = [block for block in read_blocks(page) if block.text in head]
    assert head.startswith("# ")
    assert any(block.language in {"bash", "console", "python", "html"} for block in blocks)


@of_pages(PAGES)
def test_commands_and_their_options_exist(page):
    for block in read_blocks(page):
        for words in block.commands:
            check_command(words)


def check_command(words):
    """Have the program's own parser read a command; it fails on an option that is not there."""
    match words:
        case ["twinrank", name, *arguments]:
            assert name in COMMANDS, f"twinrank has no command {name}"
            command = COMMANDS[name]
            parser = command.make_parser(command.context_class(command))
            _, rest, _ = parser.parse_args(list(arguments))
            assert not rest, f"{name} takes no {rest}"
        case ["make", target, *_]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(), f"no target {target}"
        case ["python" | "pytest", file, *_]:
            assert (ROOT / file).is_file(), f"no file {file}"
        case ["curl" | "pip", *_]:
            pass
        case _:
            assert reason_not_to_run(words), f"no test knows this command: {shlex.join(words)}"


@of_pages(PAGES)
def test_extras_exist(page):
    text = page.read_text(encoding="utf-8")
    lists = re.findall(r"(?:twinrank|'\.)\[([\w,]+)\]|extra `(\w+)`", text)
    named = {name for either in lists for names in either for name in names.split(",") if name}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert named <= set(project["optional-dependencies"])


def test_nothing_is_left_out_in_vain():
    """Each reason in the table still has its command on a page."""
    commands = [c for page in PAGES for block in read_blocks(page) for c in block.commands]
    lines = [shlex.join(words) for words in commands]
    assert not [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]


@of_pages(PAGES)
def test_recipes_ranges_rules_and_json_are_read(page, tmp_path):
    for number, block in enumerate(read_blocks(page)):
        if block.language == "json":
            json.loads(block.text)
        if block.language != "toml":
            continue
        assert block.title, "a TOML block needs the title of its file"
        file = tmp_path / str(number) / Path(block.title).name
        file.parent.mkdir()
        file.write_text(block.text)
        if file.name == "rules.toml":
            assert read_rules(file.parent)
        elif file.name == "ranges.toml":
            assert Ranges.load(file, Recipe.load("residual")).fields
        else:
            assert Recipe.load(file).name == file.stem


def anchors_of(page):
    """The anchors of a page's headings, as a code host and the site make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@of_pages(PAGES)
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link
        if page.name != "README.md":  # the site has no files but these
            assert target.is_relative_to(ROOT / "docs"), link


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
    assert (ROOT / "docs" / "page.webp").stat().st_size <= 120_000


class Workshop:
    """A folder in which a page's blocks are carried out, one after another."""

    def __init__(self, page, stack):
        self.page = page
        self.stack = stack
        self.names = {}
        self.address = None

    def carry_out(self):
        for block in read_blocks(self.page):
            if block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.text)
            for words in block.commands:
                if not reason_not_to_run(words) and tuple(words) not in long_commands_run:
                    self.run(words)
                    if words[1] in LONG:
                        long_commands_run.add(tuple(words))
            if block.language == "python" and not any(
                name in block.text for name in PYTHON_NOT_RUN
            ):
                text = block.text.replace("http://127.0.0.1:8000", self.url(block.text))
                exec(compile(text, str(self.page), "exec"), self.names)  # noqa: S102 (our own text)

    def run(self, words):
        if words[0] == "twinrank":
            arguments = [self.expand(before, word) for before, word in pairwise(words)]
            if words[1] in {"compare", "sweep"}:  # workers would stay in the folder of this page
                arguments += ["--workers", "1"]
            if words[1] in {"import", "train"}:  # a reader has no such folder yet
                made = words[2] if words[1] == "import" else words[words.index("--out") + 1]
                shutil.rmtree(made, ignore_errors=True)
            twinrank(*arguments)
        else:
            assert words[0] == "curl"
            words = [word.replace("localhost:8000", self.url(word)) for word in words]
            done = subprocess.run([*words, "--fail-with-body"], capture_output=True, check=False)
            assert done.returncode == 0, done.stdout

    @staticmethod
    def expand(before, word):
        return SMALLER.get(before) or (sorted(Path().glob(word))[-1] if "*" in word else word)

    def url(self, text):
        """The address of a service of runs/first, which starts when it is first asked."""
        if ":8000" not in text:
            return ""
        if not self.address:
            service = serving(Path("runs/first"), Path("runs/first.feedback.db"))
            self.address = self.stack.enter_context(service).url
        return self.address


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, worker_id):
    """The small data that pages speak of; made once for all processes of the tests."""
    temporary = tmp_path_factory.getbasetemp()
    shared = (temporary if worker_id == "master" else temporary.parent) / "docs"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            making = tmp_path_factory.mktemp("docs")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(making)
                patch.setenv("TWINRANK_CACHE", str(making / "cache"))
                prepare()
            making.rename(shared)
    return shared


def prepare():
    """Write what the pages name: tables, exports, a data set, a ranker, and verdicts on it."""
    write_part_of_help_centre(Path("examples/help-centre"))
    shutil.copytree("examples/help-centre", "data/mine")
    dataset = Dataset.load("data/mine")
    write_tables(dataset)
    for name in ("articles.json", "tickets.json", "macros.json"):
        shutil.copy(EXPORTS / "zendesk" / name, name)
    shutil.copy(EXPORTS / "confluence" / "pages-v2.json", "pages.json")
    Path("questions.csv").write_text("id,text,answer\n1,How do I get in?,65601\n")
    twinrank("train", "data/mine", "--recipe", "even", "--out", "runs/first")
    twinrank("evaluate", "runs/first", "data/mine", "--run", "engine.trec")


def write_part_of_help_centre(out, answers=24):
    """Write the first answers of the help centre, and all queries but those of other answers."""
    (out / "qrels").mkdir(parents=True)
    lines = (HELP_CENTRE / "corpus.jsonl").read_text().splitlines(keepends=True)[:answers]
    (out / "corpus.jsonl").write_text("".join(lines))
    ids = {json.loads(line)["_id"] for line in lines}
    others = set()
    for file in sorted((HELP_CENTRE / "qrels").glob("*.tsv")):
        head, *rows = file.read_text().splitlines(keepends=True)
        kept = [row for row in rows if row.split("\t")[1] in ids]
        others |= {row.split("\t")[0] for row in rows if row not in kept}
        (out / "qrels" / file.name).write_text("".join([head, *kept]))
    lines = (HELP_CENTRE / "queries.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["_id"] not in others]
    (out / "queries.jsonl").write_text("".join(kept))


def write_tables(dataset):
    """Write tables of answers and queries, and verdicts, of which four of five are right."""
    first = dataset.labels.unique("query", keep="first", maintain_order=True)
    queries = dataset.queries.join(first.select("answer", id="query"), on="id")
    articles = dataset.answers.select("id", "title", "text")
    articles.write_csv("articles.csv")
    articles.rename({"id": "Article ID"}).write_csv("knowledge.csv")
    tickets = queries.select("id", "text", "type", "thread", "answer")
    tickets.write_csv("tickets.csv")
    tickets.rename({"text": "message", "answer": "solution"}).write_csv("contacts.csv")
    queries.select("text").write_ndjson("tickets.jsonl")
    Path("runs").mkdir()
    with closing(Feedback.open("runs/first.feedback.db")) as feedback:
        for n, (text, kind, answer) in enumerate(queries["text", "type", "answer"].iter_rows()):
            feedback.add(Verdict(str(n), f"{text} please", kind, answer, right=n % 5 > 0))


@of_pages([page for page in PAGES if page.name in QUICK])
def test_quick_commands_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_part_of_help_centre(Path("data/mine"))
    with ExitStack() as stack:
        Workshop(page, stack).carry_out()


def has_something_to_run(page):
    blocks = read_blocks(page)
    commands = [words for block in blocks for words in block.commands]
    return any(b.language == "python" for b in blocks) or any(
        not reason_not_to_run(words) for words in commands
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # it is many commands
@of_pages([page for page in PAGES if page.name not in QUICK and has_something_to_run(page)])
def test_commands_run(page, prepared, tmp_path, monkeypatch):
    place = shutil.copytree(prepared, tmp_path / "place", ignore=shutil.ignore_patterns("cache"))
    monkeypatch.chdir(place)
    monkeypatch.setenv("TWINRANK_CACHE", str(prepared / "cache"))
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    with ExitStack() as stack:
        Workshop(page, stack).carry_out()


@pytest.mark.slow
def test_the_notebook_runs(prepared, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TWINRANK_CACHE", str(prepared / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(ROOT / "examples" / "main-job.ipynb", as_version=4)
    shutil.copytree(prepared / "examples", tmp_path, dirs_exist_ok=True)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, timeout=200).execute()


@pytest.mark.slow
def test_the_site_is_built_and_asks_the_network_for_nothing(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(PAGES) / 2
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(
            r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//", text
        )
