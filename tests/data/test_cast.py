import logging

import polars as pl
import pytest

from twinrank.data import cast_short
from twinrank.errors import DataError


def types(dataset):
    return dataset.queries.select("id", "type", "text").collect()


@pytest.fixture
def short(help_centre):
    lengths = types(help_centre).filter(pl.col("type") == "conversation")["text"].str.len_chars()
    return int(lengths.quantile(0.3, interpolation="lower"))


def test_short_conversations_become_questions_and_nothing_else_changes(help_centre, short):
    before, after = types(help_centre), types(cast_short(help_centre, short))
    was = before["type"] == "conversation"
    is_short = before["text"].str.len_chars() < short
    assert after.drop("type").equals(before.drop("type"))
    assert set(after.filter(was & is_short)["type"]) == {"question"}
    assert set(after.filter(was & ~is_short)["type"]) == {"conversation"}
    assert set(after.filter(~was)["type"]) == {"question"}
    exact = before.filter(was)["text"].str.len_chars() == short
    assert exact.any(), "one of exactly that length stays"


def test_every_split_is_cast_alike_and_the_counts_are_said(help_centre, short, caplog):
    caplog.set_level(logging.INFO)
    cast = cast_short(help_centre, short)
    told = []
    for name in ("train", "validation", "test"):
        kinds = [d.split(name).frame["type"] for d in (help_centre, cast)]
        gone = [int((kind == "conversation").sum()) for kind in kinds]
        told.append(f"{name} {gone[0] - gone[1]}")
        assert gone[0] > gone[1]
    assert f"have fewer than {short} characters, and are questions now: " in caplog.text
    assert ", ".join(told) in caplog.text


def test_it_survives_the_disk(help_centre, short, tmp_path):
    cast = cast_short(help_centre, short)
    cast.save(tmp_path / "cast")
    assert type(cast).load(tmp_path / "cast").fingerprint == cast.fingerprint
    assert cast.fingerprint != help_centre.fingerprint
    assert cast_short(cast, short).fingerprint == cast.fingerprint


def test_without_conversations_there_is_nothing_to_cast(help_centre):
    questions = cast_short(help_centre, 10**6)
    assert questions.types == ("question",)
    with pytest.raises(DataError, match="no query is of type conversation; the types are question"):
        cast_short(questions, 100)
