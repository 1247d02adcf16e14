import numpy as np
import polars as pl
import pytest

from misses import counted, drawn, main
from twinrank import train


@pytest.fixture(scope="module")
def ranker(help_centre, recipes):
    return train(help_centre, recipes["bm25"])


def test_misses_are_the_queries_without_a_right_answer_in_the_first_three(ranker, help_centre):
    found = drawn(ranker, help_centre, "test")
    queries = help_centre.split("test")
    hits = 0
    for text, answers in zip(queries.texts, queries.labels.toarray() > 0, strict=True):
        right = set(np.array(help_centre.answers["id"])[answers])
        hits += bool(right & {answer.id for answer in ranker.rank(text, 3)[0]})
    assert found.height == len(queries) - hits > 0
    for row in found.iter_rows(named=True):
        assert not set(row["right"].split(";")) & set(row["first"].split(";"))


def test_what_was_drawn_is_counted_once_judged(ranker, help_centre, tmp_path, capsys):
    ranker.save(tmp_path / "ranker")
    out = tmp_path / "misses.tsv"
    main(tmp_path / "ranker", help_centre.folder, out=out, count=10)
    rows = pl.read_csv(out, separator="\t", quote_char=None)
    assert rows.height == 10
    judged = rows.with_columns(verdict=pl.Series(["a"] * 7 + ["b"] * 3))
    judged.write_csv(out, separator="\t", quote_style="never")
    capsys.readouterr()
    main(tally=out)
    assert "7" in capsys.readouterr().out
    first = counted(judged).row(0, named=True)
    assert (first["verdict"], first["len"]) == ("a", 7)
    assert first["from"] < 0.7 < first["to"]
    left = counted(judged, judged["id"][[0, 1, 7]])
    assert left.select("verdict", "missed").rows() == [("a", 2), ("b", 1)]
    assert counted(judged, judged["id"][:1])["missed"].to_list() == [1, 0]
