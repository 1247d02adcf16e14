"""Cohere's and OpenAI's own clients against a running service."""

import cohere
import numpy as np
import openai
import pytest

from tests.asynchronous import run
from tests.client.conftest import READ
from twinrank.ranking import Ranker

pytestmark = pytest.mark.slow

ASKED = "how do I reset my password"
TEXTS = ["Invoices are sent each month.", "Reset your password in the settings.", "Hello."]


def test_coheres_client_reranks(service):
    second = cohere.ClientV2(READ, base_url=service.url)
    reply = second.rerank(model="any", query=ASKED, documents=TEXTS, max_tokens_per_doc=4096)
    scores = [result.relevance_score for result in reply.results]
    assert scores == sorted(scores, reverse=True)
    assert {result.index for result in reply.results} == {0, 1, 2}
    assert reply.meta.api_version.version == "2"
    first = cohere.Client(READ, base_url=service.url)
    documents = [{"text": text} for text in TEXTS]
    best = first.rerank(query=ASKED, documents=documents, top_n=1, return_documents=True).results
    assert [(r.index, r.document.text) for r in best] == [
        (reply.results[0].index, TEXTS[reply.results[0].index])
    ]

    async def ask():
        third = cohere.AsyncClientV2(READ, base_url=service.url)
        return await third.rerank(model="any", query=ASKED, documents=TEXTS)

    assert [r.index for r in run(ask()).results] == [r.index for r in reply.results]


def test_openais_client_embeds(service, trained):
    client = openai.OpenAI(api_key=READ, base_url=f"{service.url}/v1")
    dense = Ranker.load(trained).dense
    for model, embed in (("query", dense.embed_queries), ("document", dense.embed_documents)):
        packed = client.embeddings.create(model=model, input=TEXTS)  # the client unpacks base64
        plain = client.embeddings.create(model=model, input=TEXTS[1], encoding_format="float")
        vectors = np.array([entry.embedding for entry in packed.data])
        np.testing.assert_allclose(vectors, embed(TEXTS), atol=1e-4)
        np.testing.assert_allclose(plain.data[0].embedding, vectors[1], atol=1e-4)
        assert [entry.index for entry in packed.data] == [0, 1, 2]
        assert packed.usage.total_tokens == packed.usage.prompt_tokens > 0
    with pytest.raises(openai.UnprocessableEntityError, match="tokens of another model"):
        client.embeddings.create(model="query", input=[[1, 2, 3]])
    with pytest.raises(openai.AuthenticationError) as refused:
        openai.OpenAI(api_key="x" * 20, base_url=f"{service.url}/v1").embeddings.create(
            model="query", input="hello"
        )
    assert "this key is not known" in refused.value.body["detail"]
