"""Which deltas a pass merges and which snapshots are pruned: decisions only, nothing is touched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from chromadb_compaction.layout import DELTA_PREFIX, collection_of_key, is_folder_marker, snapshot_sequence


class ObjectInfo(BaseModel):
    """One line of a listing. `modified` is S3's clock, Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    bytes: int = Field(ge=0)
    etag: str
    modified: float


class PlannedBatch(NamedTuple):
    """Up to `size` pending deltas of one collection, in key order, that is: oldest first."""

    collection: str
    deltas: tuple[ObjectInfo, ...]

    @property
    def bytes(self) -> int:
        """Bytes to read."""
        return sum(delta.bytes for delta in self.deltas)


class PassPlan(NamedTuple):
    """The batches of one pass, and whether deltas are left for another."""

    batches: tuple[PlannedBatch, ...]
    more: bool


def plan_batches(
    pending: Iterable[ObjectInfo],
    *,
    size: int,
    max_batches: int,
    max_bytes: int,
    max_batch_bytes: int,
    prefix: str = DELTA_PREFIX,
) -> PassPlan:
    """Split `pending` (in key order) into the batches of one pass.

    Batches hold one collection each, and at most `size` deltas or `max_batch_bytes`; the pass stops before it would
    exceed `max_batches` or `max_bytes`. Both hold at least one delta, so that an oversized one cannot block the
    queue. The batch with the
    oldest delta comes first, so that no collection starves another.
    """
    batches = sorted(
        _batches(pending, size, min(max_batch_bytes, max_bytes), prefix),
        key=lambda batch: min(d.modified for d in batch.deltas),
    )
    chosen: list[PlannedBatch] = []
    total = 0
    for batch in batches:
        if len(chosen) == max_batches or (chosen and total + batch.bytes > max_bytes):
            break
        chosen.append(batch)
        total += batch.bytes
    return PassPlan(tuple(chosen), more=len(chosen) < len(batches))


def _batches(pending: Iterable[ObjectInfo], size: int, max_bytes: int, prefix: str) -> Iterator[PlannedBatch]:
    files = (delta for delta in pending if not is_folder_marker(delta.key))
    # A folder that can be no collection's makes no batch of its own: thousands of them would crowd out the others,
    # and forty long ones overflow a state's payload.
    grouped = sorted(files, key=lambda delta: collection_of_key(delta.key, prefix=prefix))
    for collection, deltas in groupby(grouped, key=lambda delta: collection_of_key(delta.key, prefix=prefix)):
        taken: list[ObjectInfo] = []
        total = 0
        for delta in deltas:
            if taken and (len(taken) == size or total + delta.bytes > max_bytes):
                yield PlannedBatch(collection, tuple(taken))
                taken, total = [], 0
            taken.append(delta)
            total += delta.bytes
        yield PlannedBatch(collection, tuple(taken))


class SnapshotAge(NamedTuple):
    """A snapshot as the pruner sees it: its id and when its manifest was written (Unix seconds)."""

    snapshot_id: str
    created_at: float


def plan_prune(
    snapshots: Iterable[SnapshotAge], *, current: str, now: float, keep_count: int, keep_seconds: float
) -> frozenset[str]:
    """Return the snapshots that may go: neither current nor after it, nor among the newest `keep_count`, nor young.

    Age protects what is not yet published: an upload in progress is young by construction. What comes after the
    current one was rolled back from, and may be rolled forward to. Files of a pruned snapshot that a kept
    manifest names stay; the caller sees to that.
    """
    latest = snapshot_sequence(current)
    newest_first = sorted(snapshots, key=lambda s: (s.created_at, s.snapshot_id), reverse=True)
    newest = {snapshot.snapshot_id for snapshot in islice(newest_first, keep_count)}
    return frozenset(
        snapshot.snapshot_id
        for snapshot in newest_first
        if snapshot.snapshot_id != current
        and snapshot_sequence(snapshot.snapshot_id) <= latest
        and snapshot.snapshot_id not in newest
        and now - snapshot.created_at > keep_seconds
    )
