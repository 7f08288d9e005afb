"""The bases of all messages, and the parts that several have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chromadb_compaction.planning import ObjectInfo

LISTED_COLLECTIONS = 40
"""The most collections that a message lists, so that a pass over hundreds of them fits into a state's payload."""
MOST_TOO_LARGE = 8
"""The most collections that a message names because they are too large."""
PassNumber = Annotated[int, Field(ge=1, alias="pass")]


class Message(BaseModel):
    """Base of all messages: frozen, without unknown fields, with the state machine's names in JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class WorkflowMessage(Message):
    """Base of the messages between states. A field that is not known is of another version, and ignored."""

    model_config = ConfigDict(extra="ignore")


class BaseRef(WorkflowMessage):
    """The snapshot that a pass starts from.

    Attributes:
        snapshot_id: The snapshot. None if nothing is published yet.
        etag: The pointer's ETag, which the pointer must still have when the pass publishes. None with `snapshot_id`.
        sequence: The pointer's sequence, 0 if nothing is published yet.
    """

    snapshot_id: str | None
    etag: str | None
    sequence: Annotated[int, Field(ge=0)]


class BatchRef(WorkflowMessage):
    """One batch.

    Attributes:
        key: The key of its BATCH_MANIFEST.
        collection: The first of its collections, in order of their names.
        collections: The number of its collections.
        deltas: The number of deltas.
        bytes: Their size.
    """

    key: str
    collection: str
    collections: int = 1
    deltas: int
    bytes: int


BATCH_MANIFEST = TypeAdapter(list[ObjectInfo])
"""The stored list of one batch's deltas that ListDeltas writes for MergeBatch."""
