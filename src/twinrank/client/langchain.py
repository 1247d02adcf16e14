"""A running service as a retriever of LangChain."""

from __future__ import annotations

from typing import Any

from twinrank.extras import check_installed

check_installed("retrievers for LangChain", "retrievers", "langchain_core")

from langchain_core.callbacks import (  # noqa: E402 (once it is sure that it can be imported)
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402

from twinrank.client.answer_passages import Content, Passage, PassageReader  # noqa: E402
from twinrank.client.client import AsyncClient, Client  # noqa: E402


class TwinrankRetriever(BaseRetriever):
    """The best answers to a query, as documents.

    A document's metadata hold `id`, `title`, `url`, `score` and `confidence`. Whoever made the
    clients closes them.

    Attributes:
        client: of the service.
        async_client: for `ainvoke`, which without one calls `client` in a thread.
        k: how many documents.
        content: of a document: the whole `answer`; or the `section` or `sentence` that fits best.
        type: of the queries, for the service's counts.
        min_confidence: no document if the first answer is less likely right.
        where: only answers with this metadata: `{"locale": "da", "brand": ["a", "b"]}`.
    """

    client: Client
    async_client: AsyncClient | None = None
    k: int = 5
    content: Content = "answer"
    type: str | None = None
    min_confidence: float = 0.0
    where: dict[str, Any] | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002
    ) -> list[Document]:
        return _documents(self._passage_reader().read(self.client, query, self.k))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.async_client is None:
            return await super()._aget_relevant_documents(query, run_manager=run_manager)
        return _documents(await self._passage_reader().read_async(self.async_client, query, self.k))

    def _passage_reader(self) -> PassageReader:
        return PassageReader(self.content, self.type, self.min_confidence, self.where)


def _documents(passages: list[Passage]) -> list[Document]:
    return [
        Document(id=passage.ranked.id, page_content=passage.content, metadata=passage.metadata)
        for passage in passages
    ]
