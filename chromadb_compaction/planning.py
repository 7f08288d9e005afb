"""The plans of a pass and of pruning. They are pure decisions: nothing is read or changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from chromadb_compaction.layout import DELTA_PREFIX, collection_of_key, is_folder_marker, snapshot_sequence, twin_key


class ObjectInfo(BaseModel):
    """The description of an object.

    Attributes:
        key: The key.
        bytes: The size.
        etag: The ETag.
        modified: When it was written, by S3's clock, in Unix seconds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    bytes: int = Field(ge=0)
    etag: str
    modified: float


class PlannedBatch(NamedTuple):
    """Pending deltas, ordered by collection and key. The keys of one collection are oldest first."""

    collections: tuple[str, ...]
    deltas: tuple[ObjectInfo, ...]

    @property
    def bytes(self) -> int:
        """The size of the deltas."""
        return sum(delta.bytes for delta in self.deltas)


class PassPlan(NamedTuple):
    """The batches of one pass, and whether more deltas are left for the next pass."""

    batches: tuple[PlannedBatch, ...]
    more: bool


def plan_batches(
    pending: Iterable[ObjectInfo],
    *,
    size: int,
    max_batches: int,
    max_bytes: int,
    max_batch_bytes: int,
    max_collections: int,
    prefix: str = DELTA_PREFIX,
) -> PassPlan:
    """Split `pending` (in key order) into the batches of one pass.

    A batch holds at most `size` deltas of at most `max_collections` collections, and at most `max_batch_bytes`. A pass
    has at most `max_batches` batches, `max_bytes` and `max_collections`. Both hold at least one delta, so that an
    oversized delta cannot block the others. Two files of one name, in two formats, share a batch, even a full one. The
    batch with the oldest delta comes first, so that no collection waits for ever.
    """
    batches = sorted(
        _batches(pending, size, min(max_batch_bytes, max_bytes), max_collections, prefix),
        key=lambda batch: min(d.modified for d in batch.deltas),
    )
    chosen: list[PlannedBatch] = []
    collections: set[str] = set()
    total = 0
    for batch in batches:
        touched = collections.union(batch.collections)
        if len(chosen) == max_batches or (chosen and total + batch.bytes > max_bytes) or len(touched) > max_collections:
            break
        chosen.append(batch)
        collections = touched
        total += batch.bytes
    return PassPlan(tuple(chosen), more=len(chosen) < len(batches))


def _batches(
    pending: Iterable[ObjectInfo], size: int, max_bytes: int, max_collections: int, prefix: str
) -> Iterator[PlannedBatch]:
    """Yield all deltas in batches, ordered by collection and key, so that few batches share a collection."""
    # Folders that are not valid collection names count as one collection.
    named = ((collection_of_key(d.key, prefix=prefix), d) for d in pending if not is_folder_marker(d.key))
    taken: list[ObjectInfo] = []
    # A dictionary keeps the order of the collections.
    collections: dict[str, None] = {}
    total = 0
    for collection, delta in sorted(named, key=lambda each: each[0]):
        full = len(taken) >= size or total + delta.bytes > max_bytes
        if (
            taken
            and twin_key(delta.key) != taken[-1].key
            and (full or len(collections.keys() | {collection}) > max_collections)
        ):
            yield PlannedBatch(tuple(collections), tuple(taken))
            taken, collections, total = [], {}, 0
        taken.append(delta)
        collections[collection] = None
        total += delta.bytes
    if taken:
        yield PlannedBatch(tuple(collections), tuple(taken))


class SnapshotAge(NamedTuple):
    """A snapshot's id, and when it was written, in Unix seconds."""

    snapshot_id: str
    created_at: float


def plan_prune(
    snapshots: Iterable[SnapshotAge], *, current: str, now: float, keep_count: int, keep_seconds: float
) -> frozenset[str]:
    """Return the snapshots to prune: before the current one, not of the newest `keep_count`, older than `keep_seconds`.

    The age protects uploads in progress. Snapshots after the current one are kept, because a rollback undid them and
    another one may publish them again. The caller must keep the files of pruned snapshots that a kept manifest names.
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
