"""All that ships beside the code: wheel, image, manifests, alerts, workflows."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import until
from tests.service.conftest import opened
from twinrank import Client, train

ROOT = Path(__file__).parents[1]
SCHEMA = "check-jsonschema --builtin-schema vendor"
ADDED_BY_PROMETHEUS = {"job", "instance"}  # labels of every series
QUERY = {"text": "it wont let me in again", "type": "question", "min_confidence": 0.0}


@pytest.mark.parametrize(
    "command",
    [
        "hadolint Dockerfile",
        "yamllint --strict .",
        "kubernetes-validate --strict deploy/kubernetes.yaml",
        "zizmor --offline --quiet --min-severity medium .github",
        f"{SCHEMA}.compose-spec compose.yaml",
        f"{SCHEMA}.github-workflows .github/workflows/check.yml .github/workflows/release.yml",
        f"{SCHEMA}.github-issue-forms .github/ISSUE_TEMPLATE/fault.yml "
        ".github/ISSUE_TEMPLATE/wish.yml",
        f"{SCHEMA}.dependabot .github/dependabot.yml",
        f"{SCHEMA}.citation-file-format CITATION.cff",
    ],
    ids=lambda command: command.split(maxsplit=1)[-1],
)
def test_its_own_tool_finds_no_fault(command):
    program, *words = command.split()
    command = [Path(sys.executable).with_name(program), *words]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_hides_its_password_and_ports():
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), variable  # refused where it is empty


def test_versions_agree():
    import twinrank

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == twinrank.__version__
    assert f"image: twinrank:{twinrank.__version__}\n" in (
        ROOT / "deploy" / "kubernetes.yaml"
    ).read_text(encoding="utf-8")


# Alerts and the dashboard ask for figures that the service has.


def queries():
    """Every query in PromQL."""
    alerts = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())
    panels = json.loads((ROOT / "deploy" / "dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    asked += [target["expr"] for panel in panels for target in panel["targets"]]
    return [q.replace("$__rate_interval", "5m").replace("$job", "twinrank") for q in asked]


@pytest.fixture(scope="module")
def exposed(help_centre, tmp_path_factory):
    """The labels of each metric of a service that answered, with their values."""
    home = tmp_path_factory.mktemp("exposed")
    train(help_centre, "bm25", out=home / "trained")
    with opened(home / "trained", home, redact=True) as client:
        assert client.post("/v1/rank", json=QUERY).status_code == 200
        client.post("/v1/rank", json={**QUERY, "text": "mail me at jane@example.org"})
        client.post("/v1/rank", json={**QUERY, "min_confidence": 1.0})
        for right in (True, False):
            verdict = {"key": f"{right}", "text": "x", "answer": "nw-101", "right": right}
            assert client.post("/v1/feedback", json=verdict).status_code == 201
        families = list(text_string_to_metric_families(client.get("/metrics").text))
    labels = {"up": {}}
    for sample in (sample for family in families for sample in family.samples):
        for name, value in sample.labels.items():
            labels.setdefault(sample.name, {}).setdefault(name, set()).add(value)
        labels.setdefault(sample.name, {})
    return labels


def selectors(node):
    """Give the selectors in a parsed query, each with the labels that it is grouped by."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node, set()
    elif isinstance(node, promql_parser.AggregateExpr):
        grouped = set(node.modifier.labels) if node.modifier else set()
        yield from ((selector, grouped | beyond) for selector, beyond in selectors(node.expr))
    else:
        inner = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
        for part in [*filter(None, inner), *getattr(node, "args", ())]:
            yield from selectors(part)


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_the_service_counts(query, exposed):
    found = list(selectors(promql_parser.parse(query)))
    assert found
    for selector, grouped in found:
        labels = exposed[selector.name]
        assert grouped <= labels.keys() | ADDED_BY_PROMETHEUS
        for matcher in selector.matchers.matchers:
            if matcher.name in ADDED_BY_PROMETHEUS or matcher.name == "status":
                continue  # a status is seen where something fails
            assert matcher.value in labels[matcher.name]


def test_no_two_panels_lie_upon_each_other():
    panels = json.loads((ROOT / "deploy" / "dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24  # Grafana's columns
    assert len({panel["id"] for panel in panels}) == len(panels)


# The wheel, and the image: its steps carried out in a folder.


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built by way of its source distribution."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, ROOT], check=True)
    return next(out.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(900)  # it installs
def test_the_wheel_does_the_main_job_in_a_bare_environment(wheel, tmp_path):
    tracked = ["git", "ls-files", "src/twinrank"]
    files = subprocess.run(tracked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.removeprefix("src/") for name in files.split()} <= set(
        zipfile.ZipFile(wheel).namelist()
    )
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", bare], check=True)
    pins = ["-c", ROOT / "constraints.txt"]
    install = [bare / "bin" / "pip", "install", "--quiet", *pins, f"{wheel}[train,minilm,openvino]"]
    subprocess.run(install, check=True)

    def twinrank(*words):
        done = subprocess.run(
            [bare / "bin" / "twinrank", *words],
            check=False,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    data = ROOT / "examples" / "help-centre"
    twinrank("train", data, "--recipe", "residual", "--out", "run")
    evaluated = json.loads(twinrank("evaluate", "run", data, "--split", "test", "--json"))
    assert evaluated["overall"]["accuracy@3"] > 0.4
    assert "nw-" in twinrank("rank", "run", QUERY["text"])


class Image:
    """The Dockerfile's steps, carried out below a folder: each absolute path begins there."""

    def __init__(self, root):
        self.root, self.workdir = root, root
        apart = ("TWINRANK_", "PYTHON", "VIRTUAL_ENV")
        self.environment = {n: v for n, v in os.environ.items() if not n.startswith(apart)}
        self.user, self.commands = None, {}
        text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
        for line in text.splitlines():
            if line and not line.startswith("#"):
                word, rest = line.split(maxsplit=1)
                getattr(self, f"do_{word.lower()}", lambda _: None)(rest)

    def here(self, text):
        """The same text with its absolute paths below the root; those of the system stay."""
        return re.sub(
            r"(?<![\w.:/-])/(?=(opt|srv|source|run|tmp|var/lib)\b)", f"{self.root}/", text
        )

    def do_from(self, rest):
        version = re.match(r"python:([\d.]+)-slim", rest)[1]
        python = shutil.which(f"python{version}", path="/usr/local/bin:/usr/bin")
        if python is None:
            pytest.skip(f"no python{version} that any user may run")
        programs = self.root / "python"
        programs.mkdir(exist_ok=True)
        (programs / "python").unlink(missing_ok=True)
        (programs / "python").symlink_to(python)
        self.environment["PATH"] = f"{programs}:/usr/bin:/bin"

    def do_workdir(self, rest):
        self.workdir = Path(self.here(rest))
        self.workdir.mkdir(parents=True, exist_ok=True)

    def do_copy(self, rest):
        *sources, target = rest.split()
        if sources[0].startswith("--from"):  # of the stage before, which is this folder, too
            return
        for name in sources:
            place = self.workdir / target
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, place, ignore=ignored)
            else:
                shutil.copy(ROOT / name, place)

    def do_run(self, rest):
        self.run(["sh", "-c", self.here(rest)])

    def do_env(self, rest):
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            old = self.environment["PATH"]
            self.environment[name] = self.here(value).replace("$PATH", old)

    def do_user(self, rest):
        self.user = int(rest.split(":")[0])

    def do_healthcheck(self, rest):
        self.commands["healthcheck"] = json.loads(rest.partition(" CMD ")[2])

    def do_entrypoint(self, rest):
        self.commands["start"] = [*json.loads(rest)]

    def do_cmd(self, rest):
        self.commands["start"] += map(self.here, json.loads(rest))

    def run(self, command):
        return subprocess.run(command, cwd=self.workdir, env=self.environment, check=True)

    def call(self, function, name, port, **options):
        """Start one of its commands, as its user, at another port."""
        command = [word.replace("8000", f"{port}") for word in self.commands[name]]
        if name == "start":
            command += ["--port", f"{port}"]
        program = shutil.which(command[0], path=self.environment["PATH"])
        if os.getuid() == 0:
            options |= {"user": self.user, "group": self.user, "extra_groups": []}
        return function([program, *command[1:]], cwd="/", env=self.environment, **options)


@pytest.fixture(scope="module")
def image():
    """The image, in a folder that any user may read."""
    if os.getuid():
        pytest.skip("only root may act as the user of the image")
    root = Path(tempfile.mkdtemp(prefix="image"))
    root.chmod(0o755)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o777)
    (root / "var/lib").mkdir(parents=True)
    (root / "srv").mkdir()
    try:
        yield Image(root)
    finally:
        shutil.rmtree(root)


@pytest.mark.slow
@pytest.mark.timeout(900)  # it installs
def test_the_image_serves_a_packaged_ranker(image, trained):
    from twinrank.sharing.package import package

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ranker, keys = image.root / "srv/ranker", image.root / "run/secrets/keys"
    package(trained, image.root / "packaged")
    shutil.copytree(image.root / "packaged", ranker, dirs_exist_ok=True)
    keys.parent.mkdir(parents=True)
    keys.write_text("write " + "k" * 32)
    for path in (*ranker.rglob("*"), keys):
        os.chown(path, image.user, image.user)
    keys.chmod(0o400)
    process = image.call(subprocess.Popen, "start", port, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: image.call(subprocess.run, "healthcheck", port).returncode == 0)
        with Client(f"http://127.0.0.1:{port}", key="k" * 32) as client:
            assert client.rank(QUERY["text"], k=1).answers
            client.put_answer("new", title="New", text="It is new.")
        assert (image.root / "var/lib/twinrank/feedback.db").stat().st_uid == image.user
        assert not list(image.root.glob("opt/twinrank/lib/*/site-packages/torch"))
    finally:
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert image.call(subprocess.run, "healthcheck", port).returncode != 0
