"""Where an answer index is: `local`, a folder, or a Milvus.

One rule: what ends in `.db` is a file of Milvus Lite, what holds `://` is a Milvus server or
cluster, either with `#NAME` behind it for another name than `twinrank`, a server also with
settings before that (`?shards=2&replicas=2&consistency=Bounded`); `local` is the folder `index`
within the ranker's; anything else is a folder.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from twinrank.errors import AnswerIndexError, OtherAnswerIndexError
from twinrank.extras import check_installed
from twinrank.ranking.index.interface import AnswerIndex
from twinrank.ranking.index.local import EXACT_UP_TO, LocalIndex
from twinrank.ranking.index.local_card import Kind, glanced
from twinrank.ranking.index.local_versions import found, made
from twinrank.ranking.index.milvus import MilvusIndex
from twinrank.ranking.index.milvus_place import MilvusPlace, is_milvus


def open_index(to: str, *, home: Path, fingerprint: str) -> AnswerIndex:
    """The index that is there for a ranker.

    Args:
        to: where, see above.
        home: the ranker's folder.
        fingerprint: of the ranker whose vectors it should hold.

    Raises:
        NoAnswerIndexError: if there is none of any ranker.
        OtherAnswerIndexError: if there are only other rankers'.
        AnswerIndexError: if it cannot be reached, or is damaged.
    """
    place = place_of(to, home)
    index: LocalIndex | MilvusIndex
    if isinstance(place, Path):
        index = LocalIndex.open(found(place, fingerprint))
    else:
        index = MilvusIndex.open(place, fingerprint)
    if index.fingerprint != fingerprint:
        index.close()
        raise OtherAnswerIndexError(
            f"{place}: the index of another ranker (fingerprint {index.fingerprint}, here "
            f"{fingerprint}); name another place, or put this one in its place: "
            f"twinrank index {home} --to {to if isinstance(place, Path) else place.typed} --fresh"
        )
    return index


def make_index(to: str, *, home: Path, fingerprint: str, dim: int, vectors: int) -> AnswerIndex:
    """An index that takes the place of what is there when it is published.

    It is empty, or what a kill left of one that would be made just so.

    Args:
        to: where, see above.
        home: the ranker's folder.
        fingerprint: of the ranker whose vectors it will hold.
        dim: their width.
        vectors: how many there will be; a folder is searched exactly up to 200,000.

    Raises:
        AnswerIndexError: if it cannot be reached.
    """
    place = place_of(to, home)
    if isinstance(place, Path):
        kind: Kind = "flat" if vectors <= EXACT_UP_TO else "hnsw"
        folder, lock = made(place, fingerprint)
        left = glanced(folder)
        index = LocalIndex(folder, kind, fingerprint, dim)
        if left and (left.kind, left.fingerprint, left.dim) == (kind, fingerprint, dim):
            with suppress(AnswerIndexError):  # damaged: it is written over
                index = LocalIndex.open(folder)
        index.lock = lock
        return index
    return MilvusIndex.create(place, fingerprint, dim=dim)


def place_of(to: str, home: Path) -> Path | MilvusPlace:
    """A folder, or a Milvus; its libraries are there.

    Raises:
        AnswerIndexError: if it has settings that Milvus does not take.
        TwinrankError: if a library is not installed.
    """
    if is_milvus(to):
        place = MilvusPlace.of(to)
        lite = ("milvus_lite",) if place.is_file else ()
        check_installed("Milvus indexes", "milvus", "pymilvus", *lite)
        return place
    check_installed("local indexes", "index", "faiss")
    return home / "index" if to == "local" else Path(to)
