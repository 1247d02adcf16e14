"""What a language model is given to read of ranked answers; shared by the adapters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

from twinrank.client.client import AsyncClient, Client
from twinrank.errors import ClientError
from twinrank.service.schemas import Answer, Ranked

Content = Literal["answer", "section", "sentence"]
FETCHED_AT_ONCE = 8  # by threads

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passage:
    """A ranked answer and what is to be read of it."""

    ranked: Ranked
    content: str

    @property
    def metadata(self) -> dict[str, object]:
        """What is told of it beside the content."""
        return self.ranked.model_dump(include={"id", "title", "url", "score", "confidence"})


@dataclass(frozen=True)
class Reader:
    """What to ask, and what to read of the answers.

    Attributes:
        content: the whole answer; or its section that fits best, the whole where it has none; or
            the sentence that fits best, the title where it has none.
        type: of the queries, for the service's counts.
        min_confidence: nothing is read if the first answer is less likely right.
    """

    content: Content = "answer"
    type: str | None = None
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.content not in get_args(Content):
            choices = ", ".join(get_args(Content))
            raise ClientError(f"content: {self.content!r} is none of {choices}")

    def read(self, client: Client, text: str, k: int) -> list[Passage]:
        """The k best answers to a text.

        Raises:
            ClientError: if the service refused, failed, or could not be reached.
        """
        ranking = client.rank(
            text, k=k, type=self.type, min_confidence=self.min_confidence, explain=self._explained
        )
        if self.content == "sentence":
            return _sentences(ranking.answers)

        def tried(ranked: Ranked) -> Answer | BaseException:
            try:
                return client.answer(ranked.id)
            except ClientError as error:
                return error

        with ThreadPoolExecutor(FETCHED_AT_ONCE, "answers") as threads:
            return self._texts(ranking.answers, list(threads.map(tried, ranking.answers)))

    async def read_async(self, client: AsyncClient, text: str, k: int) -> list[Passage]:
        """The k best answers to a text, for asyncio.

        Raises:
            ClientError: if the service refused, failed, or could not be reached.
        """
        ranking = await client.rank(
            text, k=k, type=self.type, min_confidence=self.min_confidence, explain=self._explained
        )
        if self.content == "sentence":
            return _sentences(ranking.answers)

        calls = [client.answer(ranked.id) for ranked in ranking.answers]
        return self._texts(ranking.answers, await asyncio.gather(*calls, return_exceptions=True))

    @property
    def _explained(self) -> bool:
        return self.content != "answer"

    def _texts(
        self, ranked: Sequence[Ranked], answers: Sequence[Answer | BaseException]
    ) -> list[Passage]:
        """Of ranked answers; one that was deleted since it was ranked is passed over."""
        passages = []
        for each, answer in zip(ranked, answers, strict=True):
            if isinstance(answer, Answer):
                passages.append(Passage(each, self._of(each, answer)))
            elif isinstance(answer, ClientError) and answer.status == 404:
                log.warning("answer %r is left out: %s", each.id, answer)
            else:
                raise answer
        return passages

    def _of(self, ranked: Ranked, answer: Answer) -> str:
        whole = answer.text or answer.title
        if self.content == "answer" or ranked.sentence is None:
            return whole
        holding = [part for part in answer.sections if ranked.sentence in part.text]
        named = [part for part in holding if part.title.strip() == ranked.section]
        return next((part.text for part in [*named, *holding]), whole)


def _sentences(ranked: Sequence[Ranked]) -> list[Passage]:
    return [Passage(each, each.sentence or each.title) for each in ranked]
