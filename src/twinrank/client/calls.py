"""What a service can be asked: the requests of each call, and how their replies are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from twinrank.errors import ClientError
from twinrank.service.schemas import (
    MAX_BATCH_QUERIES,
    Answer,
    FoundAnswers,
    Ranking,
    Ready,
    Section,
    Statistics,
    Stored,
    Turn,
)

BATCH_BYTES = 500_000  # of queries in one request: half of what a service reads at its defaults

Query: TypeAlias = str | Sequence[Turn | Mapping[str, str]]
Reply = TypeVar("Reply")
_RANKINGS = TypeAdapter(list[Ranking])


@dataclass(frozen=True)
class Request:
    """One request, which may be sent again: the service does the same thing once.

    Attributes:
        method: of HTTP.
        path: below the service's address, percent-encoded.
        params: of the address.
        body: JSON.
    """

    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class Call(Generic[Reply]):
    """Requests that are sent one after another, and how their replies' bodies are read."""

    requests: Sequence[Request]
    read: Callable[[Sequence[bytes]], Reply]


def rank(
    query: Query,
    *,
    k: int = 5,
    type: str | None = None,
    min_confidence: float = 0.0,
    explain: bool = True,
) -> Call[Ranking]:
    """Rank the answers for a query.

    Args:
        query: a text, or the turns of a conversation: `Turn(role="user", text="...")`, or
            mappings with the same fields.
        k: how many answers.
        type: of the query, as in the data; for the service's counts.
        min_confidence: give no answer if the first is less likely right.
        explain: whether to give section, sentence, channels and past queries.

    Returns:
        The ranking, best answer first; `withheld` says that there would be one but for
        `min_confidence`.
    """
    options = {"k": k, "type": type, "min_confidence": min_confidence, "explain": explain}
    body = _json({**_asked(query), **options})
    return _one(Request("POST", "/v1/rank", body=body), Ranking.model_validate_json)


def rank_batch(
    queries: Sequence[Query],
    *,
    k: int = 5,
    type: str | None = None,
    min_confidence: float = 0.0,
    explain: bool = True,
) -> Call[list[Ranking]]:
    """Rank the answers for each of n queries, in as many requests as that takes.

    Args:
        queries: texts or conversations, as `rank` takes them.
        k: how many answers to each.
        type: of the queries, as in the data; for the service's counts.
        min_confidence: give no answer to a query if its first is less likely right.
        explain: whether to give section, sentence, channels and past queries.

    Returns:
        n rankings, in the queries' order.
    """
    options = {"k": k, "type": type, "min_confidence": min_confidence, "explain": explain}
    items = [_json({**_asked(query), **options}) for query in queries]
    return Call(
        [
            Request("POST", "/v1/rank", body=b"[" + b",".join(batch) + b"]")
            for batch in _batches(items)
        ],
        lambda bodies: [ranking for body in bodies for ranking in _RANKINGS.validate_json(body)],
    )


def answer(id: str) -> Call[Answer]:
    """An answer with its text."""
    return _one(Request("GET", _answer(id)), Answer.model_validate_json)


def find_answers(words: str = "", *, limit: int = 10) -> Call[FoundAnswers]:
    """Answers whose titles hold all of some words, `limit` of them, and how many there are."""
    request = Request("GET", "/v1/answers", {"search": words, "limit": limit})
    return _one(request, FoundAnswers.model_validate_json)


def put_answer(
    id: str,
    *,
    title: str,
    text: str = "",
    url: str | None = None,
    sections: Sequence[Section | Mapping[str, str]] = (),
) -> Call[Answer]:
    """Take an answer in, or in place of the one with this id; it can be ranked at once.

    Args:
        id: of the answer.
        title: of the answer.
        text: all of it, that of sections included.
        url: where people can read it.
        sections: its parts: `Section(title="...", text="...")`, or mappings with these fields.

    Returns:
        The answer as it is stored.
    """
    body = {"title": title, "text": text, "url": url, "sections": list(sections)}
    return _one(Request("PUT", _answer(id), body=_json(body)), Answer.model_validate_json)


def delete_answer(id: str) -> Call[None]:
    """Forget an answer; one that is not there is an error. See `restore_answer`."""
    return _one(Request("DELETE", _answer(id)), lambda _: None)


def restore_answer(id: str) -> Call[Answer]:
    """Bring back an answer that was deleted some days ago at most, with its past queries.

    Returns:
        The answer as it is stored.
    """
    return _one(Request("POST", f"{_answer(id)}/restore"), Answer.model_validate_json)


def feedback(
    query: Query,
    *,
    answer: str | None = None,
    right: bool,
    shown: Sequence[str] | None = None,
    type: str | None = None,
    ranker: str | None = None,
    key: str | None = None,
) -> Call[Stored]:
    """Keep a verdict; it is on the service's disk when this returns.

    Args:
        query: what was asked: a text, or the turns of a conversation.
        answer: id of the answer that is right or wrong, shown or not; none with `right` false
            says that none of those shown was right.
        right: whether it is.
        shown: ids of the answers that were shown, in their order; none where that is not known.
        type: of the query, as in the data.
        ranker: fingerprint of the ranker, from the ranking.
        key: of the verdict, 64 characters at most: the service keeps one with each, and refuses
            another verdict with it (409). By default one is made for this call, and serves for
            its retries; give one where the call itself may be made again.

    Returns:
        What became of it: its `key`, by which `take_back` finds it; `duplicate` if the key was
        there, of this call's lost try or another.
    """
    verdict = {
        **_asked(query),
        "key": uuid4().hex if key is None else key,
        "type": type,
        "answer": answer,
        "right": right,
        "shown": shown if shown is None else list(shown),
        "ranker": ranker,
    }
    request = Request("POST", "/v1/feedback", body=_json(verdict))
    return _one(request, Stored.model_validate_json)


def take_back(key: str) -> Call[None]:
    """Take a verdict back; one that is not there is an error.

    Args:
        key: of the verdict, as it was given to `feedback` or is in what that returned.
    """
    place = f"/v1/feedback/{_segment(key, 'key', of='a verdict')}"
    return _one(Request("DELETE", place), lambda _: None)


def stats(days: int = 30) -> Call[Statistics]:
    """What was asked and said in the last days, today (UTC) included."""
    return _one(Request("GET", "/v1/stats", {"days": days}), Statistics.model_validate_json)


def ready() -> Call[Ready]:
    """Which ranker answers, with how many answers; a service that is not ready is an error."""
    return _one(Request("GET", "/readyz"), Ready.model_validate_json)


def _one(request: Request, read: Callable[[bytes], Reply]) -> Call[Reply]:
    return Call([request], lambda bodies: read(bodies[0]))


def _asked(query: Query) -> dict[str, object]:
    return {"text": query} if isinstance(query, str) else {"turns": list(query)}


def _answer(id: str) -> str:
    return f"/v1/answers/{_segment(id, 'id', of='an answer')}"


def _segment(name: str, what: str, *, of: str) -> str:
    """A name as the last part of a path."""
    if not name:
        raise ClientError(f"the {what} is empty; give {of}'s")
    try:
        segment = quote(name, safe="")
    except UnicodeEncodeError as error:
        raise ClientError(f"the {what} is no text ({error}); give {of}'s") from None
    if name in {".", ".."}:  # which a path would lose
        segment = segment.replace(".", "%2E")
    return segment


def _json(value: object) -> bytes:
    try:
        return to_json(value)
    except PydanticSerializationError as error:
        raise ClientError(f"what is to be sent is no JSON ({error}); mend the text") from None


def _batches(items: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Items in order, as many together as a service takes; one that is too large stands alone."""
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (len(batch) == MAX_BATCH_QUERIES or size + len(item) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item)
    if batch:
        yield batch
