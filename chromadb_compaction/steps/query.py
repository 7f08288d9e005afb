"""Query: answer requests for records of a collection, by id, by filter or by nearness."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Final

import numpy as np

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.chroma.query import Filters
from chromadb_compaction.deltas.records import Vector, check_embedding
from chromadb_compaction.errors import CompactionError, CorruptDeltaError, InvalidRequestError
from chromadb_compaction.pending.collection import FreshCollection
from chromadb_compaction.pending.reader import FreshReader, ReadLevel
from chromadb_compaction.ports import Services
from chromadb_compaction.settings import OPEN_COLLECTIONS
from chromadb_compaction.steps.query_messages import (
    MAX_RECORDS,
    Answer,
    AnyRequest,
    CountAnswer,
    CountRequest,
    GetAnswer,
    GetField,
    GetRequest,
    PeekRequest,
    PendingAnswered,
    PrefetchAnswer,
    PrefetchedCollection,
    PrefetchRequest,
    QueryAnswer,
    QueryEvent,
    QueryField,
    QueryRequest,
)

ANSWER_BYTES: Final = 6 * 1024 * 1024 - 1024
"""The largest answer, a little below Lambda's limit of 6 MB."""

PEEK_FIELDS: Final[tuple[GetField, ...]] = ("embeddings", "metadatas", "documents")

log = logging.getLogger(__name__)

_PROCESS_READER = FreshReader()
"""Kept as long as the process, so that the next query finds the collection open."""


def query(event: QueryEvent, services: Services) -> Answer:
    """Answer from the snapshot that is published when the query begins, and from the pending deltas.

    A prefetch opens collections for later queries, and reports what stopped it from opening one.

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


def _bytes_sent(result: Answer) -> int:
    """Return the size of the JSON that Lambda sends. Its spaces after commas matter only near the limit."""
    compact = len(result.model_dump_json())
    if 2 * compact < ANSWER_BYTES:
        return compact
    return len(json.dumps(result.model_dump(mode="json"), ensure_ascii=False).encode())


def answer(request: AnyRequest, services: Services, *, reader: FreshReader = _PROCESS_READER) -> Answer:
    """Answer one request, without a limit of size. `reader` keeps the collection open for the next request."""
    if isinstance(request, PrefetchRequest):
        return _prefetch(request, services, reader)
    began = perf_counter()
    with reader.reading(services, request.collection, read_level=request.read_level) as collection:
        source = _source(collection, request.read_level, perf_counter() - began)
        match request:
            case QueryRequest():
                return _query(request, collection, source)
            case GetRequest():
                return _get(request, collection, source)
            case PeekRequest():
                first = GetRequest(
                    action="get", collection=request.collection, limit=request.limit, include=list(PEEK_FIELDS)
                )
                return _get(first, collection, source)
            case CountRequest():
                return _count(collection, source)


def _prefetch(request: PrefetchRequest, services: Services, reader: FreshReader) -> PrefetchAnswer:
    """Open the published snapshot of collections, one after the other, so that later requests find them open."""
    chosen = services.settings.prefetched if request.collections is None else request.collections
    names = dict.fromkeys(n for each in chosen for n in (reader.open_names if each == OPEN_COLLECTIONS else [each]))
    snapshot_id, collections = None, list[PrefetchedCollection]()
    for name in names:
        began, transferred, error = perf_counter(), 0, None
        try:
            snapshot_id, transferred = reader.prefetch(services, name)
        except CompactionError as problem:
            # A later query of this collection reports it. The others are opened in any case.
            log.warning("%s is not opened: %s", name, problem)
            error = problem.as_dict()
        seconds = round(perf_counter() - began, 3)
        collections.append(PrefetchedCollection(collection=name, bytes=transferred, seconds=seconds, error=error))
    found = PrefetchAnswer(snapshot_id=snapshot_id, collections=collections)
    log.info("opened snapshots for later queries", extra={"result": found.model_dump(mode="json")})
    return found


def _source(collection: FreshCollection, read_level: ReadLevel, seconds: float) -> dict[str, Any]:
    """Return the fields that say what an answer comes from."""
    counts = collection.pending
    pending = PendingAnswered(
        applied=counts.applied, left=counts.left, rows=collection.pending_rows, refresh_ms=round(seconds * 1000, 1)
    )
    return {"snapshot_id": collection.snapshot_id, "pending": pending if read_level == "fresh" else None}


def _query(request: QueryRequest, collection: FreshCollection, source: dict[str, Any]) -> QueryAnswer:
    found: Any = {name: [[] for _ in range(request.question_count)] for name in ("ids", *request.include)}
    if collection.description.dimension is not None:
        found = collection.query(
            _question_vectors(request, collection),
            n_results=request.n_results,
            filters=Filters(request.ids, request.where, request.where_document),
            include=list(request.include),
        )
    fields = _answer_fields(found, request.include)
    return QueryAnswer.model_validate({**source, **fields, "distances": _finite(found.get("distances"))})


def _finite(distances: Sequence[Sequence[float]] | None) -> list[list[float | None]] | None:
    if distances is None:
        return None
    return [[each if math.isfinite(each) else None for each in row] for row in distances]


def _get(request: GetRequest, collection: FreshCollection, source: dict[str, Any]) -> GetAnswer:
    # One more than an answer may hold shows that there are too many, without reading them all.
    most = min(request.limit or MAX_RECORDS + 1, MAX_RECORDS + 1)
    filters = Filters(request.ids, request.where, request.where_document)
    found = collection.get(filters, limit=most, offset=request.offset, include=list(request.include))
    if len(found["ids"]) > MAX_RECORDS:
        raise InvalidRequestError(
            f"the answer has more than {MAX_RECORDS:,} records", next_step="ask in parts, with limit and offset"
        )
    return GetAnswer.model_validate({**source, **_answer_fields(found, request.include)})


def _answer_fields(found: Mapping[str, Any], include: Sequence[QueryField]) -> dict[str, Any]:
    """Return the fields that both answers have. Embeddings become lists of numbers."""
    embeddings = found.get("embeddings")
    return {
        **{name: found.get(name) for name in ("ids", "documents", "metadatas", "uris")},
        "embeddings": None if embeddings is None else [np.asarray(each).tolist() for each in embeddings],
        "included": include,
    }


def _count(collection: FreshCollection, source: dict[str, Any]) -> CountAnswer:
    described = collection.description
    return CountAnswer(
        **source,
        count=collection.count(),
        dimension=described.dimension,
        space=described.space,
        embedding_function=described.embedding_function,
    )


def _question_vectors(request: QueryRequest, collection: FreshCollection) -> Vector:
    """Return one row per question. Raises InvalidRequestError for another dimension than the collection's."""
    dimension = collection.description.dimension
    if request.query_texts is not None:
        function = collection.description.embedding_function
        if function is None:
            raise InvalidRequestError(
                f"the collection {request.collection!r} names no embedding function",
                next_step=f"ask with query_embeddings of {dimension} dimensions",
            )
        stated = collection.description.settings.function
        rows = list(embed(request.query_texts, function, stated.config if stated else None, questions=True))
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
