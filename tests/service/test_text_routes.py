"""Reranking and embeddings of any texts."""

import numpy as np
import polars as pl
import pytest

from tests.service.conftest import opened
from tests.service.test_guard import bearer
from twinrank.ranking import Ranker
from twinrank.ranking.signals import QueryBatch
from twinrank.training import train

QUERY = "how do I reset my password"
TEXTS = ["Invoices are sent each month.", "Reset your password in the settings.", "", "Hello."]
LONG = "password " * 200


def rerank(client, **body):
    reply = client.post("/v2/rerank", json={"query": QUERY, "documents": TEXTS, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def embed(client, **body):
    return client.post("/v1/embeddings", json={"model": "query", "input": QUERY, **body})


def test_documents_come_best_first_with_their_places(reader, trained):
    whole = rerank(reader)
    scores = {result["index"]: result["relevance_score"] for result in whole["results"]}
    assert [*scores.values()] == sorted(scores.values(), reverse=True)
    scoring, fits = Ranker.load(trained).scoring, np.ones(Ranker.load(trained).answers.height, bool)
    vectors = scoring.dense.embed_documents(TEXTS)
    expected = scoring.score_texts(scoring.encode([QUERY]), TEXTS, vectors, fits)
    np.testing.assert_allclose([scores[i] for i in range(len(TEXTS))], expected, rtol=1e-3)
    assert rerank(reader, top_n=2)["results"] == whole["results"][:2]
    as_objects = rerank(reader, documents=[{"text": text} for text in TEXTS], return_documents=True)
    assert [r["document"]["text"] for r in as_objects["results"]] == [TEXTS[i] for i in scores]


def test_a_score_depends_on_no_other_document(reader):
    """Clients send documents in parts, and compare their scores."""
    together = {r["index"]: r["relevance_score"] for r in rerank(reader)["results"]}
    for i, text in enumerate(TEXTS):
        (alone,) = rerank(reader, documents=[text])["results"]
        assert alone["relevance_score"] == pytest.approx(together[i], rel=1e-3)


def test_many_documents_are_scored_in_turns(reader):
    documents = [f"password number {i}" for i in range(100)]
    results = rerank(reader, documents=documents)["results"]
    assert sorted(result["index"] for result in results) == [*range(100)]


def test_what_is_read_in_part_is_said(reader):
    assert "warnings" not in rerank(reader)["meta"]
    (line,) = rerank(reader, documents=[*TEXTS, LONG])["meta"]["warnings"]
    assert line == "1 of 5 texts are longer: only their first 64 tokens are in vectors"
    assert "warnings" not in rerank(reader, max_tokens_per_doc=4096)["meta"]
    (line,) = rerank(reader, max_tokens_per_doc=9)["meta"]["warnings"]
    assert line.startswith("max_tokens_per_doc is not followed")
    assert embed(reader, input=LONG).json()["warnings"]


@pytest.mark.parametrize(
    ("path", "body", "line"),
    [
        ("v2/rerank", {"documents": ["x"]}, "Field required"),
        ("v2/rerank", {"query": " ", "documents": ["x"]}, "is empty; give it some words"),
        ("v2/rerank", {"query": "x", "documents": []}, "at least 1"),
        ("v2/rerank", {"query": "x", "documents": ["x"] * 1_001}, "at most 1000"),
        ("v2/rerank", {"query": "x", "documents": ["x"], "top_n": 0}, "top_n"),
        ("v2/rerank", {"query": "x", "documents": ["x"], "rank_fields": ["y"]}, "rank_fields"),
        ("v1/embeddings", {"model": "query"}, "input: Field required"),
        ("v1/embeddings", {"input": "x", "model": "ada"}, "'query' or 'document'"),
        ("v1/embeddings", {"input": [1, 2], "model": "query"}, "tokens of another model"),
        ("v1/embeddings", {"input": [[1]], "model": "query"}, "check_embedding_ctx_length=False"),
        ("v1/embeddings", {"input": [], "model": "query"}, "at least 1"),
        ("v1/embeddings", {"input": ["x", " "], "model": "query"}, "is empty"),
        ("v1/embeddings", {"input": "x", "model": "query", "dimensions": 8}, "have 32 here"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(reader, path, body, line):
    reply = reader.post(f"/{path}", json=body)
    assert reply.status_code == 422
    assert line in reply.json()["detail"]


def test_a_ranker_of_words_reranks_and_has_no_vectors(recipes, help_centre, tmp_path):
    train(help_centre, recipes["bm25"], out=tmp_path / "words")
    with opened(tmp_path / "words", tmp_path) as client:
        results = rerank(client)["results"]
        assert results[0]["index"] == 1
        words = Ranker.load(tmp_path / "words").scoring
        batch, none = QueryBatch([QUERY], np.empty((1, 0))), np.empty((4, 0))
        fits = np.ones(help_centre.answers.height, bool)
        expected = sorted(words.score_texts(batch, TEXTS, none, fits))
        np.testing.assert_allclose([r["relevance_score"] for r in results], expected[::-1])
        refused = embed(client)
        assert (refused.status_code, "no vectors" in refused.text) == (422, True)


def test_what_others_own_changes_no_score(service, settings, recipes, help_centre, tmp_path):
    """A key with a filter is not told by a number of an answer that it may not see."""
    folder = tmp_path / "towers"
    ranker = train(help_centre, recipes["towers"])
    ranker.answers = ranker.answers.with_columns(metadata=pl.lit('{"brand": "acme"}'))
    ranker.save(folder)
    (tmp_path / "keys").write_text(f"read {'a' * 20} brand=acme\nwrite {'w' * 20}\n")
    changes = {"ranker": folder, "keys": tmp_path / "keys"}
    client = service(settings.model_copy(update=changes))
    theirs = {"title": "Secret zeppelin", "metadata": {"brand": "globex"}}
    body = {"query": "secret zeppelin", "documents": ["Secret zeppelin"]}

    def scores():
        replies = [client.post("/v2/rerank", json=body, headers=bearer(k * 20)) for k in "aw"]
        return [reply.json()["results"][0]["relevance_score"] for reply in replies]

    before = scores()
    put = client.put("/v1/answers/theirs", json=theirs, headers=bearer("w" * 20))
    assert put.status_code == 201
    of_acme, of_all = scores()
    assert of_acme == pytest.approx(before[0], rel=1e-4)
    assert of_all < before[1] * 0.99


def test_personal_words_are_redacted_before_they_are_read(service, settings, caplog):
    pytest.importorskip("stdnum")
    client = service(settings.model_copy(update={"redact": True, "log_texts": True}))
    asked = "write to jane@example.org"
    with caplog.at_level("INFO"):
        by_mail = rerank(client, query=asked)["results"]
        vector = embed(client, input=asked).json()["data"][0]["embedding"]
    assert "jane" not in caplog.text
    bare = service(settings)
    assert embed(bare, input=asked).json()["data"][0]["embedding"] != pytest.approx(vector)
    assert len(by_mail) == len(TEXTS)
