"""Ranking by an index: candidates, changes of answers, and the index of a folder."""

import numpy as np
import polars as pl
import pytest

import twinrank.ranking.ranker
from tests.ranking.test_ranker import TEXTS, new_answer
from twinrank.errors import AnswerIndexError, RankerError
from twinrank.ranking import Ranker, answer_index, index_folder, read_manifest

PLACES = ["local", "answers.db"]


@pytest.fixture(params=["towers", "fused"])
def saved(request, fitted, tmp_path):
    folder = tmp_path / "ranker"
    fitted(request.param).save(folder)
    return folder


def indexed(folder, to="local"):
    place = to if to == "local" else str(folder / to)
    index_folder(folder, place)
    return Ranker.load(folder, index=place)


def candidates(ranker, k):
    queries = ranker.scoring.encode(TEXTS)
    return [rows for rows, _ in ranker.scoring.score_candidates(queries, k, ranker.shortlist)]


def same(rankings, expected):
    for ranking, others in zip(rankings, expected, strict=True):
        assert [answer.id for answer in ranking] == [answer.id for answer in others]
        for answer, other in zip(ranking, others, strict=True):
            assert answer.score == pytest.approx(other.score, abs=1e-4)
            assert answer.confidence == pytest.approx(other.confidence, abs=1e-4)
            assert (answer.parts or {}) == pytest.approx(other.parts or {}, abs=1e-4)


def test_only_candidates_are_ranked_and_fully_scored(saved, monkeypatch):
    monkeypatch.setattr(answer_index, "CANDIDATES", 6)
    ranker = indexed(saved)
    scores = Ranker.load(saved).scores(TEXTS)
    row_of = {id_: i for i, id_ in enumerate(ranker.answers["id"])}
    pairs = zip(candidates(ranker, 3), ranker.rank(TEXTS, 3), scores, strict=True)
    for rows, ranking, expected in pairs:
        assert len(rows) == 6 if ranker.recipe.name != "fused" else 6 <= len(rows) <= 12
        best = rows[np.argsort(-expected[rows], kind="stable")][:3]
        assert [row_of[answer.id] for answer in ranking] == best.tolist()
        assert [a.score for a in ranking] == pytest.approx(expected[best], abs=1e-4)


def test_whom_others_speak_for_is_a_candidate_however_far_it_is(fused, tmp_path, monkeypatch):
    monkeypatch.setattr(answer_index, "CANDIDATES", 1)
    fused.save(tmp_path)
    ranker = indexed(tmp_path)
    signals = ranker.scoring.signal_scores(ranker.scoring.encode(TEXTS))
    best = sum(scores for name, scores in signals.items() if name != "dense").argmax(axis=1)
    assert all(b in rows for b, rows in zip(best, candidates(ranker, 1), strict=True))


@pytest.mark.parametrize("to", PLACES)
def test_answers_come_and_go_in_the_index_too(saved, to):
    """With all answers as candidates it ranks as without an index."""
    ranker, plain = indexed(saved, to), Ranker.load(saved)
    same(ranker.rank(TEXTS, 10_000), plain.rank(TEXTS, 10_000))
    first, second = ranker.answers["id"][:2]
    for some in (ranker, plain):
        some.add_answers(new_answer(some))
        some.remove_answers([first])
        text = pl.lit("Sails are mended at the dock.").alias("text")
        some.put_answers(new_answer(some, second).with_columns(text))
    assert "new" in {a.id for a in ranker.rank("how do I moor a zeppelin", 3)[0]}
    same(ranker.rank(TEXTS, 10_000), plain.rank(TEXTS, 10_000))
    ranker.save(saved)
    same(indexed(saved, to).rank(TEXTS), plain.rank(TEXTS))


def test_a_local_index_serves_answers_that_changed_since(saved, monkeypatch):
    indexed(saved)
    ranker = Ranker.load(saved)
    ranker.add_answers(new_answer(ranker))
    ranker.remove_answers(ranker.answers["id"][:1])
    ranker.save(saved)
    assert "index.faiss" in read_manifest(saved).files
    loaded = Ranker.load(saved, index="local")
    assert not loaded.shortlist.index.unsaved
    assert (loaded.shortlist.keys < 0).sum() == loaded.shortlist.stale == 1
    same(loaded.rank(TEXTS, 10_000), ranker.rank(TEXTS, 10_000))
    monkeypatch.setattr(answer_index, "MAX_CHANGED_ANSWERS", 1)
    loaded = Ranker.load(saved, index="local")
    assert loaded.shortlist.index.unsaved  # made anew, in memory
    assert (loaded.shortlist.keys >= 0).all()


def test_a_milvus_that_fell_behind_is_refused_and_brought_up_to_date(saved):
    indexed(saved, "answers.db")
    ranker = Ranker.load(saved)
    ranker.add_answers(new_answer(ranker))
    ranker.save(saved)
    with pytest.raises(AnswerIndexError, match="up to date: twinrank index"):
        Ranker.load(saved, index=f"{saved}/answers.db")
    same(indexed(saved, "answers.db").rank(TEXTS), ranker.rank(TEXTS))


def test_answers_changed_while_an_index_is_made_are_in_it(saved, monkeypatch):
    module = twinrank.ranking.ranker
    update = module.update_index

    def meanwhile(*args):
        monkeypatch.setattr(module, "update_index", update)
        done = update(*args)
        ranker = Ranker.load(saved)
        ranker.remove_answers(ranker.answers["id"][:2])
        ranker.add_answers(new_answer(ranker))
        ranker.save(saved)
        return done

    monkeypatch.setattr(module, "update_index", meanwhile)
    done = index_folder(saved, "local")
    ranker = Ranker.load(saved, index="local")
    assert (ranker.shortlist.keys >= 0).all()
    assert ranker.shortlist.stale == 0
    assert "new" in ranker.answers["id"]
    assert (done.answers, done.removed) == (ranker.answers.height, 2)


def test_words_alone_have_no_vectors(fitted, tmp_path):
    fitted("bm25").save(tmp_path)
    with pytest.raises(RankerError, match="no vectors to index"):
        Ranker.load(tmp_path, index="local")
