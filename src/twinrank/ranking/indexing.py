"""The index of a ranker's folder, whose answers may change while it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinrank.errors import RankerError
from twinrank.ranking.generations import read_card, writing
from twinrank.ranking.index import Indexed, Rows
from twinrank.ranking.ranker import Ranker


def index_folder(
    path: Path, to: str, *, fresh: bool = False, progress: str | None = None
) -> Indexed:
    """Make an answer index hold the answers of the ranker in a folder; see `build_index`.

    A service may go on changing answers: what it changed meanwhile is done last, in turn with it,
    and then the index is published.

    Args:
        path: of the ranker.
        to: where, as `twinrank.ranking.index.place` has it.
        fresh: make one anew, whatever is there.
        progress: label of the progress bar; None shows none.

    Raises:
        RankerError: if it is no ranker, or another takes its place meanwhile.
        AnswerIndexError: as `build_index` does.
    """
    before = read_card(path)
    ranker = Ranker.load(path)

    @contextmanager
    def last() -> Iterator[Rows]:
        with writing(path):
            now = ranker if read_card(path) == before else Ranker.load(path)
            if now.fingerprint != ranker.fingerprint:
                raise RankerError(f"{path}: another ranker took its place meanwhile; index again")
            yield now.answers["id"].to_list(), now.vectors

    return ranker.build_index(to, home=path, fresh=fresh, progress=progress, last=last)
