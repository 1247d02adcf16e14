"""Filters on metadata: which answers fit, and that ranking by one is ranking those alone."""

import json
import logging

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ranking.test_ranker import TEXTS
from twinrank.errors import ArgumentError, TwinrankError
from twinrank.ranking import AnswerFields, Filter, Ranker, answer_index, filters, index_folder

PLACES = ["local", "answers.db"]
HERE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
FIELDS = ["locale", "brand", 'æ \\"field"']
SCALARS = st.sampled_from(["da", "en", "", "a,b", "true", "3"]) | st.booleans() | st.integers(2, 4)
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.none() | st.just({"da": "en"}) | st.just(3.0)
METADATA = st.dictionaries(st.sampled_from(FIELDS), VALUES)
WHERE = st.dictionaries(st.sampled_from(FIELDS), SCALARS | st.lists(SCALARS, max_size=3))


def texts_of(value):
    """What a value is compared as, said in another way."""
    if isinstance(value, list):
        return {text for one in value for text in texts_of(one)}
    if value is None or isinstance(value, dict):
        return set()
    return {value if isinstance(value, str) else json.dumps(value)}


@settings(max_examples=100, **HERE)
@given(st.lists(METADATA, max_size=8), WHERE, st.booleans())
def test_an_answer_fits_if_each_field_has_one_of_the_values(metadata, where, ascii_only):
    written = [json.dumps(record, ensure_ascii=ascii_only) for record in metadata]
    fields = AnswerFields(pl.Series(written, dtype=pl.String))
    values = [{field: texts_of(record.get(field)) for field in where} for record in metadata]
    wanted = {field: texts_of(value) for field, value in where.items()}
    expected = [all(wanted[f] & has[f] for f in where) for has in values]
    wholly = [all(has[f] and has[f] <= wanted[f] for f in where) for has in values]
    assert fields.select(Filter.of(where)).tolist() == expected
    assert fields.select(Filter.of(where), wholly=True).tolist() == wholly


@given(WHERE, WHERE)
def test_a_filter_and_another_fit_what_fits_both(one, other):
    fields = AnswerFields(
        pl.Series([json.dumps({"locale": a, "brand": b}) for a in ("da", 3) for b in ("en", True)])
    )
    both = fields.select(Filter.of(one)) & fields.select(Filter.of(other))
    assert fields.select(Filter.of(one) & Filter.of(other)).tolist() == both.tolist()


@given(WHERE, WHERE)
def test_two_filters_are_written_alike_only_if_they_are_alike(one, other):
    one, other = Filter.of(one), Filter.of(other)
    assert (str(one) == str(other)) == (one == other)
    assert bool(str(one)) == bool(one)


@pytest.mark.parametrize(
    ("conditions", "where"),
    [
        (["locale=da"], {"locale": "da"}),
        (["brand=a,b", "locale=da"], {"brand": ["a", "b"], "locale": "da"}),
        (["brand=a", "brand=b"], {"brand": ["a", "b"]}),
        (["brand=a\\,b,c = d"], {"brand": ["a,b", "c = d"]}),
        ([], {}),
    ],
)
def test_conditions_are_read(conditions, where):
    assert Filter.parse(conditions) == Filter.of(where)


@pytest.mark.parametrize("condition", ["locale", "=da", "locale=", "locale=da,", "locale=,da", ""])
def test_a_condition_that_is_none_is_refused(condition):
    with pytest.raises(TwinrankError, match="is no filter; write FIELD=VALUE"):
        Filter.parse([condition])


@pytest.mark.parametrize("where", ["da", ["locale"], {1: "da"}, {"locale": None}, {"a": [["b"]]}])
def test_where_that_is_no_mapping_of_values_is_refused(where):
    with pytest.raises(ArgumentError, match="where"):
        Filter.of(where)


def with_metadata(ranker, metadata):
    """Give answers metadata in turn."""
    column = [json.dumps(metadata[row % len(metadata)]) for row in range(ranker.answers.height)]
    ranker.answers = ranker.answers.with_columns(metadata=pl.Series(column))
    return ranker


def shown(rankings, ids):
    """Rankings without what no filter changes: ranks, and confidences of other choices."""
    return [[(a.id, a.score) for a in ranking if a.id in ids] for ranking in rankings]


@settings(max_examples=15, **HERE)
@given(metadata=st.lists(METADATA, min_size=1, max_size=5), where=WHERE, k=st.integers(1, 60))
def test_filtered_it_ranks_as_of_all_those_that_fit(ranker, metadata, where, k):
    with_metadata(ranker, metadata)
    fits = ranker.fields.select(Filter.of(where))
    ids = set(ranker.answers["id"].filter(fits))
    expected = [ranking[:k] for ranking in shown(ranker.rank(TEXTS, 10_000), ids)]
    rankings = ranker.rank(TEXTS, k, where=where)
    assert shown(rankings, ids) == expected
    assert all(len(ranking) == min(k, len(ids)) for ranking in rankings)
    for ranking, scores in zip(rankings, ranker.scores(TEXTS)[:, fits], strict=True):
        assert [answer.rank for answer in ranking] == list(range(1, len(ranking) + 1))
        if ranking and ranker.confidence:
            assert ranking[0].confidence == pytest.approx(ranker.confidence.of(scores[None])[0])


@pytest.mark.parametrize("candidates", [1, 10_000])
@pytest.mark.parametrize("to", PLACES)
@pytest.mark.parametrize("name", ["towers", "fused"])
def test_filtered_an_index_finds_k_of_those_that_fit(
    fitted, tmp_path, monkeypatch, name, to, candidates
):
    """With all as candidates it ranks as without an index, and with few it finds as many."""
    monkeypatch.setattr(answer_index, "CANDIDATES", candidates)
    with_metadata(fitted(name), [{"locale": "da"}, {"locale": "en"}, {}]).save(tmp_path)
    place = to if to == "local" else str(tmp_path / to)
    index_folder(tmp_path, place)
    ranker, plain = Ranker.load(tmp_path, index=place), Ranker.load(tmp_path)
    for changed in (ranker, plain):
        changed.remove_answers(changed.answers["id"][:2])
        new = changed.answers.filter(pl.col("metadata") == '{"locale": "da"}').head(2)
        changed.add_answers(
            new.with_columns(id=pl.lit("new ") + pl.col("id"), text=pl.lit("Moor ") + pl.col("id"))
        )
    for k in (1, 5, 1_000):
        rankings = ranker.rank(TEXTS, k, where={"locale": "da"})
        expected = plain.rank(TEXTS, k, where={"locale": "da"})
        assert [len(ranking) for ranking in rankings] == [len(other) for other in expected]
        if candidates > 1 or name == "towers":
            assert [[a.id for a in ranking] for ranking in rankings] == [
                [a.id for a in other] for other in expected
            ]
        scores = [[a.score for a in ranking] for ranking in rankings]
        if candidates > 1:
            np.testing.assert_allclose(scores, [[a.score for a in o] for o in expected], atol=1e-4)


def test_what_fits_nothing_gives_nothing_and_an_unknown_field_is_said_once(ranker, caplog):
    filters._warn_of_unknown.cache_clear()
    with_metadata(ranker, [{"locale": "da"}])
    with caplog.at_level(logging.WARNING):
        for where in ({"locale": "en"}, {"brand": "a"}, {"locale": "da", "brand": []}):
            assert ranker.rank(TEXTS, where=where) == [[], []]
            assert ranker.rank(TEXTS, where=where, min_confidence=0.0) == [[], []]
    assert caplog.text.count("no answer has the metadata 'brand'") == 1
    assert "locale" not in caplog.text
    assert ranker.rank(TEXTS, where={}) == ranker.rank(TEXTS)


def test_a_filter_goes_by_the_answers_as_they_are_now(ranker):
    with_metadata(ranker, [{"brand": "a"}, {"brand": "b"}])
    (before,) = ranker.rank("hello", 1_000, where={"brand": "b"})
    id_ = before[0].id
    changed = ranker.answers.filter(pl.col("id") == id_)
    ranker.put_answers(changed.with_columns(metadata=pl.lit('{"brand": ["a", "c"]}')))
    (after,) = ranker.rank("hello", 1_000, where={"brand": "b"})
    assert {a.id for a in before} - {a.id for a in after} == {id_}
    assert [a.id for a in ranker.rank("hello", where={"brand": "c"})[0]] == [id_]
    ranker.put_answers(changed.drop("metadata").with_columns(text=pl.lit("Another text.")))
    assert [a.id for a in ranker.rank("hello", where={"brand": "c"})[0]] == [id_]  # it stayed
    ranker.set_aside(id_)
    assert ranker.rank("hello", where={"brand": "c"}) == [[]]
    ranker.restore_answer(id_)
    assert [a.id for a in ranker.rank("hello", where={"brand": "c"})[0]] == [id_]
