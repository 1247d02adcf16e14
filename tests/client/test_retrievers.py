"""Retrievers of LangChain, LlamaIndex and Haystack against a running service."""

import asyncio

import pytest
from haystack import Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.components.rankers import MetaFieldRanker
from haystack.utils import Secret

from tests.asynchronous import run
from tests.client.conftest import READ, WRITE
from twinrank import Client
from twinrank.client import ClientError, retrievers
from twinrank.client.retrievers import HaystackRetriever, LangChainRetriever, LlamaIndexRetriever

pytestmark = pytest.mark.slow

ASKED = "guessed too often, now blocked, and I still don't know the password"
TOLD = {"id", "title", "url", "score", "confidence"}


@pytest.fixture(scope="module")
def client(service):
    with Client(service.url, READ) as client:
        yield client


@pytest.fixture(scope="module")
def best(client):
    return client.rank(ASKED, k=3).answers


def ask(framework, client, **options):
    """What a framework gets, as (id, text, metadata, score)."""
    if framework == "langchain":
        documents = LangChainRetriever(client=client, k=3, **options).invoke(ASKED)
        return [(d.id, d.page_content, d.metadata, d.metadata["score"]) for d in documents]
    if framework == "llamaindex":
        nodes = LlamaIndexRetriever(client, k=3, **options).retrieve(ASKED)
        return [(n.node.node_id, n.node.text, n.node.metadata, n.score) for n in nodes]
    key = Secret.from_token(READ)
    component = HaystackRetriever(client._service.address, key, top_k=3, options=options)
    documents = component.run(ASKED)["documents"]
    component.close()
    return [(d.id, d.content, d.meta, d.score) for d in documents]


FRAMEWORKS = pytest.mark.parametrize("framework", ["langchain", "llamaindex", "haystack"])


@FRAMEWORKS
def test_documents_are_the_ranking(framework, client, best, help_centre):
    documents = ask(framework, client)
    texts = dict(help_centre.answers.select("id", "text").iter_rows())
    assert [document[0] for document in documents] == [answer.id for answer in best]
    for (id_, text, metadata, score), answer in zip(documents, best, strict=True):
        assert text == texts[id_]
        assert set(metadata) == TOLD
        assert metadata["url"] == answer.url
        assert score == metadata["score"] == pytest.approx(answer.score, abs=1e-4)


@FRAMEWORKS
@pytest.mark.parametrize("passage", ["section", "sentence"])
def test_a_passage_may_be_what_fits_best(framework, client, best, passage):
    documents = ask(framework, client, passage=passage)
    for (id_, text, _, _), answer in zip(documents, best, strict=True):
        parts = {part.title: part.text.strip() for part in client.answer(id_).sections}
        if passage == "sentence":
            assert text == answer.sentence
        else:
            assert answer.sentence in text
            assert text == parts[answer.section] if answer.section else text in parts.values()


@FRAMEWORKS
def test_documents_have_the_metadata_that_is_asked_for(framework, service):
    with Client(service.url, WRITE) as client:
        client.put_answer("a", title="Hangar", metadata={"brand": "acme", "level": 3})
        client.put_answer("b", title="Hangar", metadata={"brand": "acme", "level": 4})
        try:
            where = {"brand": ["acme", "other"], "level": 3}
            assert [d[:2] for d in ask(framework, client, where=where)] == [("a", "Hangar")]
        finally:
            client.delete_answer("a")
            client.delete_answer("b")


@FRAMEWORKS
def test_a_passage_that_is_none_is_said(framework, client):
    with pytest.raises((ClientError, ValueError), match="'answer', 'section' or 'sentence'"):
        ask(framework, client, passage="text")


@pytest.fixture
def component(service, monkeypatch):
    monkeypatch.setenv("TWINRANK_KEY", READ)
    made = HaystackRetriever(service.url, Secret.from_env_var("TWINRANK_KEY"), top_k=3)
    yield made
    made.close()


def test_each_framework_can_ask_without_waiting(client, best, component):
    async def several():
        chain, index = LangChainRetriever(client=client, k=3), LlamaIndexRetriever(client, k=3)
        documents = await asyncio.gather(*[chain.ainvoke(ASKED) for _ in range(5)])
        nodes = await asyncio.gather(*[index.aretrieve(ASKED) for _ in range(5)])
        found = await asyncio.gather(*[component.run_async(ASKED) for _ in range(5)])
        ids = [[n.node.node_id for n in some] for some in nodes]
        ids += [[d.id for d in some] for some in documents]
        return ids + [[d.id for d in each["documents"]] for each in found]

    assert run(several()) == [[answer.id for answer in best]] * 15


def test_haystack_writes_no_key_in_clear():
    with pytest.raises(ClientError, match=r"give a Secret"):
        HaystackRetriever("http://x", key="plain")


def test_a_haystack_pipeline_is_written_and_read_again(component, best):
    pipeline = Pipeline()
    pipeline.add_component("retriever", component)
    pipeline.add_component("joiner", DocumentJoiner())
    pipeline.add_component("ranker", MetaFieldRanker("score"))
    pipeline.connect("retriever.documents", "joiner.documents")
    pipeline.connect("joiner.documents", "ranker.documents")
    written = pipeline.dumps()
    assert READ not in written
    again = Pipeline.loads(written, allowed_modules=["twinrank.client.retrievers"])
    documents = again.run({"retriever": {"query": ASKED}})["ranker"]["documents"]
    assert {document.id for document in documents} == {answer.id for answer in best}
    again.close()


def test_a_class_that_is_none_is_said():
    with pytest.raises(AttributeError, match="no attribute 'Retriever'"):
        _ = retrievers.Retriever
