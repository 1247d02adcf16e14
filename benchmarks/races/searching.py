"""Search: words against bm25s, vectors against faiss, and the whole way of a query."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import bm25s
import faiss
import numpy as np
import Stemmer

from races.race import Race, Unit, milliseconds
from races.setting import VECTORS, Setting
from twinrank.ranking import Bm25, Passages, top_k
from twinrank.ranking.index import local
from twinrank.ranking.index.local import LocalIndex
from twinrank.ranking.index.local_card import Kind

ASKED, CANDIDATES, SHOWN = 50, 200, 10  # queries, one at a time; answers
BUILT = 4_000  # vectors of a graph


def units() -> list[Unit]:
    """Each query is asked alone."""
    exact, graph = f"search {VECTORS:,} vectors", f"search a graph of {VECTORS:,}"
    whole = "SentenceTransformer, faiss"
    return [
        Unit("words", "rank by words", "bm25s", "ms a query", _words),
        Unit("flat", exact, "faiss IndexFlatIP", "ms a query", partial(_vectors, "flat")),
        Unit("hnsw", graph, "faiss IndexHNSWFlat", "ms a query", partial(_vectors, "hnsw")),
        Unit("build", f"build a graph of {BUILT:,}", "faiss IndexHNSWFlat", "ms a vector", _build),
        Unit("rank", "rank by all channels", whole, "ms a query", _rank),
    ]


def _words(setting: Setting) -> Race:
    answers, texts = setting.dataset.answer_texts(), setting.dataset.split("test").texts[:ASKED]
    ours, stemmer, peer = (
        Bm25(answers, language="english"),
        Stemmer.Stemmer("english"),
        bm25s.BM25(),
    )
    tokens = partial(bm25s.tokenize, stopwords="en", stemmer=stemmer, show_progress=False)
    peer.index(tokens(answers), show_progress=False)
    k = min(SHOWN, len(answers))
    return Race(
        milliseconds(lambda: [top_k(ours.score_texts([t])[0], k) for t in texts], len(texts)),
        milliseconds(
            lambda: [peer.retrieve(tokens([t]), k=k, show_progress=False) for t in texts],
            len(texts),
        ),
    )


def _vectors(kind: Kind, setting: Setting) -> Race:
    points, queries = setting.drawn
    asked, folder = queries[:ASKED], setting.folder / kind
    _save(folder, kind, points)
    ours = LocalIndex.open(folder)
    peer = faiss.read_index(str(next(folder.glob("*.faiss"))))  # the very same graph
    how = None
    if kind == "hnsw":
        how = faiss.SearchParametersHNSW(efSearch=CANDIDATES)  # type: ignore[attr-defined]
    return Race(
        milliseconds(lambda: [ours.search(q[None], CANDIDATES) for q in asked], len(asked)),
        milliseconds(
            lambda: [peer.search(q[None], CANDIDATES, params=how) for q in asked], len(asked)
        ),
    )


def _build(setting: Setting) -> Race:
    points = setting.drawn[0][:BUILT]

    def peer() -> None:
        graph = faiss.IndexHNSWFlat(points.shape[1], local.LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = local.BUILD_BREADTH
        graph.add(points)
        faiss.write_index(graph, str(setting.folder / "peer.faiss"))

    return Race(
        milliseconds(lambda: _save(setting.folder / "built", "hnsw", points), BUILT),
        milliseconds(peer, BUILT),
        most=6,
    )


def _save(folder: Path, kind: Kind, points: np.ndarray) -> None:
    index = LocalIndex(folder, kind, "benchmark", points.shape[1])
    index.add([str(row) for row in range(len(points))], Passages(points, None, len(points)))
    index.save()
    index.close()


def _rank(setting: Setting) -> Race:
    texts, model = setting.dataset.split("test").texts[:ASKED], setting.sentence_transformer
    known = model.encode(setting.dataset.answer_texts(), normalize_embeddings=True)
    index = faiss.IndexFlatIP(known.shape[1])
    index.add(known)
    ours = setting.ranker
    return Race(
        milliseconds(lambda: [ours.rank([text], SHOWN) for text in texts], len(texts)),
        milliseconds(
            lambda: [
                index.search(model.encode([text], normalize_embeddings=True), SHOWN)
                for text in texts
            ],
            len(texts),
        ),
    )
