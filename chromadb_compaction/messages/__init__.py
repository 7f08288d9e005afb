"""The messages between the states: the requests and results of the seven tasks.

They hold only keys, counts and times, because a state's payload is limited to 256 KiB. Field names are those of the
state machine. Times are Unix seconds. `execution` is the lease owner's ARN, and `pass_number` counts from 1.

A deployment may replace a function between two tasks of an execution. So a field of another version is ignored, a new
field of a request has a default, and no field of a result is removed. A request that lacks what its task needs is an
InvalidRequestError, and the next execution begins again.
"""

from chromadb_compaction.messages.base import (
    BATCH_MANIFEST,
    LISTED_COLLECTIONS,
    MOST_TOO_LARGE,
    BaseRef,
    BatchRef,
    Message,
    PassNumber,
    WorkflowMessage,
)
from chromadb_compaction.messages.folding import (
    CollectionCounts,
    CollectionShape,
    DownloadedSnapshot,
    DownloadSnapshotRequest,
    FoldedItem,
    FoldItem,
    FoldPartitionRequest,
    PublishedSnapshot,
    UploadSnapshotRequest,
)
from chromadb_compaction.messages.listing import CleanedUp, CleanUpRequest, DeltaListing, ListDeltasRequest
from chromadb_compaction.messages.lock import AcquireLockRequest, ReleasedLock, ReleaseLockRequest
from chromadb_compaction.messages.merging import MergeBatchRequest, MergedBatch

__all__ = [
    "BATCH_MANIFEST",
    "LISTED_COLLECTIONS",
    "MOST_TOO_LARGE",
    "AcquireLockRequest",
    "BaseRef",
    "BatchRef",
    "CleanUpRequest",
    "CleanedUp",
    "CollectionCounts",
    "CollectionShape",
    "DeltaListing",
    "DownloadSnapshotRequest",
    "DownloadedSnapshot",
    "FoldItem",
    "FoldPartitionRequest",
    "FoldedItem",
    "ListDeltasRequest",
    "MergeBatchRequest",
    "MergedBatch",
    "Message",
    "PassNumber",
    "PublishedSnapshot",
    "ReleaseLockRequest",
    "ReleasedLock",
    "UploadSnapshotRequest",
    "WorkflowMessage",
]
