"""The collections of one name in Milvus: one is read while another is made beside it.

Of the name `twinrank` and a ranker whose fingerprint begins with 3f9a0c12be77 there are

    twinrank_3f9a0c12be77_1     a collection; _2 when it is made anew
    twinrank_3f9a0c12be77       an alias, once that is whole: by it the ranker's answers are found
    twinrank                    an alias: what was published last
    twinrank_former             an alias: what was published before, for another ranker

Milvus moves an alias at once, and a search resolves it once, so that whoever searches by an alias
finds all of one collection, and never some of two.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

from twinrank.errors import AnswerIndexError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from twinrank.ranking.index.milvus_place import MilvusPlace

FINGERPRINT = "twinrank.fingerprint"  # a property of the collection
DIGITS = 12  # of a fingerprint, in names
CALL_S = 120.0
DRAIN_S = 1.0  # that searches under way have, before what they search is dropped

log = logging.getLogger(__name__)


class Versions:
    """All collections and aliases of a name.

    Args:
        client: connected.
        place: which Milvus, and the name.
    """

    def __init__(self, client: MilvusClient, place: MilvusPlace) -> None:
        self._client = client
        self._place = place
        self._former = f"{place.name}_former"

    def alias(self, fingerprint: str) -> str:
        """By which a ranker's answers are found, once they are published."""
        return f"{self._place.name}_{fingerprint[:DIGITS]}"

    def readable(self, fingerprint: str) -> str:
        """By which to look for a ranker's answers: its alias, or else what was published last."""
        alias = self.alias(fingerprint)
        return alias if self.target(alias) else self._place.name

    def target(self, name: str) -> str | None:
        """The collection that an alias stands for, or has that name itself; none if nothing has."""
        if name in self._client.list_collections(timeout=CALL_S):
            return name
        if not self._client.has_collection(name, timeout=CALL_S):
            return None
        return str(self._client.describe_alias(name, timeout=CALL_S)["collection_name"])

    def fingerprint(self, collection: str) -> str | None:
        """Of the ranker whose answers a collection holds; none if it is not twinrank's."""
        about = self._client.describe_collection(collection, timeout=CALL_S)
        found: str | None = about.get("properties", {}).get(FINGERPRINT)
        return found

    def unfinished(self, fingerprint: str) -> list[str]:
        """What a kill left of a ranker's collections; nobody reads it."""
        published = {self.target(self.alias(fingerprint)), self.target(self._former)}
        mine = [name for name in self._all() if self.fingerprint(name) == fingerprint]
        return [name for name in mine if name not in published]

    def new(self, fingerprint: str) -> str:
        """A name for one more collection of a ranker.

        Raises:
            AnswerIndexError: if the place's name is that of somebody else's collection.
        """
        there = self.target(self._place.name)
        if there and self.fingerprint(there) is None:
            raise AnswerIndexError(not_ours(self._place))
        alias = self.alias(fingerprint)
        taken = [0, *(int(n.rpartition("_")[2]) for n in self._all() if n.startswith(f"{alias}_"))]
        return f"{alias}_{max(taken) + 1}"

    def publish(self, collection: str, fingerprint: str) -> None:
        """Let a ranker's answers be found in a collection that is whole, and drop what is too old.

        What was published for another ranker is kept, for those who have not changed over, and to
        go back to. The same call may be made again after a kill.
        """
        self._name_by_version()
        now, before = self.target(collection), self.target(self._place.name)
        if now is None:
            raise AnswerIndexError(f"{self._place}: another process dropped {collection!r}")
        if before == now == self.target(self.alias(fingerprint)):
            return  # what is there beside may be another's work in progress
        if before and self.fingerprint(before) != fingerprint:
            self._point(self._former, before)
        self._point(self.alias(fingerprint), now)
        self._point(self._place.name, now)
        kept = {now, self.target(self._former)}
        self._drop([name for name in self._all() if name not in kept])

    def _all(self) -> list[str]:
        """The collections of that name, published or not."""
        form = re.compile(rf"{re.escape(self._place.name)}_([^_]{{1,{DIGITS}}})_\d+")
        named = [form.fullmatch(n) for n in sorted(self._client.list_collections(timeout=CALL_S))]
        return [
            match[0]
            for match in named
            if match and (self.fingerprint(match[0]) or "")[:DIGITS] == match[1]
        ]

    def _name_by_version(self) -> None:
        """A collection that has the name itself, as before there were aliases, gives way to one."""
        name = self._place.name
        if name not in self._client.list_collections(timeout=CALL_S):
            return
        alias = self.alias(self.fingerprint(name) or "")
        self._client.rename_collection(name, f"{alias}_0", timeout=CALL_S)
        for each in (alias, name):
            self._point(each, f"{alias}_0")

    def _point(self, alias: str, collection: str) -> None:
        there = self.target(alias)
        if there is None:
            self._client.create_alias(collection, alias, timeout=CALL_S)
        elif there != collection:
            self._client.alter_alias(collection, alias, timeout=CALL_S)

    def _drop(self, collections: list[str]) -> None:
        if collections and not self._place.is_file:
            time.sleep(DRAIN_S)
        for name in collections:
            aliases = self._client.list_aliases(name, timeout=CALL_S)["aliases"]
            for alias in aliases:  # newer servers drop nothing that has one
                self._client.drop_alias(alias, timeout=CALL_S)
            self._client.drop_collection(name, timeout=CALL_S)
            log.info("%s: %s is dropped", self._place, name)


def not_ours(place: MilvusPlace) -> str:
    """That the name is taken."""
    another = place.model_copy(update={"name": "NAME"})
    return f"{place}: the collection was not made by twinrank; name another: --to {another.typed}"
