from itertools import chain

import numpy as np
import polars as pl
import pytest
import torch

from twinrank.data import split_sentences, titled_sections
from twinrank.encoding import FeatureStore, RecentFeatures
from twinrank.ranking import Witness
from twinrank.ranking.explanation import AHEAD, SHORTEST
from twinrank.training import train

TEXTS = ["it wont let me in again", "User: where is my money??\nAgent: hello\nUser: the refund"]


@pytest.fixture(params=["bm25", "zero-shot", "towers", "fused"])
def ranker(request, recipes, help_centre):
    return train(help_centre, recipes[request.param], store=FeatureStore())


def evidence(ranker, texts=TEXTS, k=4):
    ids = [[answer.id for answer in ranking] for ranking in ranker.rank(texts, k)]
    return ids, Witness(ranker).evidence(texts, ids)


def sections_of(ranker, id_):
    return titled_sections(ranker.answers.filter(pl.col("id") == id_))[0]


def test_the_sentence_stands_in_the_section_that_is_named(ranker):
    ids, found = evidence(ranker)
    for id_, proof in zip(chain(*ids), chain(*found), strict=True):
        texts = dict(sections_of(ranker, id_))
        assert proof.sentence
        assert proof.sentence in texts[proof.section or ""]


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_sentence_and_section_are_those_nearest_to_the_query(ranker):
    """By float64 products of vectors made one by one."""
    ids, found = evidence(ranker)
    dense = ranker.dense

    def vector(text, tower):
        features = dense.reader.encoder.encode([text])[:, 1]
        with torch.inference_mode():
            return tower(torch.as_tensor(features))[0].numpy().astype(np.float64)

    for text, some, proofs in zip(TEXTS, ids, found, strict=True):
        query = vector(text, dense.towers.query)
        for id_, proof in zip(some, proofs, strict=True):
            row = ranker.answers["id"].to_list().index(id_)
            scores = dense.vectors.rows[dense.vectors.owner == row].numpy().astype(float) @ query
            title, section = sections_of(ranker, id_)[int(scores.argmax())]
            assert (proof.section or "") == title
            chosen = vector(proof.sentence, dense.towers.answer) @ query
            every = [each for each in split_sentences(section, "english") if len(each) >= SHORTEST]
            assert proof.sentence in every
            assert all(chosen >= vector(each, dense.towers.answer) @ query - 1e-4 for each in every)


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_past_queries_are_labelled_with_the_answer_nearest_first(ranker, help_centre):
    train = help_centre.split("train")
    ids, found = evidence(ranker)
    for id_, proof in zip(chain(*ids), chain(*found), strict=True):
        column = help_centre.answers["id"].to_list().index(id_)
        labelled = {train.texts[row] for row in train.labels[:, [column]].nonzero()[0]}
        assert {past.text for past in proof.past_queries} <= labelled
        assert len(proof.past_queries) == min(3, len(labelled))
        near = [past.similarity for past in proof.past_queries]
        assert near == sorted(near, reverse=True)


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_a_query_of_the_past_is_its_own_evidence(ranker, help_centre):
    train = help_centre.split("train")
    answer = help_centre.answers["id"][int(train.labels[[0], :].nonzero()[1][0])]
    ((proof,),) = Witness(ranker).evidence([train.texts[0]], [[answer]])
    assert proof.past_queries[0].text == train.texts[0]
    assert proof.past_queries[0].similarity == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("ranker", ["bm25", "fused"], indirect=True)
def test_an_answer_of_a_title_alone_has_that_as_its_sentence(ranker):
    row = ranker.answers.head(1).with_columns(
        id=pl.lit("bare"), title=pl.lit("Zeppelins"), text=pl.lit(""), sections=pl.lit([])
    )
    ranker.put_answers(row.cast(ranker.answers.schema))
    ((proof,),) = Witness(ranker).evidence(["hello"], [["bare"]])
    assert (proof.section, proof.sentence, proof.past_queries) == (None, "Zeppelins", ())


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_recent_features_change_no_evidence(ranker):
    _, expected = evidence(ranker)
    ranker.dense.reader.store = RecentFeatures()
    for _ in range(2):
        for some, before in zip(evidence(ranker)[1], expected, strict=True):
            for got, proof in zip(some, before, strict=True):
                assert (got.section, got.sentence) == (proof.section, proof.sentence)
                near = [past.similarity for past in proof.past_queries]
                assert [past.similarity for past in got.past_queries] == pytest.approx(near)


@pytest.mark.parametrize("ranker", ["towers", "fused"], indirect=True)
def test_what_was_read_ahead_is_not_encoded_again(ranker, monkeypatch):
    ranker.dense.reader.store = None
    witness = Witness(ranker)
    ids = [[answer.id for answer in ranking] for ranking in ranker.rank(TEXTS, 4)]
    expected = evidence(ranker)[1]
    calls, encode = [], ranker.dense.reader.encoder.encode
    monkeypatch.setattr(
        ranker.dense.reader.encoder,
        "encode",
        lambda texts, **kw: calls.append(list(texts)) or encode(texts),
    )
    for step, _ in enumerate(witness.read_ahead(), start=1):
        assert len(calls) == step
    assert max(map(len, calls)) <= AHEAD  # whoever asks meanwhile waits for no long answer
    calls.clear()
    found = witness.evidence(TEXTS, ids)
    assert [text for texts in calls for text in texts] == TEXTS
    for some, before in zip(found, expected, strict=True):
        assert [proof.sentence for proof in some] == [proof.sentence for proof in before]
