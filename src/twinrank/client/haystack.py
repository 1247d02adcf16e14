"""A running service as a component of Haystack, which reads its annotations: none is deferred."""

from typing import Any, Self

from twinrank.extras import check_installed

check_installed("components for Haystack", "haystack", "haystack")

from haystack import (  # noqa: E402 (once it is sure that it can be imported)
    Document,
    component,
    default_from_dict,
    default_to_dict,
)
from haystack.utils import Secret  # noqa: E402

from twinrank.client.answer_passages import Content, Passage, PassageReader  # noqa: E402
from twinrank.client.client import AsyncClient, Client  # noqa: E402
from twinrank.client.requests import RETRIES, TIMEOUT_S  # noqa: E402
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
    ) -> None:
        self.url = url
        self.key = _check_key(key)
        self.top_k = top_k
        self.content = content
        self.type = type
        self.min_confidence = min_confidence
        self.timeout = timeout
        self.retries = retries
        self._reader = PassageReader(content, type, min_confidence)
        self._client: Client | None = None
        self._async_client: AsyncClient | None = None

    def to_dict(self) -> dict[str, Any]:
        """Write it for a pipeline's file."""
        return default_to_dict(
            self,
            url=self.url,
            key=_check_key(self.key),
            top_k=self.top_k,
            content=self.content,
            type=self.type,
            min_confidence=self.min_confidence,
            timeout=self.timeout,
            retries=self.retries,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Read it from a pipeline's file."""
        return default_from_dict(cls, data)

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
        if self._client is None:
            self._client = Client(self.url, self._key(), self.timeout, self.retries)
        return _documents(self._reader.read(self._client, query, self._count(top_k)))

    @component.output_types(documents=list[Document])
    async def run_async(self, query: str, top_k: int | None = None) -> dict[str, list[Document]]:
        """Rank, for asyncio; as `run`."""
        if self._async_client is None:
            self._async_client = AsyncClient(self.url, self._key(), self.timeout, self.retries)
        passages = await self._reader.read_async(
            self._async_client, query, self.top_k if top_k is None else top_k
        )
        return _documents(passages)

    def close(self) -> None:
        """Close the connections of `run`; it may be called again all the same."""
        if self._client is not None:
            self._client.close()
            self._client = None

    async def close_async(self) -> None:
        """Close the connections of `run_async`."""
        if self._async_client is not None:
            await self._async_client.close()
            self._async_client = None

    def _key(self) -> str | None:
        return None if self.key is None else self.key.resolve_value()

    def _count(self, top_k: int | None) -> int:
        return self.top_k if top_k is None else top_k


def _check_key(key: Secret | None) -> Secret | None:
    if key is not None and not isinstance(key, Secret):
        raise ClientError('key: give a Secret, as Secret.from_env_var("TWINRANK_KEY")')
    return key


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
