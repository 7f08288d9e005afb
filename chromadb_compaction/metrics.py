"""The metrics that the tasks send to CloudWatch: their names and units, and their values for each result."""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from chromadb_compaction.errors import LockHeldError
from chromadb_compaction.lease import Lease
from chromadb_compaction.messages import DeltaListing, DownloadedSnapshot, PublishedSnapshot

NAMESPACE = "ChromaDBCompaction"
STACK = "stack"
"""The dimension that every metric has."""
PHASE = "phase"
"""The second dimension, which only PhaseSeconds has."""

Unit = Literal["Count", "Seconds", "Milliseconds", "Bytes"]


class Measure(Enum):
    """A metric's name and unit. Alarms and the dashboard use the same names; a test compares them."""

    LOCK_CONTENTION = "LockContention", "Count"
    PENDING_DELTAS = "PendingDeltas", "Count"
    OLDEST_DELTA_AGE = "OldestDeltaAge", "Seconds"
    DELTAS_SET_ASIDE = "DeltasSetAside", "Count"
    DELTAS_MERGED = "DeltasMerged", "Count"
    DELTAS_QUARANTINED = "DeltasQuarantined", "Count"
    RECORDS_ADDED = "RecordsAdded", "Count"
    RECORDS_REPLACED = "RecordsReplaced", "Count"
    RECORDS_DELETED = "RecordsDeleted", "Count"
    UNPROVEN_COLLECTIONS = "UnprovenCollections", "Count"
    PHASE_SECONDS = "PhaseSeconds", "Seconds"
    SNAPSHOT_RECORDS = "SnapshotRecords", "Count"
    SNAPSHOT_BYTES = "SnapshotBytes", "Bytes"
    COMPACTION_SECONDS = "CompactionSeconds", "Seconds"
    COMPACTION_SUCCEEDED = "CompactionSucceeded", "Count"
    PENDING_ROWS_APPLIED = "PendingRowsApplied", "Count"
    REFRESH_MILLISECONDS = "RefreshMilliseconds", "Milliseconds"
    ANSWERS_PAST_BOUND = "AnswersPastBound", "Count"

    def __init__(self, metric: str, unit: Unit) -> None:
        self.metric = metric
        self.unit: Unit = unit


class DataPoint(NamedTuple):
    """One value of a measure.

    Attributes:
        measure: The name and unit.
        value: The value.
        phase: The phase, for PhaseSeconds only.
    """

    measure: Measure
    value: float
    phase: str | None = None


@runtime_checkable
class Measured(Protocol):
    """A result that knows its own metrics."""

    def data_points(self) -> tuple[DataPoint, ...]:
        """Return the metrics."""


def metrics_of(outcome: object) -> tuple[DataPoint, ...]:
    """Return the metrics of a task's result, or of the error that ended it. Most have none.

    A pass is counted when it is over, published or without a change, and not when its folds are planned. A pass that
    fails before is not counted, so that no delta is counted twice.
    """
    match outcome:
        case LockHeldError() | Lease():
            # With the zeros, the mean is the share of executions that found the lock held.
            return (DataPoint(Measure.LOCK_CONTENTION, int(isinstance(outcome, LockHeldError))),)
        case DeltaListing():
            return _of_listing(outcome)
        case DownloadedSnapshot():
            return (DataPoint(Measure.PHASE_SECONDS, outcome.seconds, phase="download_snapshot"),)
        case PublishedSnapshot():
            return () if outcome.folds else _of_pass(outcome)
        case Measured():
            return outcome.data_points()
        case _:
            return ()


def _of_listing(listing: DeltaListing) -> tuple[DataPoint, ...]:
    found = (
        DataPoint(Measure.PENDING_DELTAS, listing.pending),
        DataPoint(Measure.OLDEST_DELTA_AGE, listing.oldest_seconds or 0),
        DataPoint(Measure.DELTAS_SET_ASIDE, listing.set_aside),
    )
    # An execution that finds no deltas has succeeded. Otherwise an hour without deltas would look like a failure.
    return found if listing.deltas else (*found, DataPoint(Measure.COMPACTION_SUCCEEDED, 1))


def _of_pass(done: PublishedSnapshot) -> tuple[DataPoint, ...]:
    # Phases with a dot in their name are parts of others, and CloudWatch charges for each distinct phase.
    phases = {name: seconds for name, seconds in done.seconds.items() if "." not in name}
    # ListDeltas counts them too, but only after they have failed several times.
    set_aside = (DataPoint(Measure.DELTAS_SET_ASIDE, done.deltas_left),) if done.too_large else ()
    return (
        *set_aside,
        DataPoint(Measure.COMPACTION_SUCCEEDED, 1),
        DataPoint(Measure.COMPACTION_SECONDS, round(sum(phases.values()), 3)),
        DataPoint(Measure.DELTAS_MERGED, done.deltas_merged),
        DataPoint(Measure.DELTAS_QUARANTINED, done.deltas_quarantined),
        DataPoint(Measure.RECORDS_ADDED, sum(counts.added for counts in done.collections)),
        DataPoint(Measure.RECORDS_REPLACED, sum(counts.replaced for counts in done.collections)),
        DataPoint(Measure.RECORDS_DELETED, sum(counts.deleted for counts in done.collections)),
        # Collections that the bulk loader refused: an upgrade of ChromaDB is visible here first.
        DataPoint(Measure.UNPROVEN_COLLECTIONS, sum(counts.loader == "api" for counts in done.collections)),
        DataPoint(Measure.SNAPSHOT_RECORDS, done.records),
        DataPoint(Measure.SNAPSHOT_BYTES, done.bytes),
        *(DataPoint(Measure.PHASE_SECONDS, seconds, phase=name) for name, seconds in phases.items()),
    )
