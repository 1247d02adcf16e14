"""The shape of the code: names that say what they hold, functions that one can read whole."""

import ast
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "twinrank"
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
    """Give every name that a file binds: variables, parameters, attributes, functions, classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_names_and_lengths(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [(name.strip("_").lower(), line) for name, line in bound_names(tree)]
    assert not [f"line {line}: {name}" for name, line in names if name in VAGUE_NAMES]
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions}
    assert not {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES}


def test_no_two_files_have_one_name():
    names = Counter(file.name for file in FILES if not file.name.startswith("__"))
    assert not [name for name, count in names.items() if count > 1]
