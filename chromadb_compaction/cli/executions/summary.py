"""The result of an execution: counts added up over its passes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.cli.executions.timeline import Failure, Timeline, failure_of
from chromadb_compaction.messages import CollectionCounts, MergedBatch, PublishedSnapshot


class Summary(BaseModel):
    """Counts of deltas and rows. `snapshot_id` is the last one published, `held` the message of a LockHeldError.

    `deferred` deltas waited at the last listing, until `deferred_until` at the latest, in Unix seconds.
    """

    model_config = ConfigDict(frozen=True)

    status: str
    passes: int
    batches: int
    merged: int
    quarantined: int
    snapshot_id: str | None
    collections: list[CollectionCounts]
    too_large: list[str] = []
    bytes_uploaded: int
    deferred: int = 0
    deferred_until: float | None = None
    held: str | None
    error: str | None
    message: str | None


def summarise(timeline: Timeline) -> Summary:
    """Return the summary of an execution, finished or failed."""
    passes = _results(timeline, "MergeBatches", "runs")
    runs = [MergedBatch.model_validate(run) for runs_of_pass in passes for run in runs_of_pass]
    found = [PublishedSnapshot.model_validate(each) for each in _results(timeline, "UploadSnapshot", "snapshot")]
    uploads = [each for each in found if not each.folds]  # the others are plans of passes that go on
    held = _lock_held(timeline)
    listing: dict[str, Any] = next(reversed(_results(timeline, "ListDeltas", "work")), {})
    return Summary(
        status=timeline.ended or "RUNNING",
        passes=len(uploads),
        batches=len(runs),
        merged=sum(run.merged for run in runs),
        quarantined=sum(run.quarantined for run in runs),
        snapshot_id=last_published(timeline),
        collections=_totals(count for upload in uploads for count in upload.collections),
        too_large=sorted({name for upload in uploads for name in upload.too_large}),
        bytes_uploaded=sum(upload.bytes_uploaded for upload in uploads),
        deferred=listing.get("deferred", 0),
        deferred_until=listing.get("deferred_until"),
        held=held.message if held else None,
        error=timeline.failure.error if timeline.failure else None,
        message=timeline.failure.message if timeline.failure else None,
    )


def last_published(timeline: Timeline) -> str | None:
    """Return the last snapshot that the execution published, however the execution ended."""
    uploads = _results(timeline, "UploadSnapshot", "snapshot")
    return next((each["snapshot_id"] for each in reversed(uploads) if each.get("published")), None)


def _results(timeline: Timeline, state: str, field: str) -> list[Any]:
    # The output of a failed visit lacks the field, or still has that of the previous pass.
    return [
        output[field] for output in timeline.outputs.get(state, ()) if output.get(field) and "failure" not in output
    ]


def _totals(counts: Iterable[CollectionCounts]) -> list[CollectionCounts]:
    totals: dict[str, CollectionCounts] = {}
    for count in counts:
        before = totals.get(count.collection)
        totals[count.collection] = count if before is None else _add(before, count)
    return [totals[name] for name in sorted(totals)]


def _add(before: CollectionCounts, after: CollectionCounts) -> CollectionCounts:
    return CollectionCounts(
        collection=after.collection,
        collections=after.collections,
        added=before.added + after.added,
        replaced=before.replaced + after.replaced,
        deleted=before.deleted + after.deleted,
        unchanged=before.unchanged + after.unchanged,
        older=before.older + after.older,
        records=after.records,
        loader=after.loader or before.loader,
    )


def _lock_held(timeline: Timeline) -> Failure | None:
    for output in timeline.outputs.get("AlreadyRunning", ()):
        held = output.get("held")
        if isinstance(held, dict):
            details = {"error": held.get("Error"), "cause": held.get("Cause")}
            return failure_of(details, timeline.visits[-1].entered)
    return None
