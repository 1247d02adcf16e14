"""Where an answer index is: `local`, a folder, or a Milvus.

One rule: what ends in `.db` is a file of Milvus Lite, what holds `://` is a Milvus server or
cluster, either with `#NAME` behind it for another collection than `twinrank`; `local` is the
folder `index` within the ranker's; anything else is a folder.
"""

from __future__ import annotations

from pathlib import Path

from twinrank.errors import AnswerIndexError
from twinrank.extras import check_installed
from twinrank.search.index.interface import AnswerIndex
from twinrank.search.index.local import EXACT_UP_TO, LocalIndex
from twinrank.search.index.local_card import Kind
from twinrank.search.index.milvus import MilvusIndex
from twinrank.search.index.milvus_client import COLLECTION, is_file


def open_index(to: str, *, home: Path, fingerprint: str) -> AnswerIndex:
    """The index that is there.

    Args:
        to: where, see above.
        home: the ranker's folder.
        fingerprint: of the ranker whose vectors it should hold.

    Raises:
        NoAnswerIndexError: if there is none.
        AnswerIndexError: if it cannot be reached, is damaged, or holds another ranker's answers.
    """
    place = _found(to, home)
    index: LocalIndex | MilvusIndex
    index = LocalIndex.open(place) if isinstance(place, Path) else MilvusIndex.open(*place)
    if index.fingerprint != fingerprint:
        index.close()
        raise AnswerIndexError(
            f"{to}: the index of another ranker (fingerprint {index.fingerprint}, here "
            f"{fingerprint}); name another place, or replace it: "
            f"twinrank index {home} --to {to} --fresh"
        )
    return index


def make_index(to: str, *, home: Path, fingerprint: str, dim: int, vectors: int) -> AnswerIndex:
    """An empty index there, in place of one that may be there.

    Args:
        to: where, see above.
        home: the ranker's folder.
        fingerprint: of the ranker whose vectors it will hold.
        dim: their width.
        vectors: how many there will be; a folder is searched exactly up to 200,000.

    Raises:
        AnswerIndexError: if it cannot be reached.
    """
    place = _found(to, home)
    if isinstance(place, Path):
        kind: Kind = "flat" if vectors <= EXACT_UP_TO else "hnsw"
        return LocalIndex(place, kind, fingerprint, dim)
    uri, collection = place
    return MilvusIndex.create(uri, fingerprint, collection, dim=dim)


def _found(to: str, home: Path) -> Path | tuple[str, str]:
    """A folder, or the URI of a Milvus and a collection; its libraries are there."""
    uri, _, collection = to.partition("#")
    if uri.endswith(".db") or "://" in uri:
        lite = ("milvus_lite",) if is_file(uri) else ()
        check_installed("Milvus indexes", "milvus", "pymilvus", *lite)
        return uri, collection or COLLECTION
    check_installed("local indexes", "index", "faiss")
    return home / "index" if to == "local" else Path(to)
