"""The place of an answer index: the ranker's own folder, or a Milvus, which takes settings."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from twinrank.errors import AnswerIndexError
from twinrank.extras import check_installed

LOCAL = "local"  # the index that lies in the ranker's own version
COLLECTION = "twinrank"  # where none is named
SETTINGS = "shards=N, replicas=N and consistency=Strong, Bounded, Session or Eventually"


class MilvusPlace(BaseModel):
    """`URI?shards=N&replicas=N&consistency=LEVEL#NAME`; all but the URI may be left out.

    Attributes:
        uri: of a server or cluster, or the file of a Milvus Lite, which takes no settings.
        name: of the collections.
        shards: of a collection that is made; None leaves it to Milvus: one.
        replicas: of it in memory, each on query nodes of its own; None leaves it to Milvus: one.
        consistency: the writes that a search waits for. Checks are always `Strong`.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    name: str = COLLECTION
    shards: PositiveInt | None = None
    replicas: PositiveInt | None = None
    consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = "Session"

    @classmethod
    def parse(cls, to: str) -> MilvusPlace:
        """Read the form above.

        Raises:
            AnswerIndexError: if Milvus does not take a setting or the name.
        """
        address, _, name = to.partition("#")
        uri, _, settings = address.partition("?")
        where = _without_secret(uri)
        if name and not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise AnswerIndexError(
                f"{where}: {name!r} names no collection; begin with a letter, and go on with "
                "letters, digits and underscores"
            )
        if settings and "://" not in uri:
            raise AnswerIndexError(
                f"{where}: a file has no {settings.partition('=')[0]}: settings are for a Milvus "
                "server, as in http://HOST:19530?shards=2; leave them out"
            )
        given = parse_qs(settings, keep_blank_values=True)
        if unknown := sorted(given.keys() - {"shards", "replicas", "consistency"}):
            raise AnswerIndexError(
                f"{where}: {unknown[0]!r} is no setting; settings are {SETTINGS}"
            )
        values = {key: " ".join(texts).capitalize() for key, texts in given.items()}
        try:
            return cls.model_validate({**values, "uri": uri, "name": name or COLLECTION})
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            raise AnswerIndexError(
                f"{where}: {key}={' '.join(given[key])}: {first['msg']}; settings are {SETTINGS}"
            ) from None

    @property
    def where(self) -> str:
        """The file or server, for messages: without its password."""
        return _without_secret(self.uri)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, for Milvus Lite."""
        return "://" not in self.uri

    @property
    def option(self) -> str:
        """What to type behind `--to` for it, without its password."""
        return f"'{self}'" if "?" in str(self) else str(self)

    def __str__(self) -> str:
        """As `parse` takes it, without its password."""
        given = self.model_dump(exclude={"uri", "name"}, exclude_defaults=True)
        settings = "&".join(f"{key}={value}" for key, value in given.items())
        name = "" if self.name == COLLECTION else f"#{self.name}"
        return f"{self.where}{'?' if settings else ''}{settings}{name}"


def is_milvus(to: str) -> bool:
    """Whether `--to` or `--index` names a Milvus: a file FILE.db, or a URI."""
    uri = re.split("[?#]", to, maxsplit=1)[0]
    return uri.endswith(".db") or "://" in uri


def place_of(to: str) -> MilvusPlace | None:
    """Read `--to` or `--index`: a Milvus, or None for `local`; its libraries are installed.

    Raises:
        AnswerIndexError: if it is neither, or has settings that Milvus does not take.
        TwinrankError: if a library is not installed.
    """
    if is_milvus(to):
        place = MilvusPlace.parse(to)
        lite = ("milvus_lite",) if place.is_file else ()
        check_installed("Milvus indexes", "milvus", "pymilvus", *lite)
        return place
    if to != LOCAL:
        raise AnswerIndexError(
            f"{to}: no index; an index on this machine lies in the ranker's own folder: give "
            "`local`, a file FILE.db of Milvus Lite, or a Milvus server http://HOST:PORT"
        )
    check_installed("local indexes", "index", "faiss")
    return None


def _without_secret(uri: str) -> str:
    return re.sub(r"(?<=://).*@", "", uri)
