"""Requests and replies of the API, with their limits, which its OpenAPI document shows."""

from __future__ import annotations

import datetime
import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from twinrank.arguments import ASK_BELOW, MAX_RULES_CHARACTERS
from twinrank.feedback.feedback_statistics import FeedbackStatistics, MissedQuery

MAX_QUERY_CHARACTERS = 50_000
MAX_TURNS = 200  # of a conversation
MAX_BATCH_QUERIES = 64
MAX_ANSWERS = 100  # to a query
MAX_SHOWN_ANSWERS = 100  # that feedback may list
MAX_ANSWER_CHARACTERS = 200_000
MAX_METADATA_FIELDS, MAX_FILTER_FIELDS = 50, 10
MAX_VALUES, MAX_VALUE_CHARACTERS = 100, 1_000  # of a field of metadata, and of a value
MAX_EXACT_NUMBER = 2**53  # beyond, JSON readers differ
ONE_LINE = r"^[^\x00-\x1f]+$"  # a text that a path can hold


def _refuse_nul(text: str) -> str:
    """Refuse NUL, on which databases and terminals choke."""
    if "\x00" in text:
        raise ValueError("holds a NUL character; leave it out")
    return text


def refuse_blank(text: str) -> str:
    """Refuse a text without a character."""
    if not text.strip():
        raise ValueError("is empty; give it some words")
    return text


def _check_values(values: object) -> object:
    """Refuse what is neither a value of metadata nor a list of them."""
    several = values if isinstance(values, list) else [values]
    for value in several:
        match value:
            case str() if len(value) <= MAX_VALUE_CHARACTERS and "\x00" not in value:
                continue
            case int() | float() if abs(value) <= MAX_EXACT_NUMBER:  # not NaN
                continue
        break
    else:
        if len(several) <= MAX_VALUES:
            return values
    raise ValueError(
        f"give a text of up to {MAX_VALUE_CHARACTERS:,} characters without NUL, true, false or a "
        f"number of up to 2^53, or a list of up to {MAX_VALUES} of them"
    )


def _parse_metadata(metadata: object) -> object:
    """Read metadata as the column of answers has them: JSON text."""
    return json.loads(metadata) if isinstance(metadata, str) else metadata


Clean = AfterValidator(_refuse_nul)
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS), Clean]
Words = Annotated[Text, AfterValidator(refuse_blank)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256), Clean]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64), Clean]
Key = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=ONE_LINE)]
Role = Annotated[str, StringConstraints(max_length=32, pattern=r"^[^\x00-\x1f:]+$")]
Title = Annotated[str, StringConstraints(max_length=1_000), Clean]
Passage = Literal["answer", "section", "sentence"]
Article = Annotated[str, StringConstraints(max_length=MAX_ANSWER_CHARACTERS), Clean]


_VALUE_SCHEMA = [
    {"type": "string", "maxLength": MAX_VALUE_CHARACTERS},
    {"type": "number", "minimum": -MAX_EXACT_NUMBER, "maximum": MAX_EXACT_NUMBER},
    {"type": "boolean"},
]
_LIST_SCHEMA = {"type": "array", "items": {"anyOf": _VALUE_SCHEMA}, "maxItems": MAX_VALUES}
Values = Annotated[
    Any, AfterValidator(_check_values), WithJsonSchema({"anyOf": [*_VALUE_SCHEMA, _LIST_SCHEMA]})
]


class Strict(BaseModel):
    """A model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Turn(Strict):
    """What one side of a conversation said at a time."""

    role: Role = "user"
    text: Words


class Question(Strict):
    """A text, or the turns of a conversation."""

    text: Words | None = None
    turns: Annotated[list[Turn], Field(min_length=1, max_length=MAX_TURNS)] | None = None
    type: Name | None = Field(None, description="Of the query, as the data have it; is counted.")

    @model_validator(mode="after")
    def _check_text_or_turns(self) -> Question:
        if (self.text is None) == (self.turns is None):
            raise ValueError("give either text or turns")
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise ValueError(
                f"turns have more than {MAX_QUERY_CHARACTERS:,} characters; leave out the oldest"
            )
        return self

    @property
    def query(self) -> str:
        """The text to rank for; a conversation as data sets write it, `Role: text`."""
        if self.turns is None:
            return self.text or ""
        return "\n".join(f"{turn.role.capitalize()}: {turn.text}" for turn in self.turns)


class RankRequest(Question):
    """A query, and what is wanted of its ranking."""

    k: Annotated[int, Field(ge=1, le=MAX_ANSWERS, description="How many answers.")] = 5
    min_confidence: Annotated[
        float, Field(ge=0, le=1, description="Give no answer if the first is less likely right.")
    ] = 0.0
    ask_below: Annotated[
        float,
        Field(ge=0, le=1, description="Ask back if the first is less likely right; 0: never."),
    ] = ASK_BELOW
    where: Annotated[
        dict[Name, Values],
        Field(
            max_length=MAX_FILTER_FIELDS,
            description="Rank answers alone with this metadata: of each field the value, or one of "
            "several.",
        ),
    ] = {}
    explain: Annotated[
        bool, Field(description="Whether to give section, sentence, channels and past queries.")
    ] = True
    passage: Annotated[
        Passage | None,
        Field(
            description="Give a text to read of each answer: the whole, or the section or sentence "
            "that fits best. Each counts as one request more."
        ),
    ] = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "it wont let me in again", "k": 3},
                {"text": "refund", "where": {"locale": "da", "brand": ["acme", "acme labs"]}},
                {
                    "turns": [
                        {"role": "user", "text": "my clients see no free times"},
                        {"role": "agent", "text": "All of them?"},
                        {"role": "user", "text": "only the new ones"},
                    ]
                },
            ]
        }
    )


class Past(BaseModel):
    """A labelled query of the past that had this answer, and its cosine with the query."""

    id: str | None = Field(None, description="The data's own; `feedback-...` came by feedback.")
    text: str | None = Field(
        None, description="As somebody wrote it; only from `serve --show-past-queries`."
    )
    similarity: float


class Ranked(BaseModel):
    """An answer in a ranking."""

    rank: int
    id: str
    title: str
    url: str | None
    score: float
    confidence: float | None = Field(description="Probability that this answer is right.")
    pinned: str | None = Field(
        None, description="Words of the pin that puts it first; its confidence is 1 then."
    )
    section: str | None = Field(description="Title of the section that fits best.")
    sentence: str | None = Field(description="The sentence that fits best, as it stands there.")
    channels: dict[str, float] | None = Field(description="What each channel gave to the score.")
    words: list[str] = Field([], description="Words of the query that speak for it, at most three.")
    past_queries: list[Past] = Field(description="Those most like the query, at most three.")
    solved: int | None = Field(None, description="How many past queries had this answer.")
    passage: str | None = Field(None, description="The text to read that was asked for.")


class Option(BaseModel):
    """An answer that the query may mean."""

    id: str
    title: str
    url: str | None
    confidence: float = Field(description="Probability that this answer is right.")
    terms: list[str] = Field(description="Words that no other option has, at most three.")


class Ranking(BaseModel):
    """The answers to one query, best first."""

    answers: list[Ranked]
    confidence: float | None = Field(description="Probability that the first answer is right.")
    withheld: bool = Field(
        description="Whether the first was less likely right than was asked for."
    )
    ask: list[Option] = Field(
        [], description="Two or three answers: ask which is meant. None if asking is not worth it."
    )
    ranker: str = Field(description="Fingerprint of the ranker.")


class Section(Strict):
    """A part of an answer."""

    title: Title = ""
    text: Article = ""


class NewAnswer(Strict):
    """An answer without its id."""

    title: Annotated[Title, AfterValidator(refuse_blank)]
    text: Article = ""
    url: Annotated[str, StringConstraints(max_length=2_000), Clean] | None = None
    sections: Annotated[list[Section], Field(max_length=500)] = []
    metadata: Annotated[
        dict[Name, Values] | None,
        Field(
            max_length=MAX_METADATA_FIELDS,
            description="Fields of your own, to filter by; left out, they stay as they were.",
        ),
    ] = None

    @field_validator("metadata")
    @classmethod
    def _check_names(cls, metadata: dict[str, object] | None) -> dict[str, object] | None:
        if taken := sorted({"url", "sections"}.intersection(metadata or ())):
            raise ValueError(f"{taken[0]!r} has a field of its own; give it beside the metadata")
        return metadata

    @model_validator(mode="after")
    def _check_words(self) -> NewAnswer:
        texts = (self.title, self.text, *(f"{part.title}{part.text}" for part in self.sections))
        if not any(map(str.isalnum, "".join(texts))):
            raise ValueError("has no words, only signs; give the title or the text some")
        return self


class Part(BaseModel):
    """A section of an answer as it is stored."""

    title: str
    text: str


class Answer(BaseModel):
    """An answer as it is stored."""

    id: str
    title: str
    text: str
    url: str | None
    sections: list[Part]
    metadata: Annotated[dict[str, Any], BeforeValidator(_parse_metadata)] = {}


class Found(BaseModel):
    """An answer in a list."""

    id: str
    title: str
    url: str | None


class FoundAnswers(BaseModel):
    """Answers whose titles hold the words that were looked for, and how many there are."""

    answers: list[Found]
    total: int


class FeedbackRequest(Question):
    """A verdict on an answer.

    `answer` with `right` true: it is right, shown or not. With `right` false: it is not. Without
    an answer, `right` false: none of those shown is, and no more is known.
    """

    key: Annotated[
        Key,
        Field(
            description="The client's own, one line: the same verdict, sent again, is stored once."
        ),
    ]
    answer: Id | None = None
    right: bool
    shown: Annotated[list[Id], Field(max_length=MAX_SHOWN_ANSWERS)] | None = Field(
        None, description="Ids, in their order; left out, nobody knows what was shown."
    )
    ranker: Name | None = None

    @model_validator(mode="after")
    def _check_answer(self) -> FeedbackRequest:
        if self.answer is None and self.right:
            raise ValueError("right is true, but of no answer; name the answer")
        return self


class Stored(BaseModel):
    """What became of a verdict, and the key by which it can be taken back."""

    key: str
    stored: bool
    duplicate: bool


class FoundVerdict(BaseModel):
    """A verdict as it is stored."""

    model_config = ConfigDict(from_attributes=True)

    key: str
    text: str
    type: str
    answer: str | None
    right: bool
    shown: list[str] | None
    ranker: str | None
    at: datetime.datetime


class FoundVerdicts(BaseModel):
    """Verdicts that were looked for, the newest first, and how many there are."""

    verdicts: list[FoundVerdict]
    total: int


class FoundMisses(BaseModel):
    """Judged queries that went wrong, the newest first, and how many there are."""

    misses: list[MissedQuery]
    titles: dict[str, str] = Field(description="By id, of the answers that may be seen.")
    total: int


class LearnedTexts(BaseModel):
    """What a ranker learned from feedback: how many texts, the share held back, and when."""

    queries: int
    hold_back: float
    on: datetime.date | None = None


class Generation(BaseModel):
    """A version of the ranker: what it learned from feedback, and its quality on validation."""

    version: str
    learned: LearnedTexts | None
    quality: dict[str, Any] | None
    labelled: dict[str, dict[str, int]] | None = Field(description="Queries by split and type.")


class LearningState(BaseModel):
    """What learning did last, and what it could do now."""

    current: Generation
    previous: Generation | None = Field(description="The one to go back to; null if none is kept.")
    waiting: int | None = Field(description="Texts to learn, at most; null if it learns nothing.")
    command: str = Field(description="What learns them, on the machine of the service.")


class ShadowType(BaseModel):
    """Queries of a type that both rankers ranked."""

    type: str
    queries: int
    same_first: int = Field(description="With the same first answer.")
    shared: int = Field(description="Answers that are among the first three of both, in all.")
    confident: int = Field(description="Whose first answer is at least 50 % likely right.")
    shadow_confident: int = Field(description="The same, by the shadow.")
    skipped: int = Field(description="Not compared: too many waited.")


class JudgedType(BaseModel):
    """Judged queries: the share with the right answer among the first three."""

    type: str | None = Field(description="Null: all types.")
    queries: int
    ranker: float
    shadow: float
    interval: list[float] | None = Field(description="95 %, of shadow minus ranker.")
    p: float = Field(description="Of the paired permutation test, by Holm.")


class Wins(BaseModel):
    """Interleaved queries for which one ranker picked more right answers than the other one."""

    ranker: int
    shadow: int
    p: float = Field(description="Of the sign test.")


class ShadowReport(BaseModel):
    """Both rankers beside each other.

    People judged what the ranker showed, which flatters it: they name a right answer more often if
    they see it.
    """

    ranker: str
    shadow: str
    types: list[ShadowType]
    judged: list[JudgedType]
    interleaved: Wins
    advice: str = Field(description="switch, stay, no difference shown, or too early.")


class RulesFile(Strict):
    """The pins and synonyms of a ranker: the text of its `rules.toml`.

    `digest` is of the text that is there, and in a change of the text that it replaces: what
    somebody else wrote meanwhile is not lost.
    """

    text: Annotated[str, StringConstraints(max_length=MAX_RULES_CHARACTERS), Clean]
    digest: Name


class StoredRules(RulesFile):
    """The rules as they are stored, and the ids among them that no answer has."""

    pins: int
    synonyms: int
    unknown: list[str] = Field(description="Answers that are pinned and not there.")


class Ready(BaseModel):
    """A service that answers."""

    ready: bool
    ranker: str
    answers: int


class Statistics(FeedbackStatistics):
    """What the admin view shows."""

    ranker: str


class Problem(BaseModel):
    """What is wrong, in a line, and what to do."""

    detail: str


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the replies with these status codes, for OpenAPI."""
    return {code: {"model": Problem, "description": STATUS_MEANINGS[code]} for code in codes}


STATUS_MEANINGS = {
    400: "The request cannot be read.",
    401: "A key is needed, or this one is not known.",
    403: "This key may not do that, or the request comes from another site.",
    404: "No answer has this id, or no verdict this key.",
    409: "Another answer has this id by now, another verdict this key, or the ranker changed.",
    408: "The request was not sent in time.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The request is not as it should be.",
    429: "Too many requests; `Retry-After` says when to try again.",
    503: "Too much to do, or no database; `Retry-After` says when to try again.",
}
