"""What may be asked of a published collection, and how it is answered: ChromaDB's parameters and fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, JsonValue, RootModel, Tag, model_validator

from chromadb_compaction.manifest import Space

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Ids = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
Filter = dict[str, JsonValue]
FoundField = Literal["documents", "metadatas", "embeddings"]
NearField = Literal["documents", "metadatas", "distances", "embeddings"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QueryRequest(_Message):
    """The records nearest to each question. Texts are embedded as the collection's documents were."""

    action: Literal["query"] = "query"
    collection: str
    query_embeddings: Annotated[list[list[Number]], Field(min_length=1)] | None = None
    query_texts: Annotated[list[str], Field(min_length=1)] | None = None
    n_results: Annotated[int, Field(ge=1)] = 10
    ids: Ids | None = None
    where: Filter | None = None
    where_document: Filter | None = None
    include: list[NearField] = ["metadatas", "documents", "distances"]

    @model_validator(mode="after")
    def _asks_in_one_way(self) -> Self:
        if (self.query_embeddings is None) == (self.query_texts is None):
            raise ValueError("give either query_embeddings or query_texts")
        return self

    @property
    def questions(self) -> int:
        """How many questions there are, and so how many lists of answers."""
        return len(self.query_texts or self.query_embeddings or [])


class GetRequest(_Message):
    """The records of these ids, or that pass these filters, or all: `limit` of them after the first `offset`."""

    action: Literal["get"]
    collection: str
    ids: Ids | None = None
    where: Filter | None = None
    where_document: Filter | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    offset: Annotated[int, Field(ge=0)] | None = None
    include: list[FoundField] = ["metadatas", "documents"]


class PeekRequest(_Message):
    """The first records, with everything."""

    action: Literal["peek"]
    collection: str
    limit: Annotated[int, Field(ge=1)] = 10


class CountRequest(_Message):
    """How many records there are, and what the collection is."""

    action: Literal["count"]
    collection: str


Question = QueryRequest | GetRequest | PeekRequest | CountRequest
ACTIONS = ("query", "get", "peek", "count")


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
            | Annotated[CountRequest, Tag("count")],
            Discriminator(
                _action,
                custom_error_type="unknown_action",
                custom_error_message=f"action must be one of {', '.join(ACTIONS)}, in an object",
            ),
        ]
    ]
):
    """One question; `action` says which, and is `query` when it is not there."""

    model_config = ConfigDict(frozen=True)


class _Answer(_Message):
    """`snapshot_id` names the snapshot that gave the answer."""

    snapshot_id: str


class QueryAnswer(_Answer):
    """The fields of ChromaDB's QueryResult, one inner list per question, None for what was not included."""

    ids: list[list[str]]
    embeddings: list[list[list[float]]] | None
    documents: list[list[str | None]] | None
    uris: None = None
    data: None = None
    metadatas: list[list[dict[str, Any] | None]] | None
    distances: list[list[float]] | None
    included: list[NearField]


class GetAnswer(_Answer):
    """The fields of ChromaDB's GetResult, None for what was not included."""

    ids: list[str]
    embeddings: list[list[float]] | None
    documents: list[str | None] | None
    uris: None = None
    data: None = None
    metadatas: list[dict[str, Any] | None] | None
    included: list[FoundField]


class CountAnswer(_Answer):
    """A producer can hold its `dimension` and `embedding_function` against these before it writes."""

    count: int
    dimension: int | None
    space: Space
    embedding_function: str | None


Answer = QueryAnswer | GetAnswer | CountAnswer
