"""The index on this machine: FAISS in a folder, opened by memory map."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from twinrank.errors import AnswerIndexError
from twinrank.files import write_by_content
from twinrank.ranking.index.interface import Found, Hit, grouped, owners, row_checksums
from twinrank.ranking.index.local_card import MEND, Card, Kind, read_card, write_card
from twinrank.ranking.index.local_versions import lock_of, published
from twinrank.ranking.passages import Passages

if TYPE_CHECKING:
    import faiss

EXACT_UP_TO = 200_000  # vectors; chosen from the measurements in docs/index.md
LINKS, BUILD_BREADTH, SEARCH_BREADTH = 32, 120, 128  # HNSW's M, efConstruction, efSearch
FOLDED_AT = 8_192  # new vectors, searched beside the rest until they are as many
DEAD_SHARE = 0.25  # of a graph's vectors, beyond which it is built anew


class LocalIndex:
    """FAISS inner products: `flat` is exact, `hnsw` (Malkov and Yashunin, 2016) is not.

    What was saved is mapped from disk and never changed; what was added since is searched beside
    it, exactly. Saving makes one of both in new files, and `index.json`, renamed last, names them:
    a kill leaves the index that was, and who has that open keeps it.

    HNSW finds a little less among vectors whose lengths differ, which projections alone give.

    Args:
        folder: where it is, or will be when it is saved.
        kind: flat or hnsw.
        fingerprint: of the ranker whose vectors these are.
        dim: d.
    """

    def __init__(self, folder: Path, kind: Kind, fingerprint: str, dim: int) -> None:
        import faiss

        self.folder = folder
        self.kind = kind
        self.fingerprint = fingerprint
        self.dim = dim
        self.breadth = SEARCH_BREADTH  # vectors in sight in a search: more find more, slower
        self._main = self._empty()
        self._mapped: Path | None = None  # the file, while it is mapped
        self._fresh = faiss.IndexFlatIP(dim)
        self._ids: list[str] = []
        self._places: dict[str, int] = {}  # in _ids
        self._owner = np.empty(0, np.int64)  # of each vector, a place in _ids; -1 once removed
        self._checksums = np.empty(0, np.int64)
        self._saved = False
        self.lock: FileLock | None = None  # of the folder, while it is made there

    @classmethod
    def open(cls, folder: Path) -> LocalIndex:
        """The index in a folder.

        Raises:
            NoAnswerIndexError: if there is none.
            AnswerIndexError: if a file is missing, or not as it was written.
        """
        card = read_card(folder)
        index = cls(folder, card.kind, card.fingerprint, card.dim)
        file = {Path(name).suffix: folder / name for name in card.files}
        try:
            index._map(file[".faiss"])
            rows = load_file(file[".safetensors"])
            index._owner, index._checksums = rows["owner"], rows["checksums"]
            index._ids = json.loads(bytes(rows["ids"]))
        except (RuntimeError, KeyError, SafetensorError) as error:
            raise AnswerIndexError(f"{folder}: {error}; {MEND}") from None
        index._places = {id_: place for place, id_ in enumerate(index._ids)}
        index._saved = True
        return index

    def add(self, ids: Sequence[str], passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`."""
        self.remove(ids)
        self._saved = False
        owner = owners(passages) + len(self._ids)
        self._places |= {id_: place for place, id_ in enumerate(ids, start=len(self._ids))}
        self._ids += ids
        self._owner = np.concatenate([self._owner, owner])
        self._checksums = np.concatenate([self._checksums, row_checksums(passages)])
        self._fresh.add(np.ascontiguousarray(passages.rows, np.float32))
        if self._fresh.ntotal >= FOLDED_AT:
            self._fold()

    def remove(self, ids: Iterable[str]) -> None:
        """See `AnswerIndex.remove`."""
        gone = [self._places.pop(id_) for id_ in ids if id_ in self._places]
        if gone:
            self._saved = False
            self._owner = np.where(np.isin(self._owner, gone), -1, self._owner)

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[Found]:
        """See `AnswerIndex.search`."""
        several = len(self._owner) > len(self._places)
        depth = 2 * k if several else k
        queries = np.ascontiguousarray(queries, np.float32)
        return grouped(self._nearest, queries, k, depth=depth, limit=len(self._owner))

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """See `AnswerIndex.read`."""
        rows = [np.flatnonzero(self._owner == self._places.get(id_, -2)) for id_ in ids]
        return [self._vectors(some) for some in rows]

    def held(self) -> dict[str, int]:
        """See `AnswerIndex.held`."""
        live = self._owner >= 0
        sums = np.zeros(len(self._ids), np.int64)
        np.add.at(sums, self._owner[live], self._checksums[live])
        return {id_: int(sums[place]) for id_, place in self._places.items()}

    def __len__(self) -> int:
        """How many vectors are there."""
        return int((self._owner >= 0).sum())

    def save(self) -> None:
        """See `AnswerIndex.save`."""
        if self._saved:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_of(self.folder):
            self._compact()
            self._fold()
            self._write()
        self._saved = True

    def settle(self) -> None:
        """See `AnswerIndex.settle`."""
        self.save()

    def publish(self) -> None:
        """See `AnswerIndex.publish`; of other rankers' indexes the last published stays."""
        self.folder = published(self.folder)
        self._mapped = self._mapped and self.folder / self._mapped.name
        self._unlock()

    def close(self) -> None:
        """See `AnswerIndex.close`."""
        self._main = self._empty()
        self._unlock()

    def _unlock(self) -> None:
        if self.lock:
            self.lock.release()
            self.lock = None

    def _empty(self) -> faiss.Index:
        import faiss

        if self.kind == "flat":
            return faiss.IndexFlatIP(self.dim)
        graph = faiss.IndexHNSWFlat(self.dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_BREADTH
        return graph

    def _map(self, file: Path) -> None:
        import faiss

        self._main, self._mapped = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC), file

    def _nearest(self, queries: Float[np.ndarray, "n d"], depth: int) -> list[list[Hit]]:
        """The best vectors of each query among the saved and the fresh."""
        products, rows = self._searched(queries, depth)
        if self._fresh.ntotal:
            new, new_rows = self._fresh.search(queries, min(depth, self._fresh.ntotal))
            products = np.concatenate([products, new], axis=1)
            rows = np.concatenate([rows, new_rows + self._main.ntotal], axis=1)
            order = np.argsort(-products, axis=1, kind="stable")[:, :depth]
            products = np.take_along_axis(products, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        places = np.where(rows < 0, -1, self._owner[rows])  # a graph fills up with -1
        ids = self._ids
        return [
            [(ids[place] if place >= 0 else None, s) for place, s in zip(some, scores, strict=True)]
            for some, scores in zip(places.tolist(), products.tolist(), strict=True)
        ]

    def _searched(
        self, queries: Float[np.ndarray, "n d"], depth: int
    ) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, "n k"]]:
        import faiss

        depth = min(depth, self._main.ntotal)
        if depth == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        how = None
        if self.kind == "hnsw":
            how = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]
                efSearch=max(self.breadth, depth)
            )
        products, rows = self._main.search(queries, depth, params=how)
        return products, rows

    def _vectors(self, rows: Int[np.ndarray, " v"]) -> Float[np.ndarray, "v d"]:
        saved = rows[rows < self._main.ntotal]
        fresh = rows[rows >= self._main.ntotal] - self._main.ntotal
        parts = [(self._main, saved), (self._fresh, fresh)]
        found = [index.reconstruct_batch(some) for index, some in parts if len(some)]
        return np.concatenate(found) if found else np.empty((0, self.dim), np.float32)

    def _fold(self) -> None:
        """Put the fresh vectors among the others, which are then in memory."""
        import faiss

        if not self._fresh.ntotal:
            return
        if self._mapped:
            try:
                self._main, self._mapped = faiss.read_index(str(self._mapped)), None
            except RuntimeError:
                raise AnswerIndexError(
                    f"{self.folder}: another process saved it since it was opened; open it again"
                ) from None
        self._main.add(self._fresh.reconstruct_n(0, self._fresh.ntotal))
        self._fresh.reset()

    def _compact(self) -> None:
        """Let go of what was removed; a graph keeps its vectors until there are too many."""
        live = np.flatnonzero(self._owner >= 0)
        dead = len(self._owner) - len(live)
        if not dead:
            return
        if self.kind == "flat" or dead > DEAD_SHARE * len(self._owner):
            vectors = self._vectors(live)
            self._main, self._mapped = self._empty(), None
            self._main.add(vectors)
            self._fresh.reset()
            self._owner, self._checksums = self._owner[live], self._checksums[live]
        kept = np.array(sorted(self._places.values()), np.int64)
        moved = np.full(len(self._ids) + 1, -1)  # the last for -1
        moved[kept] = np.arange(len(kept))
        self._owner = moved[self._owner]
        self._ids = [self._ids[place] for place in kept]
        self._places = {id_: place for place, id_ in enumerate(self._ids)}

    def _write(self) -> None:
        import faiss

        rows: dict[str, np.ndarray] = {
            "owner": self._owner,
            "checksums": self._checksums,
            "ids": np.frombuffer(json.dumps(self._ids).encode(), np.uint8),
        }
        writers: dict[str, Callable[[Path], object]] = {
            "vectors.faiss": lambda file: faiss.write_index(self._main, str(file)),
            "rows.safetensors": partial(save_file, rows),
        }
        files = dict(write_by_content(self.folder / name, w) for name, w in writers.items())
        card = Card(
            kind=self.kind,
            fingerprint=self.fingerprint,
            dim=self.dim,
            answers=len(self._ids),
            vectors=len(self),
            files=files,
        )
        write_card(self.folder, card)
        self._map(self.folder / next(iter(files)))
