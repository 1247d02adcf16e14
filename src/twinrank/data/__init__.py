"""Data sets: loaded, checked, imported from tables, split and described."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twinrank.data.columns import Columns as Columns
from twinrank.data.dataset import Dataset as Dataset
from twinrank.data.dataset import Queries as Queries
from twinrank.data.splitting import split as split
from twinrank.data.statistics import Description as Description
from twinrank.data.statistics import describe as describe
from twinrank.data.texts import answer_texts as answer_texts
from twinrank.data.trec import read_run as read_run
from twinrank.data.trec import write_run as write_run

if TYPE_CHECKING:
    from twinrank.data.importing import cast_short as cast_short
    from twinrank.data.importing import import_exports as import_exports
    from twinrank.data.importing import import_tables as import_tables
    from twinrank.data.public_collections import import_collection as import_collection

_HOMES = {
    **dict.fromkeys(("cast_short", "import_exports", "import_tables"), "importing"),
    "import_collection": "public_collections",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Load what makes data sets on first use: ranking needs no parser of HTML or mails."""
    if name not in _HOMES:
        raise AttributeError(f"module 'twinrank.data' has no attribute {name!r}")
    return getattr(import_module(f"twinrank.data.{_HOMES[name]}"), name)
