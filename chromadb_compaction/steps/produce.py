"""Produce: write the records and deletes of a request as deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

from pydantic import ConfigDict, Discriminator, Field, JsonValue, RootModel, Tag

from chromadb_compaction.chroma.embedding import embed
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.configuration import Space
from chromadb_compaction.deltas.records import Vector, row_error
from chromadb_compaction.errors import InvalidRequestError
from chromadb_compaction.messages import Message
from chromadb_compaction.ports import Services

Number = Annotated[float, Field(strict=True)]
Value = TypeVar("Value")


class ProduceRecord(Message):
    """One record to insert or replace, as a whole: what is not given here is gone afterwards.

    Attributes:
        id: The id, not empty.
        embedding: One finite float32 number per dimension. None: the document is embedded.
        document: The text. Required without an embedding.
        metadata: Keys with the values that ChromaDB accepts.
        uri: The URI of what the record is about, such as an image.
    """

    id: str
    embedding: list[Number] | None = None
    document: str | None = None
    metadata: dict[str, JsonValue] | None = None
    uri: str | None = None


class ProduceRequest(Message):
    """Records and deletes for one collection: at least one of the two, and no id in both.

    Attributes:
        collection: The name: 3 to 255 characters, as ChromaDB's rule allows.
        records: The records to insert or replace. Of two with one id, the later wins.
        deletes: The ids to delete, not empty. An id need not exist.
        embedding_function: The function that embeds documents. None: CHROMADB_EMBEDDING_FUNCTION.
        space: The distance function of a new collection. An existing one keeps its own.
        dimension: The dimension of the collection, as the query function's `count` returns it, at least 1. The
            producer cannot read snapshots: without it, a delta of another dimension is quarantined by MergeBatch.
    """

    collection: str
    records: list[ProduceRecord] = Field(default=[])
    deletes: list[str] = Field(default=[])
    embedding_function: str | None = Field(default=None, min_length=1)
    space: Space | None = None
    dimension: int | None = Field(default=None, ge=1)


class ProduceRequests(Message):
    """One or more requests, written together in as few deltas as possible: all of them, or none if one is invalid."""

    requests: list[ProduceRequest] = Field(min_length=1)


def _tag(event: object) -> str:
    several = "requests" in event if isinstance(event, dict) else isinstance(event, ProduceRequests)
    return "several" if several else "one"


class ProduceEvent(
    RootModel[
        Annotated[
            Annotated[ProduceRequest, Tag("one")] | Annotated[ProduceRequests, Tag("several")], Discriminator(_tag)
        ]
    ]
):
    """The event of the producer function: one request, or several under `requests`."""

    model_config = ConfigDict(frozen=True)

    @property
    def requests(self) -> list[ProduceRequest]:
        """All requests in order. Of two rows with one id, the later wins."""
        return self.root.requests if isinstance(self.root, ProduceRequests) else [self.root]


class Produced(Message):
    """The keys of the deltas written, and the number of rows in them."""

    deltas: list[str]
    upserts: int
    deletes: int


class _EmbeddedRequest(NamedTuple):
    """A request with every record's vector, and the function that embeds documents, if known."""

    request: ProduceRequest
    function: str | None
    vectors: list[Vector | list[float]]


def produce(event: ProduceEvent, services: Services) -> Produced:
    """Write the requests' rows as deltas of 1-5 MB, the last of each collection perhaps smaller.

    Raises InvalidRequestError, before anything is written.
    """
    embedded = [_embed_request(request, services) for request in event.requests]
    collections = dict.fromkeys(request.collection for request in event.requests)
    writers = [_fill_writer(name, embedded, services) for name in collections]
    for writer in writers:
        writer.flush()
    return Produced(
        deltas=[key for writer in writers for key in writer.written],
        upserts=sum(len(request.records) for request in event.requests),
        deletes=sum(len(request.deletes) for request in event.requests),
    )


def _embed_request(request: ProduceRequest, services: Services) -> _EmbeddedRequest:
    _check_ids(request)
    needs_embedding = any(record.embedding is None for record in request.records)
    function = request.embedding_function or (
        services.settings.chromadb_embedding_function if needs_embedding else None
    )
    return _EmbeddedRequest(request, function, _vectors(request.records, function))


def _fill_writer(collection: str, embedded: list[_EmbeddedRequest], services: Services) -> DeltaWriter:
    """Return a writer that holds all rows of one collection, checked and not yet written."""
    own = [one for one in embedded if one.request.collection == collection]
    requests = [one.request for one in own]
    writer = DeltaWriter(
        services.settings,
        objects=services.objects,
        queue=services.queue if services.settings.delta_queue_url else None,
        space=_common_value("space", [request.space for request in requests]),
        dimension=_common_value("dimension", [request.dimension for request in requests]),
        embedding_function=_common_value("embedding_function", [one.function for one in own]),
        producer="producer function",
        check_published=False,  # the function's role may only write
        early=False,
    )
    for request, _, vectors in own:
        writer.upsert(
            collection,
            [record.id for record in request.records],
            vectors,
            [record.document for record in request.records],
            [record.metadata for record in request.records],
            uris=[record.uri for record in request.records],
        )
        writer.delete(collection, request.deletes)
    return writer


def _common_value(field: str, values: Sequence[Value | None]) -> Value | None:
    """Return the value that all requests that set the field share. Raises InvalidRequestError if they differ."""
    distinct = dict.fromkeys(value for value in values if value is not None)
    if len(distinct) > 1:
        named = " and ".join(repr(value) for value in distinct)
        raise InvalidRequestError(
            f"requests for one collection differ in {field}: {named}", next_step="send them separately"
        )
    return next(iter(distinct), None)


def _check_ids(request: ProduceRequest) -> None:
    if not request.records and not request.deletes:
        raise InvalidRequestError("the request has neither records nor deletes", next_step="give at least one")
    both = {record.id for record in request.records} & set(request.deletes)
    if both:
        raise InvalidRequestError(f"the id {min(both)!r} is both in records and in deletes", next_step="choose one")
    if "" in request.deletes:
        raise InvalidRequestError(f"deletes holds an empty id, at position {request.deletes.index('')}")


def _vectors(records: list[ProduceRecord], function: str | None) -> list[Vector | list[float]]:
    """Return every record's embedding in order. Embed the documents of records without one."""
    documents = [_document_of(row, record) for row, record in enumerate(records) if record.embedding is None]
    made = iter(embed(documents, function) if function else ())
    return [next(made) if record.embedding is None else record.embedding for record in records]


def _document_of(row: int, record: ProduceRecord) -> str:
    if record.document is None:
        error = row_error(row, record.id, "has neither an embedding nor a document to embed")
        raise InvalidRequestError(error.message)
    return record.document
