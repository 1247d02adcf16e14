"""A running service as a retriever of LangChain, LlamaIndex or Haystack."""
# Each framework is imported when its class is asked for. They read annotations: none is deferred.
# ruff: noqa: ANN401

import asyncio
from typing import Any

from twinrank.client.client import RETRIES, TIMEOUT_S, Client
from twinrank.errors import ClientError
from twinrank.extras import check_installed
from twinrank.service.schemas import Passage, Ranked


class _Reader:
    """Asks for passages of the best answers; under asyncio in a thread."""

    def __init__(self, client: Client, **options: Any) -> None:
        self.client = client
        self._options = {"passage": "answer", **options, "explain": False}

    def read(self, query: str, k: int) -> list[Ranked]:
        return self.client.rank(query, k=k, **self._options).answers

    async def read_async(self, query: str, k: int) -> list[Ranked]:
        return await asyncio.to_thread(self.read, query, k)


def _metadata(answer: Ranked) -> dict[str, Any]:
    return answer.model_dump(include={"id", "title", "url", "score", "confidence"})


def _build_langchain() -> type:
    check_installed("retrievers of LangChain", "langchain", "langchain_core")
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever

    class LangChainRetriever(BaseRetriever):
        """The best answers to a query, as documents; options as of `Client.rank`."""

        client: Client
        k: int = 5
        passage: Passage = "answer"
        type: str | None = None
        min_confidence: float = 0.0
        where: dict[str, Any] | None = None

        @property
        def _reader(self) -> _Reader:
            names = ("client", "passage", "type", "min_confidence", "where")
            return _Reader(**{name: getattr(self, name) for name in names})

        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:  # noqa: ARG002
            return build_documents(self._reader.read(query, self.k))

    def build_documents(answers: list[Ranked]) -> list[Document]:
        return [Document(a.passage or "", id=a.id, metadata=_metadata(a)) for a in answers]

    return LangChainRetriever


def _build_llamaindex() -> type:
    check_installed("retrievers of LlamaIndex", "llamaindex", "llama_index")
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    class LlamaIndexRetriever(BaseRetriever):
        """The best answers to a query, as nodes; options as of `Client.rank`."""

        def __init__(self, client: Client, k: int = 5, **how: Any) -> None:
            super().__init__()
            self._reader, self._k = _Reader(client, **how), k

        def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return build_nodes(self._reader.read(query_bundle.query_str, self._k))

        async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
            return build_nodes(await self._reader.read_async(query_bundle.query_str, self._k))

    def build_nodes(answers: list[Ranked]) -> list[NodeWithScore]:
        nodes = [TextNode(id_=a.id, text=a.passage, metadata=_metadata(a)) for a in answers]
        return [NodeWithScore(node=n, score=a.score) for n, a in zip(nodes, answers, strict=True)]

    return LlamaIndexRetriever


def _build_haystack() -> type:
    check_installed("retrievers of Haystack", "haystack", "haystack")
    from haystack import Document, component, default_to_dict
    from haystack.utils import Secret

    @component
    class HaystackRetriever:
        """The best answers to a query, as documents; options as of `Client` and `Client.rank`."""

        def __init__(
            self,
            url: str,
            key: Secret | None = None,
            top_k: int = 5,
            timeout: float = TIMEOUT_S,
            retries: int = RETRIES,
            options: dict[str, Any] | None = None,
        ) -> None:
            if key is not None and not isinstance(key, Secret):  # a pipeline's file would show it
                raise ClientError('key: give a Secret, as Secret.from_env_var("TWINRANK_KEY")')
            secret = None if key is None else key.resolve_value()
            client = Client(url, secret, timeout=timeout, retries=retries)
            self._reader = _Reader(client, **(options or {}))
            self._settings: dict[str, Any] = {"url": url, "key": key, "top_k": top_k}
            self._settings |= {"timeout": timeout, "retries": retries, "options": options}
            self._top_k = top_k

        def to_dict(self) -> dict[str, Any]:
            return default_to_dict(self, **self._settings)

        @component.output_types(documents=list[Document])
        def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
            return build_documents(self._reader.read(query, top_k or self._top_k))

        @component.output_types(documents=list[Document])
        async def run_async(
            self, query: str, top_k: int | None = None
        ) -> dict[str, list[Document]]:
            return build_documents(await self._reader.read_async(query, top_k or self._top_k))

        def close(self) -> None:
            self._reader.client.close()

    def build_documents(answers: list[Ranked]) -> dict[str, list[Document]]:
        documents = [
            Document(id=a.id, content=a.passage, score=a.score, meta=_metadata(a)) for a in answers
        ]
        return {"documents": documents}

    return HaystackRetriever


def __getattr__(name: str) -> type:
    """Make the class of a framework, when it is first asked for."""
    builders = {
        "HaystackRetriever": _build_haystack,
        "LangChainRetriever": _build_langchain,
        "LlamaIndexRetriever": _build_llamaindex,
    }
    if name not in builders:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    retriever: type = globals().setdefault(name, builders[name]())
    return retriever
