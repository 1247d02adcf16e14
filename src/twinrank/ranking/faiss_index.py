"""The answer index on this machine: a FAISS file in the version of the ranker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from twinrank.errors import AnswerIndexError
from twinrank.ranking.answer_index import Hit, NearestAnswers, answer_checksums, group_hits, owners
from twinrank.ranking.passages import Passages

if TYPE_CHECKING:
    import faiss

Kind = Literal["flat", "hnsw"]
MAX_EXACT_VECTORS = 200_000  # chosen from the measurements in docs/measurements/speed.md
LINKS, BUILD_BREADTH, SEARCH_BREADTH = 32, 120, 128  # HNSW's M, efConstruction, efSearch
MAX_NEW_VECTORS = 8_192  # searched beside the main index before they are put into it
MAX_REMOVED_SHARE = 0.25  # of a graph's vectors, beyond which it is built again


class FaissIndex:
    """FAISS inner products: `flat` is exact, `hnsw` (Malkov and Yashunin, 2016) is not.

    The main index is mapped from its file, or shared with copies, and never changed then. New
    vectors are searched beside it, exactly, and put into a main index of this object's own when
    there are many or the index is written. See `AnswerIndex` for the methods.

    Args:
        dim: width of the vectors.
        kind: flat or hnsw.
    """

    def __init__(self, dim: int, kind: Kind) -> None:
        import faiss

        self.dim, self.kind = dim, kind
        self.unsaved = True  # whether it differs from the file
        self._main: Any = _empty(dim, kind)  # faiss has types for the base class alone
        self._shared = False
        self._new: Any = faiss.IndexFlatIP(dim)
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}  # of each present id, in _ids
        self._owner = np.empty(0, np.int64)  # of each vector, a row of _ids; -1 once removed

    @classmethod
    def open(cls, file: Path, ids: Sequence[str]) -> FaissIndex:
        """Open a file by memory map.

        Args:
            file: as `write` leaves it.
            ids: of the ranker's answers, as they were given to `write`.

        Raises:
            AnswerIndexError: if it is no index of these answers.
        """
        import faiss

        try:
            main: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise AnswerIndexError(f"{file}: {str(error).splitlines()[0]}") from None
        kinds: dict[type, Kind] = {faiss.IndexFlatIP: "flat", faiss.IndexHNSWFlat: "hnsw"}
        inner = faiss.downcast_index(main.index) if isinstance(main, faiss.IndexIDMap) else None
        if type(inner) not in kinds:
            raise AnswerIndexError(f"{file}: no index of answers")
        index = cls(main.d, kinds[type(inner)])
        index._main, index._shared, index.unsaved = main, True, False
        index._ids, index._rows = list(ids), {id_: row for row, id_ in enumerate(ids)}
        index._owner = faiss.vector_to_array(main.id_map).copy()
        present = np.unique(index._owner[index._owner >= 0])
        if not np.array_equal(present, np.arange(len(ids))):
            raise AnswerIndexError(f"{file}: holds other answers than the ranker")
        return index

    def __copy__(self) -> FaissIndex:
        """Return one that can be changed while this one is searched."""
        import faiss

        index = FaissIndex(self.dim, self.kind)
        index.unsaved = self.unsaved
        self._shared = index._shared = True
        index._main, index._new = self._main, faiss.clone_index(self._new)
        index._ids, index._rows = list(self._ids), dict(self._rows)
        index._owner = self._owner
        return index

    def add(self, ids: Sequence[str], passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`."""
        self.remove(ids)
        self.unsaved = True
        self._owner = np.concatenate([self._owner, owners(passages) + len(self._ids)])
        self._rows |= {id_: row for row, id_ in enumerate(ids, start=len(self._ids))}
        self._ids += ids
        self._new.add(np.ascontiguousarray(passages.rows, np.float32))
        if self._new.ntotal >= MAX_NEW_VECTORS:
            self.settle()

    def remove(self, ids: Iterable[str]) -> None:
        """See `AnswerIndex.remove`."""
        rows = [self._rows.pop(id_) for id_ in ids if id_ in self._rows]
        if rows:
            self.unsaved = True
            self._owner = np.where(np.isin(self._owner, rows), -1, self._owner)

    def search(self, queries: Float[np.ndarray, "n d"], k: int) -> list[NearestAnswers]:
        """See `AnswerIndex.search`."""
        depth = 2 * k if len(self._owner) > len(self._rows) else k
        queries = np.ascontiguousarray(queries, np.float32)
        return group_hits(self._search, queries, k, depth=depth, limit=len(self._owner))

    def read(self, ids: Sequence[str]) -> list[Float[np.ndarray, "v d"]]:
        """See `AnswerIndex.read`."""
        rows = [self._rows.get(id_, -2) for id_ in ids]
        return [self._vectors(np.flatnonzero(self._owner == row)) for row in rows]

    def checksums(self) -> dict[str, int]:
        """See `AnswerIndex.checksums`."""
        live = np.flatnonzero(self._owner >= 0)
        live = live[np.argsort(self._owner[live], kind="stable")]
        rows, owner = np.unique(self._owner[live], return_inverse=True)
        passages = Passages(self._vectors(live), owner, len(rows))
        return answer_checksums([self._ids[row] for row in rows], passages)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return int((self._owner >= 0).sum())

    def save(self) -> None:
        """Do nothing: it is saved with its ranker, by `write`."""

    def settle(self) -> None:
        """Put the new vectors into the main index; a graph keeps some vectors of removed answers.

        See `AnswerIndex.settle`.
        """
        import faiss

        live = np.flatnonzero(self._owner >= 0)
        share = 1 - len(live) / max(1, len(self._owner))
        if share > (0 if self.kind == "flat" else MAX_REMOVED_SHARE):
            vectors = self._vectors(live)
            self._main, self._owner = _empty(self.dim, self.kind), self._owner[live]
        elif self._new.ntotal:
            vectors = self._new.reconstruct_n(0, self._new.ntotal)
            if self._shared:  # adding to a mapped index would end the process
                self._main = faiss.deserialize_index(faiss.serialize_index(self._main))
        else:
            return
        self._shared = False
        self._main.add_with_ids(vectors, np.zeros(len(vectors), np.int64))  # `write` numbers them
        self._new = faiss.IndexFlatIP(self.dim)

    def write(self, file: Path, ids: Sequence[str]) -> None:
        """Write the index of a ranker's answers; `ids` are theirs, in their order."""
        import faiss

        self.settle()
        rows = {id_: row for row, id_ in enumerate(ids)}
        moved = np.full(len(self._ids) + 1, -1)  # the last for -1
        for id_, row in self._rows.items():
            moved[row] = rows[id_]
        self._owner = moved[self._owner]
        self._ids, self._rows = list(ids), rows
        if self._shared:
            self._main = faiss.deserialize_index(faiss.serialize_index(self._main))
            self._shared = False
        faiss.copy_array_to_vector(self._owner, self._main.id_map)
        faiss.write_index(self._main, str(file))
        self.unsaved = False

    def publish(self) -> None:
        """Do nothing: it is found once its ranker is saved."""

    def close(self) -> None:
        """Do nothing: memory alone holds it."""

    def _search(self, queries: Float[np.ndarray, "n d"], depth: int) -> list[list[Hit]]:
        """Find the best vectors of each query, in the main index and among the new ones."""
        import faiss

        products = np.empty((len(queries), 0), np.float32)
        rows = np.empty((len(queries), 0), np.int64)
        if in_main := min(depth, self._main.ntotal):
            settings = None
            if self.kind == "hnsw":
                breadth = max(SEARCH_BREADTH, in_main)
                settings = faiss.SearchParametersHNSW(efSearch=breadth)  # type: ignore[attr-defined]
            inner = faiss.downcast_index(self._main.index)
            products, rows = inner.search(queries, in_main, params=settings)
        if in_new := min(depth, self._new.ntotal):
            new, new_rows = self._new.search(queries, in_new)
            products = np.concatenate([products, new], axis=1)
            rows = np.concatenate([rows, new_rows + self._main.ntotal], axis=1)
            order = np.argsort(-products, axis=1, kind="stable")[:, :depth]
            products = np.take_along_axis(products, order, axis=1)
            rows = np.take_along_axis(rows, order, axis=1)
        answers = np.where(rows < 0, -1, self._owner[rows])  # a graph fills up with -1
        ids = self._ids
        return [
            [(ids[row] if row >= 0 else None, score) for row, score in zip(*hits, strict=True)]
            for hits in zip(answers.tolist(), products.tolist(), strict=True)
        ]

    def _vectors(self, rows: Int[np.ndarray, " v"]) -> Float[np.ndarray, "v d"]:
        import faiss

        in_main = rows < self._main.ntotal
        vectors = np.empty((len(rows), self.dim), np.float32)
        if in_main.any():
            inner = faiss.downcast_index(self._main.index)
            vectors[in_main] = inner.reconstruct_batch(rows[in_main])
        if not in_main.all():
            vectors[~in_main] = self._new.reconstruct_batch(rows[~in_main] - self._main.ntotal)
        return vectors


def kind_for(vectors: int) -> Kind:
    """Choose how so many vectors are searched: exactly up to 200,000."""
    return "flat" if vectors <= MAX_EXACT_VECTORS else "hnsw"


def _empty(dim: int, kind: Kind) -> faiss.IndexIDMap:
    import faiss

    if kind == "flat":
        return faiss.IndexIDMap(faiss.IndexFlatIP(dim))
    graph = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILD_BREADTH
    return faiss.IndexIDMap(graph)
