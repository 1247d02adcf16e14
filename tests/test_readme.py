import re
from pathlib import Path

import pytest

import twinrank

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    example, *_ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 (our own text)
    accuracy, *ranked = capsys.readouterr().out.splitlines()
    assert float(accuracy) > 0.3
    assert [line.split()[0] for line in ranked] == ["1", "2", "3"]


def test_public_names_are_not_hidden_by_the_rooms():
    for name in twinrank.__all__:
        assert callable(getattr(twinrank, name)), name
