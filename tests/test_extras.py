"""Extras bring what the code imports: no command fails for a library that its extra lacks."""

import ast
import sys
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "twinrank"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# The extras of what a file imports at once, whoever imports the file; of other files, none.
EXTRAS_OF_FILES = {
    "addresses.py": "serve",
    "client": "client",
    "client/mcp_server.py": "mcp",
    "cluster": "cluster,train,serve",
    "data/redaction.py": "helpdesk",
    "encoding/torch_backend.py": "train",
    "encoding/trainable.py": "train",
    "experiments": "train",
    "experiments/sweep.py": "tune",
    "feedback": "serve",
    "mteb.py": "mteb",
    "planning.py": "train",
    "reports": "explore",
    "reports/sweep_report.py": "tune",
    "service": "serve",
    "sharing/network.py": "train",
    "training": "train",
}
TREES = {
    str(file.relative_to(SOURCE)): ast.parse(file.read_text(encoding="utf-8"))
    for file in sorted(SOURCE.rglob("*.py"))
}
DISTRIBUTIONS = {
    module: {canonicalize_name(name) for name in names}
    for module, names in packages_distributions().items()
}


@cache
def closure(*extras):
    """The distributions that come with twinrank and these extras."""
    brought = set()
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    wanted += [Requirement(line) for extra in extras for line in EXTRAS[extra]]
    seen = set()
    while wanted:
        requirement = wanted.pop()
        name, chosen = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        if name == "twinrank":
            wanted += [Requirement(line) for extra in chosen for line in EXTRAS[extra]]
            continue
        brought.add(name)
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another platform
            continue
        for line in map(Requirement, lines):
            marker = line.marker
            if not marker or any(marker.evaluate({"extra": extra}) for extra in ("", *chosen)):
                wanted.append(line)
    return frozenset(brought)


def imported(tree, *, at_once):
    """The top-level modules that a file imports: as it is imported itself, or at any time."""
    if at_once:
        statements = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    else:
        statements = list(ast.walk(tree))
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def lacking(modules, brought):
    third_party = set(modules) - sys.stdlib_module_names - {"twinrank", "__future__"}
    return {name for name in third_party if not DISTRIBUTIONS.get(name, {name}) & brought}


def test_files_import_what_their_extras_bring():
    at_once, later = {}, {}
    for path, tree in TREES.items():
        extras = EXTRAS_OF_FILES.get(path) or EXTRAS_OF_FILES.get(path.split("/")[0], "")
        brought = closure(*filter(None, extras.split(",")))
        at_once[path] = lacking(imported(tree, at_once=True), brought)
        later[path] = lacking(imported(tree, at_once=False), closure("all"))
    assert not {path: names for path, names in at_once.items() if names}
    assert not {path: names for path, names in later.items() if names}


def checked_extras():
    """Each extra that a message names, and the modules that it is to bring."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Name(id="check_installed") | ast.Attribute(attr="check_installed")
                ):
                    words = node.args[1:]
                case ast.Call(
                    func=ast.Name(id="partial"), args=[ast.Attribute(attr="check_installed"), *_]
                ):
                    words = node.args[2:]
                case _:
                    continue
            if words:
                extra, *modules = (w.value for w in words if isinstance(w, ast.Constant))
                yield extra, modules


def test_an_extra_that_a_message_names_brings_what_is_missing():
    messages = list(checked_extras())
    assert len(messages) > 20
    assert not [(extra, names) for extra, names in messages if lacking(names, closure(extra))]


def test_the_readme_lists_all_extras():
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("| extra | for |")[1]
    rows = table.split("\n\n")[0].splitlines()[2:]
    named = {word.strip("` ") for row in rows for word in row.split("|")[1].split(",")}
    assert named == set(EXTRAS) - {"dev", "docs"}


def test_serving_brings_no_torch_and_all_brings_everything():
    assert not closure("serve", "client", "helpdesk", "index") & {"torch", "transformers", "sympy"}
    everything = {name for line in EXTRAS["all"] for name in Requirement(line).extras}
    assert everything == set(EXTRAS) - {"all", "dev", "docs"}
