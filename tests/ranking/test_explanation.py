from dataclasses import replace
from itertools import chain

import numpy as np
import polars as pl
import pytest

from twinrank.data.texts import split_sentences, titled_sections
from twinrank.ranking import Explainer
from twinrank.ranking.explanation import MIN_SENTENCE_CHARACTERS, SENTENCES_A_STEP

TEXTS = ["it wont let me in again", "User: where is my money??\nAgent: hello\nUser: the refund"]


def explained(ranker, texts=TEXTS, k=4):
    ids = [[answer.id for answer in ranking] for ranking in ranker.rank(texts, k)]
    return ids, Explainer(ranker).explain(texts, ids)


def sections_of(ranker, id_):
    return titled_sections(ranker.answers.filter(pl.col("id") == id_))[0]


def test_the_sentence_stands_in_the_section_that_is_named(ranker):
    ids, evidence = explained(ranker)
    for id_, proof in zip(chain(*ids), chain(*evidence), strict=True):
        assert proof.sentence
        assert proof.sentence in proof.passage
        assert (proof.section or "", proof.passage) in sections_of(ranker, id_)


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_sentence_and_section_are_those_nearest_to_the_query(ranker):
    """By float64 products of vectors made one by one."""
    ids, evidence = explained(ranker)
    dense = ranker.dense

    def vector(text, project):
        return project(dense.reader.encoder.encode([text])[:, 1])[0].astype(np.float64)

    for text, ranking, proofs in zip(TEXTS, ids, evidence, strict=True):
        query = vector(text, dense.towers.project_queries)
        for id_, proof in zip(ranking, proofs, strict=True):
            row = ranker.answers["id"].to_list().index(id_)
            scores = dense.vectors.rows[dense.vectors.owner == row].astype(float) @ query
            title, section = sections_of(ranker, id_)[int(scores.argmax())]
            assert (proof.section or "") == title
            every = split_sentences(section, "english")
            every = [sentence for sentence in every if len(sentence) >= MIN_SENTENCE_CHARACTERS]
            assert proof.sentence in every
            products = {s: vector(s, dense.towers.project_answers) @ query for s in every}
            assert products[proof.sentence] >= max(products.values()) - 1e-4


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_past_queries_are_labelled_with_the_answer_nearest_first(ranker, help_centre):
    both = pl.col("split").replace("validation", "train")  # it was trained on both
    train = replace(help_centre, labels=help_centre.labels.with_columns(both)).split("train")
    ids, evidence = explained(ranker)
    for id_, proof in zip(chain(*ids), chain(*evidence), strict=True):
        column = help_centre.answers["id"].to_list().index(id_)
        rows = train.labels[:, [column]].nonzero()[0]
        known = {(train.frame["id"][int(row)], train.texts[row]) for row in rows}
        assert {(past.id, past.text) for past in proof.past_queries} <= known
        assert (len(proof.past_queries), proof.solved) == (min(3, len(rows)), len(rows))
        near = [past.similarity for past in proof.past_queries]
        assert near == sorted(near, reverse=True)
    answer = help_centre.answers["id"][int(train.labels[[0], :].nonzero()[1][0])]
    ((proof,),) = Explainer(ranker).explain([train.texts[0]], [[answer]])
    assert proof.past_queries[0].text == train.texts[0]  # a past query is its own evidence
    assert proof.past_queries[0].similarity == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("title", ["Zeppelins", "?!"])
@pytest.mark.parametrize("ranker", ["bm25", "fused"], indirect=True)
def test_an_answer_of_a_title_alone_has_that_as_its_sentence(ranker, title):
    row = ranker.answers.head(1).with_columns(
        id=pl.lit("bare"), title=pl.lit(title), text=pl.lit(""), sections=pl.lit([])
    )
    ranker.put_answers(row.cast(ranker.answers.schema))
    ((proof,),) = Explainer(ranker).explain(["hello"], [["bare"]])
    sentence = None if title == "?!" and ranker.dense is None else title  # words find no sign
    assert (proof.section, proof.sentence, proof.past_queries) == (None, sentence, ())


@pytest.mark.parametrize("ranker", ["fused"], indirect=True)
def test_what_warmed_up_is_not_encoded_again(ranker, monkeypatch):
    monkeypatch.setattr(ranker.dense.reader, "store", None)
    explainer = Explainer(ranker)
    ids, expected = explained(ranker)
    calls, encode = [], ranker.dense.reader.encoder.encode
    monkeypatch.setattr(
        ranker.dense.reader.encoder,
        "encode",
        lambda texts, **kw: calls.append(list(texts)) or encode(texts),
    )
    for step, _ in enumerate(explainer.warm_up(), start=1):
        assert len(calls) == step
    assert max(map(len, calls)) <= SENTENCES_A_STEP  # a query meanwhile waits for no long answer
    calls.clear()
    evidence = explainer.explain(TEXTS, ids)
    assert [text for texts in calls for text in texts] == TEXTS
    assert [p.sentence for p in chain(*evidence)] == [p.sentence for p in chain(*expected)]
