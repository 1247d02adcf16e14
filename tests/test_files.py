import logging
import resource
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from twinrank.console import VisibleFormatter, visible
from twinrank.errors import TwinrankError
from twinrank.files import new_folder, read_text, write_file
from twinrank.ranking import Passages
from twinrank.ranking.faiss_index import FaissIndex

LONG = "x" * 20_000
INDEX = FaissIndex(8, "flat")
ROWS = np.arange(1_000)
INDEX.add(ROWS, Passages(np.zeros((1_000, 8), np.float32), ROWS, 1_000))
CONTENTS = {
    "text": LONG,
    "bytes": LONG.encode(),
    "safetensors": lambda file: save_file({"a": np.zeros(9_000)}, file),
    "polars": pl.DataFrame({"a": [LONG]}).write_ndjson,
    "faiss": INDEX.write,
}


@contextmanager
def full_disk():
    """No file may be larger than a kilobyte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_full_disk_leaves_the_old_file_alone(content, tmp_path):
    file = tmp_path / "page.html"
    file.write_text("old")
    with full_disk(), pytest.raises(OSError, match="File too large") as failure:
        write_file(file, content)
    assert failure.value.filename == str(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
    assert file.read_text() == "old"
    write_file(file, content)


def test_a_fault_of_the_program_is_no_failure_to_write(tmp_path):
    with pytest.raises(RecursionError), new_folder(tmp_path / "folder"):
        raise RecursionError
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_half_folder(tmp_path):
    fails = pytest.raises(OSError, match="File too large")
    with full_disk(), fails, new_folder(tmp_path / "folder") as beside:
        (beside / "file").write_text(LONG)
    assert not list(tmp_path.iterdir())


def test_a_byte_order_mark_is_no_text(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_text(file, "recipe") == "a = 1"
    with pytest.raises(TwinrankError, match="gone: no such recipe"):
        read_text(tmp_path / "gone", "recipe")


def test_control_characters_are_shown():
    assert visible("a\tb\r\n\x1b[2J\x85\u2066") == "a\tb\n\\u001b[2J\\u0085\\u2066"
    record = logging.LogRecord("", 0, "", 0, "put %s", ("\x1b[2J",), None)
    assert VisibleFormatter("%(message)s").format(record) == "put \\u001b[2J"
