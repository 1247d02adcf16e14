import logging

import pytest

from twinrank.data import Dataset, cast_short
from twinrank.errors import DataError


def types(dataset):
    return dataset.queries.select("id", "type", "text")


def test_short_conversations_become_questions_in_all_splits(help_centre, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    before = types(help_centre)
    lengths = before["text"].str.len_chars()
    was = before["type"] == "conversation"
    short = int(lengths.filter(was).quantile(0.3, interpolation="lower"))
    assert (lengths.filter(was) == short).any(), "one of exactly that length stays"
    cast = cast_short(help_centre, short)
    after = types(cast)
    assert after.drop("type").equals(before.drop("type"))
    is_short = was & (lengths < short)
    assert after.filter(is_short)["type"].unique().to_list() == ["question"]
    assert after.filter(~is_short)["type"].equals(before.filter(~is_short)["type"])
    for name in ("train", "validation", "test"):
        kinds = [d.split(name).frame["type"] for d in (help_centre, cast)]
        gone = [int((kind == "conversation").sum()) for kind in kinds]
        assert gone[0] > gone[1]
    assert f"{is_short.sum()} of {was.sum()} conversations have fewer than {short}" in caplog.text
    cast.save(tmp_path / "cast")
    assert Dataset.load(tmp_path / "cast").fingerprint == cast.fingerprint
    assert cast.fingerprint != help_centre.fingerprint
    assert cast_short(cast, short).fingerprint == cast.fingerprint
    questions = cast_short(help_centre, 10**6)
    with pytest.raises(DataError, match="no query is of type conversation; the types are question"):
        cast_short(questions, 100)
