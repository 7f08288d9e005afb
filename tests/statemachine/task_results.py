"""Results of the eight tasks, built from the models of the real tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chromadb_compaction.lease import Lease
from chromadb_compaction.messages import (
    BaseRef,
    BatchRef,
    CleanedUp,
    CollectionCounts,
    CollectionShape,
    DeltaListing,
    DownloadedSnapshot,
    FoldedItem,
    FoldItem,
    MergedBatch,
    Message,
    PublishedSnapshot,
    ReleasedLock,
)

Json = dict[str, Any]


def _json(message: Message) -> Json:
    return message.model_dump(mode="json")


def a_lease(request: Json) -> Json:
    """Return the result of AcquireLock."""
    return Lease.starting("chroma-main-snapshot", request["execution"], now=1_700_000_000, seconds=900).model_dump()


def a_listing(pass_number: int = 1, *, batches: int = 3, more: bool = False) -> Json:
    """Return a result of ListDeltas with so many full batches, and no published snapshot as the base."""
    return _json(
        DeltaListing(
            pass_number=pass_number,
            batches=[
                BatchRef(key=f"work/x/{pass_number}/batches/{n:04d}.json", collection="docs", deltas=100, bytes=9)
                for n in range(batches)
            ],
            deltas=100 * batches,
            more=more,
            base=BaseRef(snapshot_id=None, etag=None, sequence=pass_number - 1),
            pending=100 * batches,
            oldest_seconds=60.5 if batches else None,
            finished_clean_up_of=None,
        )
    )


def a_base_copy(_request: Json) -> Json:
    """Return the result of DownloadSnapshot."""
    shape = CollectionShape(collection="docs", dimension=3, space="l2", embedding_function=None, records=0)
    return _json(DownloadedSnapshot(collections=[shape], bytes=0, seconds=0.1, cached=False))


def a_run(request: Json) -> Json:
    """Return the result of MergeBatch for the batch in the request."""
    key = request["batch"]["key"]
    return _json(
        MergedBatch(
            collection=request["batch"]["collection"],
            run=key.replace("batches", "runs"),
            report=key.replace("batches", "reports"),
            merged=100,
            quarantined=0,
            missing=0,
            rows=100,
            bytes=9,
        )
    )


def a_snapshot(request: Json) -> Json:
    """Return the result of UploadSnapshot: one snapshot per pass."""
    snapshot_id = f"{request['pass']:010d}-3f2a9c1b"
    counts = CollectionCounts(collection="docs", added=300, replaced=0, deleted=0, unchanged=0, records=300)
    return _json(
        PublishedSnapshot(
            published=True,
            snapshot_id=snapshot_id,
            outcome=f"snapshot/{snapshot_id}/deltas.json.gz",
            collections=[counts],
            deltas_merged=300,
            deltas_quarantined=0,
            records=300,
            bytes=9,
            bytes_uploaded=9,
            seconds={"fold": 0.1},
        )
    )


def a_plan(request: Json, *, items: int = 2) -> Json:
    """Return the result of UploadSnapshot for a large pass: so many items that other functions must fold first."""
    folds = [
        FoldItem(
            key=f"work/x/{request['pass']}/folds/{n:04d}.json",
            folds=2,
            collection="docs",
            bytes=9,
            estimated_seconds=100.5,
        )
        for n in range(items)
    ]
    planned = PublishedSnapshot.model_validate({**a_snapshot(request), "published": False, "outcome": ""})
    return _json(planned.model_copy(update={"folds": folds, "folds_left": items}))


def a_folded_item(request: Json) -> Json:
    """Return the result of FoldPartition for the item in the request."""
    key = request["item"]["key"].replace(".json", "/0000000001-3f2a9c1b.json")
    return _json(FoldedItem(key=key, sha256="0" * 64, folds=2, left=0, bytes_uploaded=9, seconds=1.5))


def a_clean_up(_request: Json) -> Json:
    """Return the result of CleanUp."""
    return _json(CleanedUp(archived=300, quarantined=0, messages_deleted=300, snapshots_pruned=0, objects_pruned=0))


def a_release(_request: Json) -> Json:
    """Return the result of ReleaseLock."""
    return _json(ReleasedLock(released=True, holder=None))


USUAL_RESULTS: dict[str, Callable[[Json], Json]] = {
    "AcquireLock": a_lease,
    "ListDeltas": lambda request: a_listing(request["previous_pass"] + 1),
    "DownloadSnapshot": a_base_copy,
    "MergeBatch": a_run,
    "UploadSnapshot": a_snapshot,
    "FoldPartition": a_folded_item,
    "CleanUp": a_clean_up,
    "ReleaseLock": a_release,
}
