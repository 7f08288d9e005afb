"""The requests and answers of the query function, with ChromaDB's parameters and fields.

`collection` is always the name of a collection. `read_level` says what is read: `fresh`, which is the default, joins
the published snapshot with the pending deltas; `snapshot` reads the published snapshot alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, JsonValue, RootModel, Tag, model_validator

from chromadb_compaction.chroma.filter_bounds import check_filter
from chromadb_compaction.configuration import Space
from chromadb_compaction.messages import Message
from chromadb_compaction.metrics import DataPoint, Measure
from chromadb_compaction.pending.reader import ReadLevel

MAX_IDS: Final = 10_000
MAX_QUESTIONS: Final = 1_000
MAX_RESULTS: Final = 10_000
"""Records per question."""
MAX_RECORDS: Final = 100_000
"""Records of one answer, those of all questions together."""
_LARGEST_FLOAT32: Final = 3.4028234663852886e38
_LARGEST_INT64: Final = 2**63 - 1

Number = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32)]
Ids = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MAX_IDS)]
Filter = Annotated[dict[str, JsonValue], BeforeValidator(check_filter)]
GetField = Literal["documents", "metadatas", "embeddings", "uris"]
QueryField = Literal["documents", "metadatas", "distances", "embeddings", "uris"]


class QueryRequest(Message):
    """Ask for the records nearest to each question. Give the questions as embeddings or as texts, not both.

    Attributes:
        query_embeddings: 1 to MAX_QUESTIONS vectors of float32 numbers, each of the collection's dimension.
        query_texts: 1 to MAX_QUESTIONS texts. The collection's embedding function embeds them.
        n_results: The most records per question, 1 to MAX_RESULTS; for all questions together at most MAX_RECORDS.
        ids: Search only these records, at most MAX_IDS. Unknown and repeated ids are ignored. None: all records.
        where, where_document: ChromaDB's filters by metadata and by document, within the bounds of
            chroma/filter_bounds.py. None: all records.
        include: The fields to answer beside the ids.
    """

    action: Literal["query"] = "query"
    collection: str
    read_level: ReadLevel = "fresh"
    query_embeddings: Annotated[list[list[Number]], Field(min_length=1, max_length=MAX_QUESTIONS)] | None = None
    query_texts: Annotated[list[str], Field(min_length=1, max_length=MAX_QUESTIONS)] | None = None
    n_results: Annotated[int, Field(ge=1, le=MAX_RESULTS)] = 10
    ids: Ids | None = None
    where: Filter | None = None
    where_document: Filter | None = None
    include: list[QueryField] = Field(default=["metadatas", "documents", "distances"])

    @model_validator(mode="after")
    def _check_questions(self) -> Self:
        if (self.query_embeddings is None) == (self.query_texts is None):
            raise ValueError("give either query_embeddings or query_texts")
        if self.question_count * self.n_results > MAX_RECORDS:
            raise ValueError(f"ask for at most {MAX_RECORDS:,} records: fewer questions at once, or fewer n_results")
        return self

    @property
    def question_count(self) -> int:
        """The number of questions, and so of inner lists in the answer."""
        return len(self.query_texts or self.query_embeddings or [])


class GetRequest(Message):
    """Ask for the records that have one of the ids and pass both filters, in an order that a snapshot keeps.

    Attributes:
        ids: 1 to MAX_IDS ids. Unknown and repeated ids are ignored. None: all records.
        where, where_document: ChromaDB's filters, as in QueryRequest.
        limit: The most records to answer, at least 1. More than MAX_RECORDS records are an error. None: no limit.
        offset: The number of records to skip first, at least 0. None: 0.
        include: The fields to answer beside the ids.
    """

    action: Literal["get"]
    collection: str
    read_level: ReadLevel = "fresh"
    ids: Ids | None = None
    where: Filter | None = None
    where_document: Filter | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    offset: Annotated[int, Field(ge=0, le=_LARGEST_INT64)] | None = None
    include: list[GetField] = Field(default=["metadatas", "documents"])


class PeekRequest(Message):
    """Ask for the first `limit` records (at least 1) with all fields."""

    action: Literal["peek"]
    collection: str
    read_level: ReadLevel = "fresh"
    limit: Annotated[int, Field(ge=1)] = 10


class CountRequest(Message):
    """Ask for the number of records, and for the collection's dimension, distance and embedding function."""

    action: Literal["count"]
    collection: str
    read_level: ReadLevel = "fresh"


class PrefetchRequest(Message):
    """Open the published snapshot of collections, so that the next query need not wait for a download.

    Attributes:
        collections: Their names. None: those of the setting `query_prefetch_collections`. `*` stands for those that are
            open.
    """

    action: Literal["prefetch"]
    collections: list[str] | None = None


AnyRequest = QueryRequest | GetRequest | PeekRequest | CountRequest | PrefetchRequest


def _action(event: object) -> object:
    if isinstance(event, dict):
        return event.get("action", "query")
    return getattr(event, "action", None)


class QueryEvent(
    RootModel[
        Annotated[
            Annotated[QueryRequest, Tag("query")]
            | Annotated[GetRequest, Tag("get")]
            | Annotated[PeekRequest, Tag("peek")]
            | Annotated[CountRequest, Tag("count")]
            | Annotated[PrefetchRequest, Tag("prefetch")],
            Discriminator(
                _action,
                custom_error_type="unknown_action",
                custom_error_message="action must be one of query, get, peek, count, prefetch, in an object",
            ),
        ]
    ]
):
    """The event of the query function: one request. `action` names its kind; without it the request is a query."""

    model_config = ConfigDict(frozen=True)


class PendingAnswered(Message):
    """The pending deltas of the collection, which no snapshot holds yet.

    Attributes:
        applied: The number of deltas that the answer includes.
        left: The number of those that it does not, because they exceed the bounds of a fresh read or cannot be read.
            The answer is then as old as the oldest of them.
        rows: The number of ids for which the applied deltas have a row.
        refresh_ms: The milliseconds from the request until the collection was open, with all that had to be read.
    """

    applied: int
    left: int
    rows: int
    refresh_ms: float


class Answer(Message):
    """The answer to any request.

    Attributes:
        snapshot_id: The snapshot that it comes from. None if nothing is published yet.
        pending: The pending deltas. None at the read level `snapshot`.
    """

    snapshot_id: str | None
    pending: PendingAnswered | None = None

    def data_points(self) -> tuple[DataPoint, ...]:
        """Return the metrics of a fresh read."""
        if self.pending is None:
            return ()
        return (
            DataPoint(Measure.PENDING_ROWS_APPLIED, self.pending.rows),
            DataPoint(Measure.REFRESH_MILLISECONDS, self.pending.refresh_ms),
            # With the zeros, the mean is the share of answers that lack a pending delta.
            DataPoint(Measure.ANSWERS_PAST_BOUND, int(self.pending.left > 0)),
        )


class QueryAnswer(Answer):
    """The fields of ChromaDB's QueryResult. Each has one inner list per question, nearest record first.

    An inner list has at most `n_results` items, in the same order in every field. A field is None if the request did
    not include it; `data` always is.

    Attributes:
        embeddings: Vectors of the collection's dimension.
        documents: Texts, None for a record without one.
        uris: URIs, None for a record without one.
        metadatas: Metadata, None for a record without any.
        distances: Distances to the question, by the collection's distance function. None for a distance beyond
            float32, which JSON cannot hold.
        included: The request's `include`.
    """

    ids: list[list[str]]
    embeddings: list[list[list[float]]] | None
    documents: list[list[str | None]] | None
    uris: list[list[str | None]] | None = None
    data: None = None
    metadatas: list[list[dict[str, Any] | None]] | None
    distances: list[list[float | None]] | None
    included: list[QueryField]


class GetAnswer(Answer):
    """The fields of ChromaDB's GetResult: as in QueryAnswer, but one flat list each and no distances."""

    ids: list[str]
    embeddings: list[list[float]] | None
    documents: list[str | None] | None
    uris: list[str | None] | None = None
    data: None = None
    metadatas: list[dict[str, Any] | None] | None
    included: list[GetField]


class CountAnswer(Answer):
    """The size and shape of a collection. A producer can check its own settings against it before it writes.

    Attributes:
        count: The number of records.
        dimension: The length of every embedding. None while it has only seen deletes.
        space: The distance function.
        embedding_function: The name of the function that embeds documents. None: the collection names none.
    """

    count: int
    dimension: int | None
    space: Space
    embedding_function: str | None


class PrefetchedCollection(Message):
    """A collection that was to be opened.

    Attributes:
        collection: Its name.
        bytes: The bytes that were downloaded. 0: it was open.
        seconds: The time that took.
        error: Why it could not be opened, as CompactionError.as_dict. None: it is open.
    """

    collection: str
    bytes: int
    seconds: float
    error: dict[str, Any] | None = None


class PrefetchAnswer(Answer):
    """The collections that a prefetch was to open, in order. `snapshot_id` is None if none is open."""

    collections: list[PrefetchedCollection]
