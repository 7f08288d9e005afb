"""Query: answer requests for records of a published collection, by id, by filter or by nearness."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.chroma.query import Filters, matching, nearest
from chromadb_compaction.deltas.records import Vector, check_embedding
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.reader import ReadableCollection, SnapshotReader
from chromadb_compaction.steps.query_messages import (
    MAX_RECORDS,
    AnyRequest,
    CountAnswer,
    CountRequest,
    GetAnswer,
    GetField,
    GetRequest,
    PeekRequest,
    QueryAnswer,
    QueryEvent,
    QueryField,
    QueryRequest,
    SnapshotAnswer,
)

ANSWER_BYTES: Final = 6 * 1024 * 1024 - 1024
"""The largest answer, a little below Lambda's limit of 6 MB."""

PEEK_FIELDS: Final[tuple[GetField, ...]] = ("embeddings", "metadatas", "documents")

_PROCESS_READER = SnapshotReader()
"""Kept as long as the process, so that the next query finds the collection open."""


def query(event: QueryEvent, services: Services) -> SnapshotAnswer:
    """Answer from the snapshot that is published when the query begins.

    Raises NoSnapshotError, NoSuchCollectionError, which names the collections there are, and InvalidRequestError if
    the request breaks a rule or its answer has more than ANSWER_BYTES.
    """
    result = answer(event.root, services)
    size = _bytes_sent(result)
    if size > ANSWER_BYTES:
        raise InvalidRequestError(
            f"the answer has {size:,} bytes, more than the limit of {ANSWER_BYTES:,}",
            next_step="ask for fewer records at once (limit and offset, or n_results), or include fewer fields",
        )
    return result


def _bytes_sent(result: SnapshotAnswer) -> int:
    """Return the size of the JSON that Lambda sends. Its spaces after commas matter only near the limit."""
    compact = len(result.model_dump_json())
    if 2 * compact < ANSWER_BYTES:
        return compact
    return len(json.dumps(result.model_dump(mode="json"), ensure_ascii=False).encode())


def answer(request: AnyRequest, services: Services, *, reader: SnapshotReader = _PROCESS_READER) -> SnapshotAnswer:
    """Answer one request, without a limit of size. `reader` keeps the collection open for the next request."""
    with reader.reading(services, request.collection) as readable:
        match request:
            case QueryRequest():
                return _query(request, readable)
            case GetRequest():
                filters = Filters(request.ids, request.where, request.where_document)
                return _get(filters, request.limit, request.offset, request.include, readable)
            case PeekRequest():
                return _get(Filters(), request.limit, None, list(PEEK_FIELDS), readable)
            case CountRequest():
                return _count(readable)


def _query(request: QueryRequest, readable: ReadableCollection) -> QueryAnswer:
    found: Any = {name: [[] for _ in range(request.question_count)] for name in ("ids", *request.include)}
    if readable.collection is not None:
        found = nearest(
            readable.collection,
            _question_vectors(request, readable),
            n_results=request.n_results,
            filters=Filters(request.ids, request.where, request.where_document),
            include=list(request.include),
        )
    fields = _answer_fields(found, request.include, readable)
    return QueryAnswer.model_validate({**fields, "distances": _finite(found.get("distances"))})


def _finite(distances: Sequence[Sequence[float]] | None) -> list[list[float | None]] | None:
    if distances is None:
        return None
    return [[each if math.isfinite(each) else None for each in row] for row in distances]


def _get(
    filters: Filters, limit: int | None, offset: int | None, include: list[GetField], readable: ReadableCollection
) -> GetAnswer:
    found: Any = {name: [] for name in ("ids", *include)}
    if readable.collection is not None:
        # One more than an answer may hold shows that there are too many, without reading them all.
        most = min(limit or MAX_RECORDS + 1, MAX_RECORDS + 1)
        found = matching(readable.collection, filters, limit=most, offset=offset, include=list(include))
        if len(found["ids"]) > MAX_RECORDS:
            raise InvalidRequestError(
                f"the answer has more than {MAX_RECORDS:,} records", next_step="ask in parts, with limit and offset"
            )
    return GetAnswer.model_validate(_answer_fields(found, include, readable))


def _answer_fields(
    found: Mapping[str, Any], include: Sequence[QueryField], readable: ReadableCollection
) -> dict[str, Any]:
    """Return the fields that both answers have. Embeddings become lists of numbers."""
    embeddings = found.get("embeddings")
    return {
        **{name: found.get(name) for name in ("ids", "documents", "metadatas", "uris")},
        "snapshot_id": readable.snapshot_id,
        "embeddings": None if embeddings is None else [np.asarray(each).tolist() for each in embeddings],
        "included": include,
    }


def _count(readable: ReadableCollection) -> CountAnswer:
    described = readable.described
    return CountAnswer(
        snapshot_id=readable.snapshot_id,
        count=0 if readable.collection is None else readable.collection.count(),
        dimension=described.dimension,
        space=described.space,
        embedding_function=described.embedding_function,
    )


def _question_vectors(request: QueryRequest, readable: ReadableCollection) -> Vector:
    """Return one row per question. Raises InvalidRequestError for another dimension than the collection's."""
    dimension = readable.described.dimension
    if request.query_texts is not None:
        function = readable.described.embedding_function
        if function is None:
            raise InvalidRequestError(
                f"the collection {request.collection!r} names no embedding function",
                next_step=f"ask with query_embeddings of {dimension} dimensions",
            )
        stated = readable.described.settings.function
        rows = list(embed(request.query_texts, function, stated.config if stated else None))
        question = f"a text's embedding by {function!r}"
    else:
        rows = [_narrow(vector) for vector in request.query_embeddings or []]
        question = "a query embedding"
    for row in rows:
        if len(row) != dimension:
            raise InvalidRequestError(
                f"{question} has {len(row)} dimensions, but the collection {request.collection!r} has {dimension}"
            )
    return np.stack(rows)


def _narrow(vector: list[float]) -> Vector:
    """Return the question by the rule for records, so that every distance is a finite number."""
    try:
        return check_embedding(vector)
    except CorruptDeltaError as error:
        raise InvalidRequestError(f"a query {error.message}", next_step=error.next_step) from error
