"""LangChain's retriever and Haystack's component against a running service."""

import asyncio
import logging

import pytest
from haystack import Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.components.rankers import MetaFieldRanker
from haystack.utils import Secret

from tests.asynchronous import run
from tests.client.conftest import READ, WRITE
from twinrank import AsyncClient, Client
from twinrank.client import ClientError, Ranked, Section
from twinrank.client.answer_passages import PassageReader
from twinrank.client.haystack import TwinrankRetriever as Component
from twinrank.client.langchain import TwinrankRetriever as Retriever
from twinrank.service.schemas import Answer

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


def test_documents_are_the_ranking_in_langchain(client, best, help_centre):
    documents = Retriever(client=client, k=3).invoke(ASKED)
    texts = dict(help_centre.answers.select("id", "text").iter_rows())
    assert [document.id for document in documents] == [answer.id for answer in best]
    assert [document.page_content for document in documents] == [texts[a.id] for a in best]
    for document, answer in zip(documents, best, strict=True):
        assert set(document.metadata) == TOLD
        assert document.metadata["url"] == answer.url
        assert document.metadata["score"] == pytest.approx(answer.score, abs=1e-4)


def test_langchain_without_waiting(service, client, best):
    async def asked():
        in_a_thread = await Retriever(client=client, k=3).ainvoke(ASKED)
        async with AsyncClient(service.url, READ) as ours:
            retriever = Retriever(client=client, async_client=ours, k=3)
            several = await asyncio.gather(*[retriever.ainvoke(ASKED) for _ in range(5)])
        return [in_a_thread, *several]

    for documents in run(asked()):
        assert [document.id for document in documents] == [answer.id for answer in best]


@pytest.mark.parametrize("content", ["section", "sentence"])
def test_content_may_be_what_fits_best(client, best, content):
    documents = Retriever(client=client, k=3, content=content).invoke(ASKED)
    for document, answer in zip(documents, best, strict=True):
        whole = client.answer(answer.id)
        if content == "sentence":
            assert document.page_content == answer.sentence
        else:
            assert answer.sentence in document.page_content
            titles = {part.title: part.text for part in whole.sections}
            assert document.page_content in titles.values()
            if answer.section:
                assert document.page_content == titles[answer.section]


def test_an_answer_that_is_deleted_meanwhile_is_left_out_and_said(client, best, caplog):
    class Late(Client):
        def answer(self, id):
            return super().answer("deleted" if id == best[1].id else id)

    with Late(client._service.address, READ) as late, caplog.at_level(logging.WARNING):
        passages = PassageReader().read(late, ASKED, 3)
    assert [passage.ranked.id for passage in passages] == [best[0].id, best[2].id]
    assert f"{best[1].id!r} is left out" in caplog.text


def test_which_section_is_read():
    """The one that holds the sentence, by its title where several do; else the whole answer."""
    parts = [{"title": "A", "text": "Same here. a"}, {"title": "B ", "text": "Same here. b"}]
    answer = Answer.model_construct(
        text="the whole", title="T", sections=[Section(**p) for p in parts]
    )
    for section, sentence, read in [
        ("B", "Same here.", "Same here. b"),
        (None, "Same here.", "Same here. a"),  # its title is the answer's own
        (None, "Elsewhere.", "the whole"),
    ]:
        ranked = Ranked.model_construct(section=section, sentence=sentence)
        assert PassageReader("section")._choose_text(ranked, answer) == read


def test_an_answer_with_no_text_is_its_title(service):
    with Client(service.url, WRITE) as client:
        client.put_answer("bare", title="A zeppelin's hangar")
        try:
            for content in ("answer", "section", "sentence"):
                passages = PassageReader(content).read(client, "A zeppelin's hangar", 100)
                bare = next(each for each in passages if each.ranked.id == "bare")
                assert bare.content == "A zeppelin's hangar"
        finally:
            client.delete_answer("bare")


def test_documents_have_the_metadata_that_is_asked_for(service):
    where = {"brand": ["acme", "other"], "level": 3}
    key = Secret.from_token(WRITE)
    with Client(service.url, WRITE) as client:
        stored = client.put_answer("a", title="Hangar", metadata={"brand": "acme", "level": 3})
        client.put_answer("b", title="Hangar", metadata={"brand": "acme", "level": 4})
        try:
            client.put_answer("a", title="Hangar A")  # which says nothing of its metadata
            assert stored.metadata == client.answer("a").metadata == {"brand": "acme", "level": 3}
            assert [a.id for a in client.rank(ASKED, where=where).answers] == ["a"]
            assert [d.id for d in Retriever(client=client, where=where).invoke(ASKED)] == ["a"]
            component = Component(service.url, key, where=where)
            assert [d.id for d in component.run(ASKED)["documents"]] == ["a"]
            component.close()
            assert (
                Component(service.url, where=where).to_dict()["init_parameters"]["where"] == where
            )
        finally:
            client.delete_answer("a")
            client.delete_answer("b")


def test_a_content_that_is_none_is_said():
    for build in (PassageReader, lambda content: Component("http://x", content=content)):
        with pytest.raises(ClientError, match="answer, section, sentence"):
            build("text")


@pytest.fixture
def component(service, monkeypatch):
    monkeypatch.setenv("TWINRANK_KEY", READ)
    made = Component(service.url, Secret.from_env_var("TWINRANK_KEY"), top_k=3)
    yield made
    made.close()


def test_haystack_writes_no_key_in_clear():
    with pytest.raises(ClientError, match=r"give a Secret"):
        Component("http://x", key="plain")


def test_documents_are_the_ranking_in_haystack(component, client, best):
    documents = component.run(ASKED)["documents"]
    assert [document.id for document in documents] == [answer.id for answer in best]
    assert documents[0].content == client.answer(best[0].id).text
    assert documents[0].score == documents[0].meta["score"]
    assert set(documents[0].meta) == TOLD
    assert len(component.run(ASKED, top_k=1)["documents"]) == 1


def test_a_haystack_pipeline_is_written_and_read_again(component, best):
    pipeline = Pipeline()
    pipeline.add_component("retriever", component)
    pipeline.add_component("joiner", DocumentJoiner())
    pipeline.add_component("ranker", MetaFieldRanker("score"))
    pipeline.connect("retriever.documents", "joiner.documents")
    pipeline.connect("joiner.documents", "ranker.documents")
    written = pipeline.dumps()
    assert READ not in written
    again = Pipeline.loads(written, allowed_modules=["twinrank.client.haystack"])
    documents = again.run({"retriever": {"query": ASKED}})["ranker"]["documents"]
    assert {document.id for document in documents} == {answer.id for answer in best}
    again.close()


def test_haystack_without_waiting(component, best):
    async def asked():
        runs = [component.run_async(ASKED) for _ in range(5)]
        found = await asyncio.gather(*runs)
        await component.close_async()
        return found

    for found in run(asked()):
        assert [document.id for document in found["documents"]] == [each.id for each in best]
