"""Query: what a published collection holds, and which of its records are nearest to some vectors or texts."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.chroma.query import Filters, matching, nearest
from chromadb_compaction.deltas.records import Vector
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.reader import ReadableCollection, SnapshotReader
from chromadb_compaction.steps.query_messages import (
    Answer,
    CountAnswer,
    CountRequest,
    FoundField,
    GetAnswer,
    GetRequest,
    PeekRequest,
    QueryAnswer,
    QueryEvent,
    QueryRequest,
    Question,
)

ANSWER_BYTES: Final = 6 * 1024 * 1024 - 1024
"""Lambda's own limit is 6 MB."""

PEEK_FIELDS: Final[tuple[FoundField, ...]] = ("embeddings", "metadatas", "documents")

_PROCESS_READER = SnapshotReader()
"""Kept for as long as the process, so that the next query finds the collection open."""


def query(event: QueryEvent, services: Services) -> Answer:
    """Answer from the snapshot that is published when the query begins.

    Raises NoSnapshotError, NoSuchCollectionError (naming those that there are) and InvalidRequestError: for what
    breaks a rule, and for an answer too large to be given.
    """
    given = answer(event.root, services)
    size = _bytes(given)
    if size > ANSWER_BYTES:
        raise InvalidRequestError(
            f"the answer has {size:,} bytes, and {ANSWER_BYTES:,} is the most that can be answered;"
            " ask for fewer records at once (limit and offset, or n_results), or include less"
        )
    return given


def _bytes(given: Answer) -> int:
    """Return the size in which Lambda sends it: the blanks after commas count, where the limit is near."""
    compact = len(given.model_dump_json())
    if 2 * compact < ANSWER_BYTES:
        return compact
    return len(json.dumps(given.model_dump(mode="json"), ensure_ascii=False).encode())


def answer(question: Question, services: Services, *, reader: SnapshotReader = _PROCESS_READER) -> Answer:
    """Answer one question of whatever size, from a reader that stays open."""
    with reader.reading(services, question.collection) as readable:
        match question:
            case QueryRequest():
                return _nearest(question, readable)
            case GetRequest():
                filters = Filters(question.ids, question.where, question.where_document)
                return _found(filters, question.limit, question.offset, question.include, readable)
            case PeekRequest():
                return _found(Filters(), question.limit, None, list(PEEK_FIELDS), readable)
            case CountRequest():
                return _counted(readable)


def _nearest(request: QueryRequest, readable: ReadableCollection) -> QueryAnswer:
    if readable.collection is None:
        return _nothing_near(request, readable)
    found = nearest(
        readable.collection,
        _vectors(request, readable),
        n_results=request.n_results,
        filters=Filters(request.ids, request.where, request.where_document),
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


def _found(
    filters: Filters, limit: int | None, offset: int | None, include: list[FoundField], readable: ReadableCollection
) -> GetAnswer:
    found: Any = {name: [] for name in ("ids", *include)}
    if readable.collection is not None:
        found = matching(readable.collection, filters, limit=limit, offset=offset, include=list(include))
    embeddings = found.get("embeddings")
    return GetAnswer.model_validate(
        {
            **{name: found.get(name) for name in ("ids", "documents", "metadatas")},
            "snapshot_id": readable.snapshot_id,
            "embeddings": None if embeddings is None else np.asarray(embeddings).tolist(),
            "included": include,
        }
    )


def _counted(readable: ReadableCollection) -> CountAnswer:
    described = readable.described
    return CountAnswer(
        snapshot_id=readable.snapshot_id,
        count=0 if readable.collection is None else readable.collection.count(),
        dimension=described.dimension,
        space=described.space,
        embedding_function=described.embedding_function,
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


def _nothing_near(request: QueryRequest, readable: ReadableCollection) -> QueryAnswer:
    """Return an empty list per question: the collection has only ever seen deletes."""
    empty: dict[str, list[list[Any]]] = {
        name: [[] for _ in range(request.questions)] for name in ("ids", *request.include)
    }
    fields = ("ids", "embeddings", "documents", "metadatas", "distances")
    return QueryAnswer.model_validate(
        {
            **{name: empty.get(name) for name in fields},
            "snapshot_id": readable.snapshot_id,
            "included": request.include,
        }
    )
