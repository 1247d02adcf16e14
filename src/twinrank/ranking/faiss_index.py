"""The answer index on this machine: a FAISS file in the version of the ranker."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from twinrank.errors import RankerError, first_line
from twinrank.ranking.answer_index import Keys, group_hits
from twinrank.ranking.reader import Passages

if TYPE_CHECKING:
    import faiss

Kind = Literal["flat", "hnsw"]
MAX_EXACT_VECTORS = 200_000  # chosen from the measurements in docs/measurements/speed.md
LINKS, BUILD_BREADTH, SEARCH_BREADTH = 32, 120, 128  # HNSW's M, efConstruction, efSearch


class FaissIndex:
    """FAISS inner products: `flat` is exact, `hnsw` (Malkov and Yashunin, 2016) is not.

    See `AnswerIndex` for the methods. It is not changed while it is searched.
    """

    def __init__(self, dim: int, kind: Kind) -> None:
        self.dim, self.kind = dim, kind
        self.unsaved = True  # whether it differs from the file
        self._index: Any = _empty(dim, kind)  # faiss has types for the base class alone

    @classmethod
    def open(cls, file: Path) -> FaissIndex:
        """Map a file that `write` left."""
        import faiss

        try:
            mapped: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise RankerError(
                f"{file}: {first_line(error)}; make it anew: twinrank index RANKER --fresh"
            ) from None
        flat = isinstance(faiss.downcast_index(mapped.index), faiss.IndexFlatIP)
        index = cls(mapped.d, "flat" if flat else "hnsw")
        index._index, index.unsaved = mapped, False
        return index

    def add(self, keys: Keys, passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`."""
        import faiss

        if not self.unsaved:  # to change a mapped index would end the process
            self._index = faiss.deserialize_index(faiss.serialize_index(self._index))
        rows = np.ascontiguousarray(passages.rows, np.float32)
        self._index.add_with_ids(rows, keys[passages.owners])
        self.unsaved = True

    def remove(self, keys: Keys) -> None:
        """See `AnswerIndex.remove`; all others are indexed anew."""
        import faiss

        stays = ~np.isin(self._keys, keys)
        inner = faiss.downcast_index(self._index.index)
        vectors = inner.reconstruct_n(0, inner.ntotal)[stays]
        remaining = self._keys[stays]
        self._index, self.unsaved = _empty(self.dim, self.kind), True
        self._index.add_with_ids(vectors, remaining)

    def search(
        self, queries: Float[np.ndarray, "n d"], k: int, keys: Keys | None = None
    ) -> list[list[int]]:
        """See `AnswerIndex.search`; of up to 200,000 vectors that keys select, exactly."""
        search = partial(self._search, keys=keys)
        return group_hits(search, np.ascontiguousarray(queries, np.float32), k)

    def counts(self, keys: Keys | None = None) -> dict[int, int]:
        """See `AnswerIndex.counts`."""
        present = self._keys if keys is None else self._keys[np.isin(self._keys, keys)]
        unique, counts = np.unique(present, return_counts=True)
        return dict(zip(unique.tolist(), counts.tolist(), strict=True))

    def __len__(self) -> int:
        """Return the number of vectors."""
        return int(self._index.ntotal)

    def settle(self) -> None:
        """Do nothing: it is saved with its ranker, by `write`."""

    def publish(self) -> None:
        """Do nothing: it is found once its ranker is saved."""

    def write(self, file: Path) -> None:
        """Write the index into a file."""
        import faiss

        try:
            faiss.write_index(self._index, str(file))
        except RuntimeError as error:  # such as a full disk
            raise OSError(first_line(error)) from error

    @property
    def _keys(self) -> Keys:
        """The answer of each vector."""
        import faiss

        keys: np.ndarray = faiss.vector_to_array(self._index.id_map)
        return keys

    def _search(
        self, queries: Float[np.ndarray, "n d"], depth: int, keys: Keys | None
    ) -> list[list[int]]:
        import faiss

        depth = min(depth, len(self))
        if depth == 0:
            return [[] for _ in queries]
        selector = None if keys is None else faiss.IDSelectorBatch(keys)
        if self.kind == "flat":
            settings: Any = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
            _, hits = self._index.search(queries, depth, params=settings)
        else:
            hits = self._search_graph(queries, depth, keys, selector)
        return [[key for key in row if key >= 0] for row in hits.tolist()]  # -1: there are fewer

    def _search_graph(
        self,
        queries: Float[np.ndarray, "n d"],
        depth: int,
        keys: Keys | None,
        selector: Any,  # noqa: ANN401 (faiss has types for the base class alone)
    ) -> Int[np.ndarray, "n hits"]:
        """Return the answers' keys; -1 where fewer are found.

        A graph leads through the vectors that keys leave out, and so finds few where most are:
        then it goes further, and up to 200,000 vectors are compared one by one.
        """
        import faiss

        share = 1.0
        if keys is not None:
            selected = np.isin(self._keys, keys)
            share = float(selected.mean())
            if selected.sum() <= MAX_EXACT_VECTORS:
                graph: Any = faiss.downcast_index(self._index.index)
                translated = faiss.IDSelectorTranslated(self._index.id_map, selector)
                exact: Any = faiss.SearchParameters(sel=translated)  # type: ignore[call-arg]
                rows: np.ndarray
                _, rows = faiss.downcast_index(graph.storage).search(queries, depth, params=exact)
                rows[rows >= 0] = self._keys[rows[rows >= 0]]
                return rows
        breadth = int(max(SEARCH_BREADTH, depth) / share)
        settings = faiss.SearchParametersHNSW(efSearch=breadth, sel=selector)  # type: ignore[attr-defined]
        _, rows = self._index.search(queries, depth, params=settings)
        return rows


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
