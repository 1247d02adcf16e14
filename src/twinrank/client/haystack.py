"""A running service as a component of Haystack, which reads its annotations: none is deferred."""

from typing import Any

from twinrank.extras import check_installed

check_installed("components for Haystack", "retrievers", "haystack")

from haystack import Document, component, default_to_dict  # noqa: E402 (it can be imported)
from haystack.utils import Secret  # noqa: E402

from twinrank.client.answer_passages import Content, Passage, PassageReader  # noqa: E402
from twinrank.client.client import RETRIES, TIMEOUT_S, AsyncClient, Client  # noqa: E402
from twinrank.errors import ClientError  # noqa: E402


@component
class TwinrankRetriever:
    """The best answers to a query, as documents.

    A document's score is the ranking's; its meta hold `id`, `title`, `url`, `score` and
    `confidence`.

    Args:
        url: the service's address.
        key: if the service has keys; one from the environment can be written to a pipeline's
            file, `Secret.from_env_var("TWINRANK_KEY")`.
        top_k: how many documents.
        content: of a document: the whole `answer`; or the `section` or `sentence` that fits best.
        type: of the queries, for the service's counts.
        min_confidence: no document if the first answer is less likely right.
        where: only answers with this metadata: `{"locale": "da", "brand": ["a", "b"]}`.
        timeout: seconds for each request, its retries and the pauses between them included.
        retries: attempts after the first.

    Raises:
        ClientError: if the key is a plain text, which a pipeline's file would hold in clear.
    """

    def __init__(
        self,
        url: str,
        key: Secret | None = None,
        top_k: int = 5,
        content: Content = "answer",
        type: str | None = None,
        min_confidence: float = 0.0,
        timeout: float = TIMEOUT_S,
        retries: int = RETRIES,
        where: dict[str, Any] | None = None,
    ) -> None:
        if key is not None and not isinstance(key, Secret):
            raise ClientError('key: give a Secret, as Secret.from_env_var("TWINRANK_KEY")')
        self._options: dict[str, Any] = {"url": url, "key": key, "top_k": top_k, "type": type}
        self._options |= {
            "content": content,
            "min_confidence": min_confidence,
            "timeout": timeout,
            "retries": retries,
            "where": where,
        }
        self._top_k = top_k
        self._reader = PassageReader(content, type, min_confidence, where)
        plain_key = None if key is None else key.resolve_value()
        self._client = Client(url, plain_key, timeout, retries)
        self._async_client = AsyncClient(url, plain_key, timeout, retries)

    def to_dict(self) -> dict[str, Any]:
        """Write it for a pipeline's file."""
        return default_to_dict(self, **self._options)

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """Rank.

        Args:
            query: a text.
            top_k: how many documents, if not as many as the component was made for.

        Returns:
            `documents`, best first.

        Raises:
            ClientError: if the service refused, failed, or could not be reached.
        """
        return _documents(self._reader.read(self._client, query, top_k or self._top_k))

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """Rank, for asyncio; as `run`."""
        return _documents(
            await self._reader.read_async(self._async_client, query, top_k or self._top_k)
        )

    def close(self) -> None:
        """Close the connections of `run`."""
        self._client.close()

    async def close_async(self) -> None:
        """Close the connections of `run_async`."""
        await self._async_client.close()


def _documents(passages: list[Passage]) -> dict[str, list[Document]]:
    documents = [
        Document(
            id=passage.ranked.id,
            content=passage.content,
            meta=passage.metadata,
            score=passage.ranked.score,
        )
        for passage in passages
    ]
    return {"documents": documents}
