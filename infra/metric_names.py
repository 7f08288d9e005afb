"""The metrics that the tasks write into their logs, as alarms and dashboard ask for them."""

from __future__ import annotations

NAMESPACE = "ChromaDBCompaction"
STACK = "stack"
"""The dimension that every metric has."""
PHASE = "phase"
"""The second dimension, which PHASE_SECONDS alone has."""

LOCK_CONTENTION = "LockContention"
PENDING_DELTAS = "PendingDeltas"
OLDEST_DELTA_AGE = "OldestDeltaAge"
DELTAS_MERGED = "DeltasMerged"
DELTAS_QUARANTINED = "DeltasQuarantined"
RECORDS_ADDED = "RecordsAdded"
RECORDS_REPLACED = "RecordsReplaced"
RECORDS_DELETED = "RecordsDeleted"
UNPROVEN_COLLECTIONS = "UnprovenCollections"
PHASE_SECONDS = "PhaseSeconds"
SNAPSHOT_RECORDS = "SnapshotRecords"
SNAPSHOT_BYTES = "SnapshotBytes"
COMPACTION_SECONDS = "CompactionSeconds"
COMPACTION_SUCCEEDED = "CompactionSucceeded"

UNITS = {
    LOCK_CONTENTION: "Count",
    PENDING_DELTAS: "Count",
    OLDEST_DELTA_AGE: "Seconds",
    DELTAS_MERGED: "Count",
    DELTAS_QUARANTINED: "Count",
    RECORDS_ADDED: "Count",
    RECORDS_REPLACED: "Count",
    RECORDS_DELETED: "Count",
    UNPROVEN_COLLECTIONS: "Count",
    PHASE_SECONDS: "Seconds",
    SNAPSHOT_RECORDS: "Count",
    SNAPSHOT_BYTES: "Bytes",
    COMPACTION_SECONDS: "Seconds",
    COMPACTION_SUCCEEDED: "Count",
}
