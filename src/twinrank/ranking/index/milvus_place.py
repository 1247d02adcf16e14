"""Where in Milvus an index is, how it is to be held there, and how it is searched."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from twinrank.errors import AnswerIndexError

COLLECTION = "twinrank"  # where none is named
Consistency = Literal["Strong", "Bounded", "Session", "Eventually"]
SETTINGS = "shards=N, replicas=N and consistency=Strong, Bounded, Session or Eventually"


class MilvusPlace(BaseModel):
    """`URI?shards=N&replicas=N&consistency=LEVEL#NAME`; all but the URI may be left out.

    Attributes:
        uri: of a server or cluster, or the file of a Milvus Lite, which takes no settings.
        name: by which the collections are known.
        shards: that a collection which is made has; none leaves it to Milvus: one.
        replicas: of it in memory, each on query nodes of its own; none leaves it to Milvus: one.
        consistency: how much of what was written a search waits for. Checks are always `Strong`.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    name: str = COLLECTION
    shards: PositiveInt | None = None
    replicas: PositiveInt | None = None
    consistency: Consistency = "Session"

    @classmethod
    def of(cls, to: str) -> MilvusPlace:
        """What a string names.

        Raises:
            AnswerIndexError: if a setting, or the name, is none that Milvus takes.
        """
        address, _, name = to.partition("#")
        uri, _, settings = address.partition("?")
        where = shown(uri)
        if name and not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise AnswerIndexError(
                f"{where}: {name!r} names no collection; begin with a letter, and go on with "
                "letters, digits and underscores"
            )
        if settings and is_file(uri):
            raise AnswerIndexError(
                f"{where}: a file has no {settings.partition('=')[0]}: settings are for a Milvus "
                "server, as in http://HOST:19530?shards=2; leave them out"
            )
        return cls._checked(uri, name or COLLECTION, settings, where)

    @classmethod
    def _checked(cls, uri: str, name: str, settings: str, where: str) -> MilvusPlace:
        given = parse_qs(settings, keep_blank_values=True)
        if unknown := sorted(given.keys() - {"shards", "replicas", "consistency"}):
            raise AnswerIndexError(
                f"{where}: {unknown[0]!r} is no setting; settings are {SETTINGS}"
            )
        try:
            values = {key: " ".join(each).capitalize() for key, each in given.items()}
            return cls.model_validate({**values, "uri": uri, "name": name})
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            raise AnswerIndexError(
                f"{where}: {key}={' '.join(given[key])}: {first['msg']}; settings are {SETTINGS}"
            ) from None

    @property
    def where(self) -> str:
        """Of the file or server, for messages: without what is secret."""
        return shown(self.uri)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, for Milvus Lite."""
        return is_file(self.uri)

    @property
    def typed(self) -> str:
        """What is typed behind `--to` for it, without what is secret."""
        return f"'{self}'" if "?" in str(self) else str(self)

    def __str__(self) -> str:
        """As `of` takes it, without what is secret."""
        given = self.model_dump(exclude={"uri", "name"}, exclude_defaults=True)
        settings = "&".join(f"{key}={value}" for key, value in given.items())
        name = "" if self.name == COLLECTION else f"#{self.name}"
        return f"{self.where}{'?' if settings else ''}{settings}{name}"


def is_milvus(to: str) -> bool:
    """Whether a place is a Milvus, and no folder."""
    uri = re.split("[?#]", to, maxsplit=1)[0]
    return uri.endswith(".db") or "://" in uri


def is_file(uri: str) -> bool:
    """Whether a URI of Milvus is a file, for Milvus Lite."""
    return "://" not in uri


def shown(uri: str) -> str:
    """A URI without what is secret in it."""
    return re.sub(r"(?<=://).*@", "", uri)
