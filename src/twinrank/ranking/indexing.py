"""The answer index of a ranker's folder, whose answers may change while it is made."""

from __future__ import annotations

import time
from pathlib import Path

from twinrank.encoding import Store
from twinrank.errors import RankerError
from twinrank.ranking.answer_index import Indexed, update_index
from twinrank.ranking.faiss_index import FaissIndex
from twinrank.ranking.index_place import LOCAL, place_of
from twinrank.ranking.manifest import INDEX
from twinrank.ranking.ranker import Ranker
from twinrank.ranking.storage import read_manifest, read_pointer, writing


def index_folder(
    path: Path, to: str, *, fresh: bool = False, progress: str | None = None
) -> Indexed:
    """Make an answer index hold the answers of the ranker in a folder; see `Ranker.build_index`.

    A service may go on changing answers: what it changed meanwhile is done last, while it waits,
    and then the index is published. A local index is part of a new version of the ranker.

    Args:
        path: folder of the ranker.
        to: `local`, or a Milvus.
        fresh: make one anew, whatever is there.
        progress: label of the progress bar; None shows none.

    Raises:
        RankerError: if it is no ranker, or another takes its place meanwhile.
        AnswerIndexError: as `Ranker.build_index` does.
    """
    start = time.monotonic()
    place = place_of(to)
    before = read_pointer(path).version
    has_index = place is None and not fresh and INDEX in read_manifest(path).files
    ranker = now = Ranker.load(path, index=LOCAL if has_index else None)
    index = ranker.open_index(to, fresh=fresh)
    try:
        ids = ranker.answers["id"].to_list()
        added, removed = update_index(index, ids, ranker.vectors, progress)
        with writing(path):
            if read_pointer(path).version != before:
                now = Ranker.load(path)
                if now.fingerprint != ranker.fingerprint:
                    raise RankerError(
                        f"{path}: another ranker took its place meanwhile; index again"
                    )
                more, less = update_index(index, now.answers["id"].to_list(), now.vectors)
                added, removed = added + more, removed + less
            compared = now.use_index(index)
            if isinstance(index, FaissIndex) and index.unsaved:
                now.save(path)
    finally:
        index.close()
    return Indexed(
        where=str(place or path),
        answers=now.answers.height,
        vectors=len(now.vectors.rows),
        dim=now.vectors.rows.shape[1],
        added=added,
        removed=removed,
        compared=compared,
        seconds=time.monotonic() - start,
    )


def load_indexed(path: Path, index: str, *, store: Store, device: str) -> Ranker:
    """Load a ranker that ranks by an index, which is made or brought up to date if need be.

    Args:
        path: folder of the ranker.
        index: `local`, or a Milvus.
        store: of features.
        device: where the encoder runs.

    Raises:
        TwinrankError: if it is no ranker, or the index cannot be made.
    """
    with writing(path):
        local = place_of(index) is None
        ranker = Ranker.load(path, store=store, device=device, index=LOCAL if local else None)
        if not local:
            ranker.build_index(index)
        elif ranker.shortlist and getattr(ranker.shortlist.index, "unsaved", False):
            ranker.save(path)
        return ranker
