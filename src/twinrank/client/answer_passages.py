"""Passages of ranked answers for a language model to read; shared by the adapters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from twinrank.client.client import AsyncClient, Client
from twinrank.errors import ClientError
from twinrank.service.schemas import Answer, Ranked

if TYPE_CHECKING:
    from twinrank.ranking import Where

Content = Literal["answer", "section", "sentence"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passage:
    """A ranked answer, and its text to read."""

    ranked: Ranked
    content: str

    @property
    def metadata(self) -> dict[str, object]:
        """Give the answer's fields beside its text."""
        return self.ranked.model_dump(include={"id", "title", "url", "score", "confidence"})


@dataclass(frozen=True)
class PassageReader:
    """Asks a service, and reads a passage of each answer.

    Attributes:
        content: the whole answer; or its section that fits best, the whole where it has none; or
            the sentence that fits best, the title where it has none.
        type: of the queries, for the service's counts.
        min_confidence: nothing is read if the first answer is less likely right.
        where: only answers with this metadata; see `Client.rank`.
    """

    content: Content = "answer"
    type: str | None = None
    min_confidence: float = 0.0
    where: Where | None = None

    def __post_init__(self) -> None:
        if self.content not in get_args(Content):
            choices = ", ".join(get_args(Content))
            raise ClientError(f"content: {self.content!r} is none of {choices}")

    def read(self, client: Client, text: str, k: int) -> list[Passage]:
        """Read the k best answers to a text.

        Raises:
            ClientError: if the service refused, failed, or could not be reached.
        """
        ranked = client.rank(text, k=k, **self._options).answers
        if self.content == "sentence":
            return _read_sentences(ranked)
        answers: list[Answer | BaseException] = []
        for entry in ranked:
            try:
                answers.append(client.answer(entry.id))
            except ClientError as error:
                answers.append(error)
        return self._read_texts(ranked, answers)

    async def read_async(self, client: AsyncClient, text: str, k: int) -> list[Passage]:
        """Read the k best answers to a text, for asyncio; raises as `read` does."""
        ranking = await client.rank(text, k=k, **self._options)
        if self.content == "sentence":
            return _read_sentences(ranking.answers)
        calls = [client.answer(answer.id) for answer in ranking.answers]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        return self._read_texts(ranking.answers, answers)

    @property
    def _options(self) -> dict[str, Any]:
        """Of `Client.rank`."""
        options = {"type": self.type, "min_confidence": self.min_confidence, "where": self.where}
        return {**options, "explain": self.content != "answer"}

    def _read_texts(
        self, ranked: Sequence[Ranked], answers: Sequence[Answer | BaseException]
    ) -> list[Passage]:
        """Read answers; one that was deleted since it was ranked is left out, with a warning."""
        passages = []
        for entry, answer in zip(ranked, answers, strict=True):
            if isinstance(answer, Answer):
                passages.append(Passage(entry, self._choose_text(entry, answer)))
            elif isinstance(answer, ClientError) and answer.status == 404:
                log.warning("answer %r is left out: %s", entry.id, answer)
            else:
                raise answer
        return passages

    def _choose_text(self, ranked: Ranked, answer: Answer) -> str:
        whole = answer.text or answer.title
        if self.content == "answer" or ranked.sentence is None:
            return whole
        sections = [section for section in answer.sections if ranked.sentence in section.text]
        named = [section for section in sections if section.title.strip() == ranked.section]
        return next((section.text for section in [*named, *sections]), whole)


def _read_sentences(ranked: Sequence[Ranked]) -> list[Passage]:
    return [Passage(entry, entry.sentence or entry.title) for entry in ranked]
