"""Routes for texts of any kind, as other clients know them: reranking and embeddings."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request
from jaxtyping import Float
from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag

from twinrank.ranking.signals import QueryBatch
from twinrank.service.live_ranker import LoadedRanker, TextGroup
from twinrank.service.routes import ALWAYS, WITH_BODY, Service, Shared, Visible, bearer, in_thread
from twinrank.service.schemas import Article, Name, Question, Strict, Words, refuse_blank

MAX_TEXTS = 1_000  # of a request
TEXTS_PER_TURN = 8  # that are encoded between two batches of queries


def _refuse_tokens(value: object) -> object:
    """Refuse numbers: tokens of another model's vocabulary."""
    values = value if isinstance(value, list) else []
    if any(isinstance(entry, int | list) for entry in values):
        raise ValueError(
            "these are tokens of another model; send texts "
            "(LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
        )
    return value


class Document(Strict):
    """A document to be ranked, as an object."""

    text: Article


Documents = Annotated[list[Article | Document], Field(min_length=1, max_length=MAX_TEXTS)]
Text = Annotated[Article, AfterValidator(refuse_blank)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
OneOrMore = Annotated[
    Annotated[Text, Tag("one")] | Annotated[Texts, Tag("batch")],
    Discriminator(lambda value: "batch" if isinstance(value, list) else "one"),
    BeforeValidator(_refuse_tokens),
]


class RerankRequest(Strict):
    """A query, and documents to be ranked for it."""

    model: Name | None = Field(None, description="Any name: there is one ranker.")
    query: Words
    documents: Documents
    top_n: Annotated[int, Field(ge=1)] | None = Field(None, description="How many; default: all.")
    max_tokens_per_doc: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Not followed: the ranker has its own limit. A warning says so."
    )
    return_documents: bool = False


class Relevance(BaseModel):
    """A document in a ranking: its place in the request, and how likely it answers."""

    index: int
    relevance_score: float = Field(
        description="From 0 to 1; 0.5 is as likely as all answers of the ranker together."
    )
    document: Document | None = None


class Reranking(BaseModel):
    """The documents, best first."""

    id: str = Field(description="Of the request, in the service's log.")
    results: list[Relevance]
    meta: dict[str, Any] = Field(description="The version of the API, and warnings if there are.")


class EmbeddingRequest(Strict):
    """Texts to be embedded."""

    input: Annotated[OneOrMore, Field(description="A text, or a list of them.")]
    model: Annotated[
        Literal["query", "document"], Field(description="How the texts are read: by which tower.")
    ]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="The ranker has its own; no other is given.")
    user: Name | None = Field(None, description="Is not read.")


class Embedding(BaseModel):
    """The vector of a text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="A text in base64 holds 32-bit floats.")


class Embeddings(BaseModel):
    """The vectors of texts, in their order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: dict[str, int]
    warnings: list[str] | None = None


def _list_cut(loaded: LoadedRanker, texts: Sequence[str], limit: int | None) -> list[str]:
    """Say how many texts are read in part, and that a limit of tokens is not followed."""
    warnings, dense = [], loaded.ranker.dense
    if dense and not dense.reader.selection:
        for encoder in dense.reader.encoders:
            if cut := int((encoder.count_tokens(texts) > encoder.max_tokens).sum()):
                read = f"only their first {encoder.max_tokens} tokens are in vectors"
                warnings.append(f"{cut:,} of {len(texts):,} texts are longer: {read}")
    if limit and not (dense and limit >= max(e.max_tokens for e in dense.reader.encoders)):
        warnings.append("max_tokens_per_doc is not followed: the ranker has its own limit")
    return warnings


async def _embed(
    service: Service, loaded: LoadedRanker, texts: Sequence[str], client: str, *, as_queries: bool
) -> Float[np.ndarray, "n d"]:
    """Embed texts, between batches of queries; n x 0 where words alone rank."""
    dense, starts = loaded.ranker.dense, range(0, len(texts), TEXTS_PER_TURN)
    if dense is None:
        return np.empty((len(texts), 0), np.float32)
    turns = [TextGroup(dense, texts[i : i + TEXTS_PER_TURN], as_queries) for i in starts]
    return np.concatenate(await service.ranker.embed(turns, client))


texts = APIRouter(dependencies=[Depends(bearer)], responses=ALWAYS, tags=["texts"])


@texts.post("/v1/rerank", responses=WITH_BODY, response_model_exclude_none=True)
@texts.post("/v2/rerank", responses=WITH_BODY, response_model_exclude_none=True)
async def rerank(
    body: RerankRequest, request: Request, service: Shared, visible: Visible
) -> Reranking:
    """Rank documents for a query, as Cohere's and Jina's API do; they need not be answers here.

    They count by what their texts say, as an answer that was put just now: nothing is known of
    past queries.
    """
    documents = [d.text if isinstance(d, Document) else d for d in body.documents]
    service.charge(request, body.query, *documents)
    [asked] = await service.redact([Question(text=body.query)])
    if service.settings.log_texts:
        request.state.logged = {"texts": [asked.query]}
    loaded = service.ranker.current
    [query] = loaded.ranker.rules.expand([asked.query])
    limit, client = body.max_tokens_per_doc, request.state.client
    warnings = await in_thread(service.reading, _list_cut, loaded, documents, limit)
    of_query = await _embed(service, loaded, [query], client, as_queries=True)
    vectors = await _embed(service, loaded, documents, client, as_queries=False)
    batch, fits = QueryBatch([query], of_query), loaded.ranker.fields.select(visible)
    score = loaded.ranker.scoring.score_texts
    scores = await in_thread(service.reading, score, batch, documents, vectors, fits)
    best = np.argsort(-scores, kind="stable")[: body.top_n].tolist()
    results = [
        Relevance(
            index=i,
            relevance_score=float(scores[i]),
            document=Document(text=documents[i]) if body.return_documents else None,
        )
        for i in best
    ]
    meta = {"api_version": {"version": "2"}, **({"warnings": warnings} if warnings else {})}
    return Reranking(id=request.state.request_id, results=results, meta=meta)


@texts.post("/v1/embeddings", responses=WITH_BODY, response_model_exclude_none=True)
async def embeddings(body: EmbeddingRequest, request: Request, service: Shared) -> Embeddings:
    """Give vectors of texts, as OpenAI's API does: by the tower of queries or of answers.

    The dot product of a query's and a document's vector says how well they fit. `warnings` says
    how many texts are longer than what the encoder reads.
    """
    given = [body.input] if isinstance(body.input, str) else body.input
    as_queries, loaded = body.model == "query", service.ranker.current
    service.charge(request, *given)
    if loaded.ranker.dense is None:
        raise HTTPException(422, "this ranker goes by words alone: it has no vectors")
    if as_queries:
        questions = await service.redact([Question.model_construct(text=text) for text in given])
        given = [question.query for question in questions]
        if service.settings.log_texts:
            request.state.logged = {"texts": given}
    vectors = await _embed(service, loaded, given, request.state.client, as_queries=as_queries)
    if body.dimensions not in {None, vectors.shape[1]}:
        raise HTTPException(422, f"dimensions: vectors have {vectors.shape[1]} here; leave it out")
    rows = vectors.astype("<f4")
    data = [
        Embedding(
            index=i,
            embedding=base64.b64encode(row.tobytes()).decode()
            if body.encoding_format == "base64"
            else row.tolist(),
        )
        for i, row in enumerate(rows)
    ]
    count = loaded.ranker.dense.reader.encoder.count_tokens
    tokens = int((await in_thread(service.reading, count, given)).sum())
    warnings = await in_thread(service.reading, _list_cut, loaded, given, None)
    return Embeddings(
        data=data,
        model=body.model,
        usage={"prompt_tokens": tokens, "total_tokens": tokens},
        warnings=warnings or None,
    )
