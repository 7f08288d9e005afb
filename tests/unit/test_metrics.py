"""The metrics of the tasks' results and errors."""

from __future__ import annotations

import pytest

from chromadb_compaction.errors import LockHeldError, LockLostError
from chromadb_compaction.lease import Lease
from chromadb_compaction.messages import (
    BaseRef,
    CleanedUp,
    CollectionCounts,
    DeltaListing,
    DownloadedSnapshot,
    MergedBatch,
    PublishedSnapshot,
    ReleasedLock,
)
from chromadb_compaction.metrics import Measure, metrics_of
from chromadb_compaction.steps.query_messages import CountAnswer, PendingAnswered


def values(outcome: object) -> dict[str, float]:
    """Name -> value of the metrics that have no phase."""
    return {metric.measure.metric: metric.value for metric in metrics_of(outcome) if metric.phase is None}


def phases(outcome: object) -> dict[str, float]:
    found = [metric for metric in metrics_of(outcome) if metric.phase is not None]
    assert {metric.measure for metric in found} <= {Measure.PHASE_SECONDS}
    return {str(metric.phase): metric.value for metric in found}


def a_listing(*, deltas: int, pending: int, oldest: float | None) -> DeltaListing:
    return DeltaListing(
        pass_number=1,
        batches=[],
        deltas=deltas,
        more=False,
        base=BaseRef(snapshot_id=None, etag=None, sequence=0),
        pending=pending,
        oldest_seconds=oldest,
        finished_clean_up_of=None,
    )


def counts(collection: str, *, added: int, replaced: int, deleted: int, loader: str = "bulk") -> CollectionCounts:
    return CollectionCounts(
        collection=collection, added=added, replaced=replaced, deleted=deleted, unchanged=9, records=99, loader=loader
    )


def a_pass(*, published: bool = True) -> PublishedSnapshot:
    return PublishedSnapshot(
        published=published,
        snapshot_id="0000000001-3f2a9c1b",
        outcome="snapshot/0000000001-3f2a9c1b/deltas.json.gz",
        collections=[
            counts("docs", added=5, replaced=3, deleted=1),
            counts("pages", added=2, replaced=0, deleted=4, loader="api"),
        ],
        deltas_merged=7,
        deltas_quarantined=2,
        records=1234,
        bytes=56789,
        bytes_uploaded=1,
        seconds={"download": 0.5, "fold": 2.25, "fold.load": 2.0, "upload": 1.25},
    )


def test_a_held_lock_counts_as_contention() -> None:
    assert values(LockHeldError("held by another execution")) == {"LockContention": 1}


def test_an_acquired_lock_counts_as_none_so_that_the_mean_is_a_share() -> None:
    assert values(Lease.starting("lock", "me", now=1, seconds=60)) == {"LockContention": 0}


def test_a_listing_with_deltas_reports_the_backlog_and_no_success() -> None:
    assert values(a_listing(deltas=3, pending=8, oldest=61.5)) == {
        "PendingDeltas": 8,
        "OldestDeltaAge": 61.5,
        "DeltasSetAside": 0,
    }


def test_an_empty_listing_has_no_age_and_is_a_success() -> None:
    assert values(a_listing(deltas=0, pending=0, oldest=None)) == {
        "PendingDeltas": 0,
        "OldestDeltaAge": 0,
        "DeltasSetAside": 0,
        "CompactionSucceeded": 1,
    }


def test_a_download_is_a_phase_of_its_own() -> None:
    result = DownloadedSnapshot(collections=[], bytes=5, seconds=1.5, cached=False)
    assert (values(result), phases(result)) == ({}, {"download_snapshot": 1.5})


def test_a_published_pass_reports_its_changes_and_the_published_snapshot() -> None:
    assert values(a_pass()) == {
        "CompactionSucceeded": 1,
        "CompactionSeconds": 4.0,
        "DeltasMerged": 7,
        "DeltasQuarantined": 2,
        "RecordsAdded": 7,
        "RecordsReplaced": 3,
        "RecordsDeleted": 5,
        "UnprovenCollections": 1,
        "SnapshotRecords": 1234,
        "SnapshotBytes": 56789,
    }


def test_deltas_of_a_collection_that_is_too_large_are_set_aside() -> None:
    left = a_pass().model_copy(update={"too_large": ["large"], "deltas_left": 4})

    assert values(left)["DeltasSetAside"] == 4


def test_a_pass_that_changed_nothing_is_a_success_too() -> None:
    assert values(a_pass(published=False))["CompactionSucceeded"] == 1


def test_only_whole_phases_are_metrics_since_each_costs_money() -> None:
    assert phases(a_pass()) == {"download": 0.5, "fold": 2.25, "upload": 1.25}


@pytest.mark.parametrize(
    "outcome",
    [
        LockLostError("lost"),
        MergedBatch(
            collection="docs", run=None, report="r", merged=1, quarantined=1, missing=0, rows=1, bytes=1
        ),  # counted once its pass is over
        CleanedUp(archived=1, quarantined=1, messages_deleted=1, snapshots_pruned=0, objects_pruned=0),
        ReleasedLock(released=True, holder=None),
        None,
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_other_results_have_no_metrics(outcome: object) -> None:
    assert metrics_of(outcome) == ()


def a_fresh_answer(*, applied: int, left: int) -> CountAnswer:
    pending = PendingAnswered(applied=applied, left=left, rows=7, refresh_ms=12.5)
    return CountAnswer(snapshot_id=None, pending=pending, count=7, dimension=2, space="l2", embedding_function=None)


def test_a_fresh_answer_counts_its_pending_rows_and_what_it_left_out() -> None:
    assert values(a_fresh_answer(applied=2, left=1)) == {
        "PendingRowsApplied": 7,
        "RefreshMilliseconds": 12.5,
        "AnswersPastBound": 1,
    }
    assert values(a_fresh_answer(applied=2, left=0))["AnswersPastBound"] == 0


def test_an_answer_from_the_snapshot_alone_has_no_metrics() -> None:
    assert metrics_of(a_fresh_answer(applied=0, left=0).model_copy(update={"pending": None})) == ()


def test_every_measure_is_reported() -> None:
    reported = [
        LockHeldError("held"),
        a_listing(deltas=1, pending=1, oldest=1.0),
        a_pass(),
        a_fresh_answer(applied=1, left=0),
    ]
    assert {metric.measure for outcome in reported for metric in metrics_of(outcome)} == set(Measure)
