"""Produce: records and deletes given in a request become deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, RootModel, Tag

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.deltas.records import Vector, check_embedding, row_error
from chromadb_compaction.errors import CorruptDeltaError, InvalidRequestError
from chromadb_compaction.manifest import Space
from chromadb_compaction.ports import Services

Number = Annotated[float, Field(strict=True)]
Value = TypeVar("Value")


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

    `space` counts only when the collection is first made. `dimension` is what the collection has, as the query
    function's `count` says: the producer may read no snapshot, so without it a vector of another dimension is
    found out, and its delta quarantined, only when it is merged.
    """

    collection: str
    records: list[ProduceRecord] = []
    deletes: list[str] = []
    embedding_function: str | None = Field(default=None, min_length=1)
    space: Space | None = None
    dimension: int | None = Field(default=None, ge=1)


class ProduceRequests(_Request):
    """Many small requests, written together in as few deltas as they fit: all of them or, if one is bad, none."""

    requests: list[ProduceRequest] = Field(min_length=1)


def _kind(event: object) -> str:
    several = "requests" in event if isinstance(event, dict) else isinstance(event, ProduceRequests)
    return "several" if several else "one"


class ProduceEvent(
    RootModel[
        Annotated[
            Annotated[ProduceRequest, Tag("one")] | Annotated[ProduceRequests, Tag("several")], Discriminator(_kind)
        ]
    ]
):
    """One request, or several under `requests`."""

    model_config = ConfigDict(frozen=True)

    @property
    def requests(self) -> list[ProduceRequest]:
        """All requests, in their order: of two rows with one id the later wins."""
        return self.root.requests if isinstance(self.root, ProduceRequests) else [self.root]


class Produced(BaseModel):
    """The keys of the deltas written, and what they hold, in rows."""

    deltas: list[str]
    upserts: int
    deletes: int


class _Prepared(NamedTuple):
    """A request with every record's vector, and the function that has made some of them."""

    request: ProduceRequest
    function: str | None
    vectors: list[Vector]


def produce(event: ProduceEvent, services: Services) -> Produced:
    """Write the requests' rows as deltas of 1-5 MB, or one that is smaller, for each collection.

    Raises InvalidRequestError, and then nothing has been written.
    """
    prepared = [_prepared(request, services) for request in event.requests]
    collections = dict.fromkeys(request.collection for request in event.requests)
    writers = [_filled([one for one in prepared if one.request.collection == name], services) for name in collections]
    for writer in writers:
        writer.flush()
    return Produced(
        deltas=[key for writer in writers for key in writer.written],
        upserts=sum(len(request.records) for request in event.requests),
        deletes=sum(len(request.deletes) for request in event.requests),
    )


def _prepared(request: ProduceRequest, services: Services) -> _Prepared:
    _refuse_contradictions(request)
    needs_embedding = any(record.embedding is None for record in request.records)
    function = request.embedding_function or (
        services.settings.chromadb_embedding_function if needs_embedding else None
    )
    return _Prepared(request, function, _vectors(request.records, function))


def _filled(prepared: list[_Prepared], services: Services) -> DeltaWriter:
    """Return a writer that holds all rows of one collection, checked and not yet written."""
    requests = [one.request for one in prepared]
    writer = DeltaWriter(
        services.settings,
        objects=services.objects,
        queue=services.queue if services.settings.delta_queue_url else None,
        space=_agreed("space", [request.space for request in requests]),
        dimension=_agreed("dimension", [request.dimension for request in requests]),
        embedding_function=_agreed("embedding_function", [one.function for one in prepared]),
        producer="producer function",
        early=False,
    )
    for request, _, vectors in prepared:
        writer.upsert(
            request.collection,
            [record.id for record in request.records],
            vectors,
            [record.document for record in request.records],
            [record.metadata for record in request.records],
        )
        writer.delete(request.collection, request.deletes)
    return writer


def _agreed(field: str, values: Sequence[Value | None]) -> Value | None:
    """Return the one value that is given, if any."""
    given = dict.fromkeys(value for value in values if value is not None)
    if len(given) > 1:
        named = " and ".join(repr(value) for value in given)
        raise InvalidRequestError(f"requests for one collection differ in {field}: {named}; send them separately")
    return next(iter(given), None)


def _refuse_contradictions(request: ProduceRequest) -> None:
    if not request.records and not request.deletes:
        raise InvalidRequestError("the request has neither records nor deletes; give at least one")
    both = {record.id for record in request.records} & set(request.deletes)
    if both:
        raise InvalidRequestError(f"the id {min(both)!r} stands both in records and in deletes; choose one")
    if "" in request.deletes:
        raise InvalidRequestError(f"deletes holds an empty id, at position {request.deletes.index('')}")


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
