"""Query: the records of a published collection that are nearest to some vectors or texts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from chromadb_compaction.adapters.chroma_query import nearest
from chromadb_compaction.adapters.embedding import embed
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.ports import Services
from chromadb_compaction.records import Vector
from chromadb_compaction.steps.snapshot_reader import ReadableCollection, SnapshotReader

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Included = Literal["documents", "metadatas", "distances", "embeddings"]
DEFAULT_INCLUDE: tuple[Included, ...] = ("metadatas", "documents", "distances")

_PROCESS_READER = SnapshotReader()
"""Kept for as long as the process, so that the next query finds the collection open."""


class QueryRequest(BaseModel):
    """ChromaDB's own parameters under their own names. Texts are embedded as the collection's documents were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    query_embeddings: Annotated[list[list[Number]], Field(min_length=1)] | None = None
    query_texts: Annotated[list[str], Field(min_length=1)] | None = None
    n_results: Annotated[int, Field(ge=1)] = 10
    where: dict[str, JsonValue] | None = None
    where_document: dict[str, JsonValue] | None = None
    include: list[Included] = list(DEFAULT_INCLUDE)

    @model_validator(mode="after")
    def _asks_in_one_way(self) -> Self:
        if (self.query_embeddings is None) == (self.query_texts is None):
            raise ValueError("give either query_embeddings or query_texts")
        return self


class QueryAnswer(BaseModel):
    """The fields of ChromaDB's QueryResult, one inner list per question, None for what was not included.

    `snapshot_id` names the snapshot that gave the answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_id: str
    ids: list[list[str]]
    embeddings: list[list[list[float]]] | None
    documents: list[list[str | None]] | None
    uris: None = None
    data: None = None
    metadatas: list[list[dict[str, Any] | None]] | None
    distances: list[list[float]] | None
    included: list[Included]


def query(request: QueryRequest, services: Services, *, reader: SnapshotReader = _PROCESS_READER) -> QueryAnswer:
    """Answer from the snapshot that is published when the query begins.

    Raises NoSnapshotError, NoSuchCollectionError (naming those that there are) and InvalidRequestError.
    """
    with reader.reading(services, request.collection) as readable:
        if readable.collection is None:
            return _nothing(request, readable)
        found = nearest(
            readable.collection,
            _vectors(request, readable),
            n_results=request.n_results,
            where=request.where,
            where_document=request.where_document,
            include=list(request.include),
        )
    embeddings = found["embeddings"]
    return QueryAnswer.model_validate(
        {
            **{name: found[name] for name in ("ids", "documents", "metadatas", "distances")},
            "snapshot_id": readable.snapshot_id,
            "embeddings": None if embeddings is None else [np.asarray(each).tolist() for each in embeddings],
            "included": request.include,
        }
    )


def _vectors(request: QueryRequest, readable: ReadableCollection) -> Vector:
    """Return one row per question, of the collection's dimension."""
    dimension = readable.described.dimension
    if request.query_texts is not None:
        function = readable.described.embedding_function
        if function is None:
            raise InvalidRequestError(
                f"the collection {request.collection!r} names no embedding function; ask with query_embeddings"
                f" of {dimension} dimensions"
            )
        rows = list(embed(request.query_texts, function))
        asked = f"a text's embedding by {function!r}"
    else:
        rows = [np.asarray(vector, dtype=np.float32) for vector in request.query_embeddings or []]
        asked = "a query embedding"
    for row in rows:
        if len(row) != dimension:
            raise InvalidRequestError(
                f"{asked} has {len(row)} dimensions, but the collection {request.collection!r} has {dimension}"
            )
    return np.stack(rows)


def _nothing(request: QueryRequest, readable: ReadableCollection) -> QueryAnswer:
    """Return an empty list per question: the collection has only ever seen deletes."""
    questions = len(request.query_texts or request.query_embeddings or [])

    def empty(name: Included) -> list[Any] | None:
        return [[] for _ in range(questions)] if name in request.include else None

    return QueryAnswer(
        snapshot_id=readable.snapshot_id,
        ids=[[] for _ in range(questions)],
        embeddings=empty("embeddings"),
        documents=empty("documents"),
        metadatas=empty("metadatas"),
        distances=empty("distances"),
        included=request.include,
    )
