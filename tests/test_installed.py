"""The built wheel in environments of its own: what one extra brings is enough for its commands."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import httpx
import pytest

from tests.service.test_server import served
from twinrank.ranking import Ranker
from twinrank.sharing.package import package

ROOT = Path(__file__).parents[1]
MAX_SERVING_MB = 900
QUERY = "it wont let me in again"


def call(*command):
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT.anchor
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_client_and_serve_alone(trained, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("TWINRANK_BACKEND")
    package(trained, tmp_path / "package")
    expected = [answer.id for answer in Ranker.load(trained).rank(QUERY, 3)[0]]
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    call(*pip, "wheel", "--no-deps", ROOT, "--wheel-dir", tmp_path)
    (wheel,) = tmp_path.glob("twinrank-*.whl")
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=True)  # the pip of the tests installs there
    python = folder / "bin" / "python"
    install = (*pip, "--python", python, "install", "-c", ROOT / "constraints.txt")

    call(*install, f"{wheel}[client]")
    call(python, "-c", "from twinrank import Client; Client('http://localhost')")

    call(*install, f"{wheel}[serve]")
    call(python, "-c", "import importlib.util as u; assert not u.find_spec('torch')")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert size < MAX_SERVING_MB * 1_000_000
    ranked = json.loads(
        call(python, "-m", "twinrank.cli", "rank", tmp_path / "package", QUERY, "--json")
    )
    assert [answer["id"] for answer in ranked[0]["answers"]][:3] == expected
    with served(tmp_path / "package", python=python) as (_, address):
        reply = httpx.post(f"{address}/v1/rank", json={"text": QUERY, "k": 3}, timeout=60).json()
    assert [answer["id"] for answer in reply["answers"]] == expected
