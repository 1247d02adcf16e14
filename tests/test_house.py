"""The shape of the code: names that say what they hold, functions that one can read whole."""

import ast
import os
from collections import Counter
from pathlib import Path

import pytest

import twinrank

SOURCE = Path(__file__).parents[1] / "src" / "twinrank"
HOW_IT_WORKS = Path(__file__).parents[1] / "docs" / "how-it-works.md"
FILES = sorted(SOURCE.rglob("*.py"))
# Participles and pronouns say nothing about the value that bears them.
VAGUE_NAMES = frozenset(
    {
        *("told", "said", "found", "held", "kept", "placed", "drawn", "own", "some", "each", "one"),
        *("other", "there", "here", "ours", "theirs", "beside", "aside"),
    }
)
MAX_FUNCTION_LINES = 60


def bound_names(tree):
    """Give every name that a file binds: variables, parameters, attributes, functions."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_names_and_lengths(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [(name.strip("_").lower(), line) for name, line in bound_names(tree)]
    assert not [f"line {line}: {name}" for name, line in names if name in VAGUE_NAMES]
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert not {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES}


def test_no_two_files_have_one_name():
    names = Counter(file.name for file in FILES if not file.name.startswith("__"))
    assert not [name for name, count in names.items() if count > 1]


def draw_tree():
    """Draw the tree of the code: a line a room and a file, captioned by its docstring."""
    lines = []
    for folder in [SOURCE, *sorted(path for path in SOURCE.iterdir() if path.is_dir())]:
        files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("__"))
        if files:
            lines.append(
                f"{folder.relative_to(SOURCE.parents[1])}/" + caption(folder / "__init__.py")
            )
            lines += [f"  {file.name:<24}" + caption(file) for file in files]
    return "\n".join(line.rstrip() for line in lines)


def caption(file):
    first = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))).splitlines()[0]
    return f"  {first.removesuffix('.')}"


def test_the_docs_show_the_tree():
    """`TWINRANK_GOLDEN=write pytest tests/test_house.py` draws it anew."""
    text = HOW_IT_WORKS.read_text(encoding="utf-8")
    first = text.index("```text\n", text.index("## The code\n")) + len("```text\n")
    fences = [first, text.index("```\n", first)]
    if os.environ.get("TWINRANK_GOLDEN") == "write":
        shown = text[: fences[0]] + draw_tree() + "\n" + text[fences[1] :]
        HOW_IT_WORKS.write_text(shown, encoding="utf-8")
        return
    assert text[fences[0] : fences[1]] == draw_tree() + "\n"


def test_public_names_are_not_hidden_by_the_rooms():
    for name in twinrank.__all__:
        assert callable(getattr(twinrank, name)), name
