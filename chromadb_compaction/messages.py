"""What flows between the states: the requests and results of the seven tasks.

Keys, counts and times only: a state's payload stops at 256 KiB. Field names are those of the state machine.
All times are Unix seconds; `execution` is always the execution's ARN, the lease's owner.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from chromadb_compaction.manifest import Space
from chromadb_compaction.planning import ObjectInfo

PassNumber = Annotated[int, Field(ge=1, alias="pass")]


class Message(BaseModel):
    """Frozen, closed to unknown fields, spelt in JSON as the state machine spells it."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)


class AcquireLockRequest(Message):
    """Result: lease.Lease."""

    execution: str


class ListDeltasRequest(Message):
    """`previous_pass` is 0 at first, then the pass that has just been published."""

    execution: str
    previous_pass: Annotated[int, Field(ge=0)]


class BaseRef(Message):
    """The snapshot a pass starts from, and the ETag that its commit must still find. None: nothing published yet."""

    snapshot_id: str | None
    etag: str | None
    sequence: Annotated[int, Field(ge=0)]


class BatchRef(Message):
    """One batch: the key of its manifest (BATCH_MANIFEST) and its size."""

    key: str
    collection: str
    deltas: int
    bytes: int


BATCH_MANIFEST = TypeAdapter(list[ObjectInfo])
"""The stored list of one batch's deltas that ListDeltas writes for MergeBatch."""


class DeltaListing(Message):
    """What ListDeltas found and planned. `deltas` is this pass's share of `pending`."""

    pass_number: PassNumber
    batches: list[BatchRef]
    deltas: int
    more: bool
    base: BaseRef
    pending: int
    oldest_seconds: float | None
    finished_clean_up_of: str | None


class DownloadSnapshotRequest(Message):
    """Asks for the collections that `batches` touch."""

    execution: str
    pass_number: PassNumber
    base: BaseRef
    batches: list[BatchRef]


class CollectionShape(Message):
    """What every delta of a collection must fit. `dimension` None: no upsert has ever been seen."""

    collection: str
    dimension: int | None
    space: Space
    embedding_function: str | None
    records: int


SHAPES = TypeAdapter(list[CollectionShape])
"""The stored list of shapes that DownloadSnapshot writes for MergeBatch and UploadSnapshot."""


class DownloadedSnapshot(Message):
    """The verified local copy. `cached` says that nothing had to be transferred."""

    collections: list[CollectionShape]
    bytes: int
    seconds: float
    cached: bool


class MergeBatchRequest(Message):
    """One item of the Map."""

    execution: str
    pass_number: PassNumber
    batch: BatchRef


class MergedBatch(Message):
    """`run` is None when the batch left no row. `missing`: deltas that another execution has moved meanwhile."""

    collection: str
    run: str | None
    report: str
    merged: int
    quarantined: int
    missing: int
    rows: int
    bytes: int


class UploadSnapshotRequest(Message):
    """Folds `runs` into `base`, publishes."""

    execution: str
    pass_number: PassNumber
    base: BaseRef
    runs: list[MergedBatch]


class CollectionCounts(Message):
    """What a fold did to one collection, in rows. `loader` changed its records; None: none changed."""

    collection: str
    added: int
    replaced: int
    deleted: int
    unchanged: int
    records: int
    loader: str | None = None


class PublishedSnapshot(Message):
    """`published` is False when the pass changed nothing: then `snapshot_id` is the base (None: still nothing).

    `outcome` is the key of the list of what became of each delta, which CleanUp carries out.
    `deltas_merged` and `deltas_quarantined` are the pass's own; `records` and `bytes` are of the whole snapshot that
    is published now. These, `bytes_uploaded` and `seconds` per phase are what operators watch.
    """

    published: bool
    snapshot_id: str | None
    outcome: str
    collections: list[CollectionCounts]
    deltas_merged: int
    deltas_quarantined: int
    records: int
    bytes: int
    bytes_uploaded: int
    seconds: dict[str, float]


class CleanUpRequest(Message):
    """`snapshot_id` must still be published when clean-up starts, else nothing is moved."""

    execution: str
    pass_number: PassNumber
    snapshot_id: str | None
    outcome: str


class CleanedUp(Message):
    """What CleanUp moved, deleted and pruned. `skipped` says why nothing was."""

    archived: int
    quarantined: int
    messages_deleted: int
    snapshots_pruned: int
    objects_pruned: int
    skipped: str | None = None


class ReleaseLockRequest(Message):
    """From the workflow and from the status-change rule alike."""

    execution: str


class ReleasedLock(Message):
    """`released` is False when the execution no longer owned the lease: `holder` then names who does, if anyone."""

    released: bool
    holder: str | None
