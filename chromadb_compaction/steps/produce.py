"""Produce: records and deletes given in a request become deltas."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chromadb_compaction.adapters.embedding import embed
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError
from chromadb_compaction.manifest import Space
from chromadb_compaction.ports import Services
from chromadb_compaction.records import Vector, check_embedding, row_error
from chromadb_compaction.writer import DeltaWriter

Number = Annotated[float, Field(strict=True)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProduceRecord(_Request):
    """One record to insert or replace. Without an embedding, its document is embedded."""

    id: str
    embedding: list[Number] | None = None
    document: str | None = None
    metadata: dict[str, JsonValue] | None = None


class ProduceRequest(_Request):
    """What a caller wants written. Without `embedding_function`, CHROMADB_EMBEDDING_FUNCTION embeds documents.

    `space` counts only when the collection is first made.
    """

    collection: str
    records: list[ProduceRecord] = []
    deletes: list[str] = []
    embedding_function: str | None = Field(default=None, min_length=1)
    space: Space | None = None


class Produced(BaseModel):
    """The keys of the deltas written, and what they hold, in rows."""

    deltas: list[str]
    upserts: int
    deletes: int


def produce(request: ProduceRequest, services: Services) -> Produced:
    """Write the request's rows as deltas. Raises InvalidRequestError, and then nothing has been written."""
    _refuse_contradictions(request)
    needs_embedding = any(record.embedding is None for record in request.records)
    function = request.embedding_function or (
        services.settings.chromadb_embedding_function if needs_embedding else None
    )
    vectors = _vectors(request.records, function)
    with DeltaWriter(
        services.settings,
        objects=services.objects,
        queue=services.queue if services.settings.delta_queue_url else None,
        space=request.space,
        embedding_function=function,
        producer="producer function",
    ) as writer:
        writer.upsert(
            request.collection,
            [record.id for record in request.records],
            vectors,
            [record.document for record in request.records],
            [record.metadata for record in request.records],
        )
        writer.delete(request.collection, request.deletes)
    return Produced(deltas=writer.written, upserts=len(request.records), deletes=len(request.deletes))


def _refuse_contradictions(request: ProduceRequest) -> None:
    if not request.records and not request.deletes:
        raise InvalidRequestError("the request has neither records nor deletes; give at least one")
    both = {record.id for record in request.records} & set(request.deletes)
    if both:
        raise InvalidRequestError(f"the id {min(both)!r} stands both in records and in deletes; choose one")
    if "" in request.deletes:
        raise InvalidRequestError(f"deletes holds an empty id, at position {request.deletes.index('')}")


def _function_of(request: ProduceRequest, services: Services) -> str | None:
    """Return the embedding function that the request names, or the default if a record needs one."""
    needed = any(record.embedding is None for record in request.records)
    return request.embedding_function or (services.settings.chromadb_embedding_function if needed else None)


def _vectors(records: list[ProduceRecord], function: str | None) -> list[Vector]:
    """Return every record's embedding in order, made from its document where it has none."""
    try:
        missing = [_document_of(row, record) for row, record in enumerate(records) if record.embedding is None]
        made = iter(embed(missing, function) if function else ())
        return [next(made) if record.embedding is None else _given(row, record) for row, record in enumerate(records)]
    except CorruptDeltaError as error:
        raise InvalidRequestError(str(error)) from error


def _document_of(row: int, record: ProduceRecord) -> str:
    if record.document is None:
        raise row_error(row, record.id, "has neither an embedding nor a document to embed")
    return record.document


def _given(row: int, record: ProduceRecord) -> Vector:
    try:
        return check_embedding(record.embedding)
    except CorruptDeltaError as error:
        raise row_error(row, record.id, str(error)) from error
