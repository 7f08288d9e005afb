"""The plans of a pass and of pruning. They are pure decisions: nothing is read or changed."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
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


class PassLimits(NamedTuple):
    """The most that a pass and each of its batches hold. Both hold at least one delta, so that none blocks the others.

    Attributes:
        size: The deltas of a batch.
        max_batches: The batches of the pass.
        max_bytes: The bytes of the pass.
        max_batch_bytes: The bytes of a batch.
        max_collections: The collections of the pass, and so of a batch.
    """

    size: int
    max_batches: int
    max_bytes: int
    max_batch_bytes: int
    max_collections: int

    def divided(self, by: int) -> PassLimits:
        """Return the limits of a pass with at most one `by`-th of the deltas and bytes, but at least one delta."""
        deltas = max(1, self.size * self.max_batches // by)
        batches = max(1, self.max_batches // by)
        return self._replace(
            size=min(self.size, deltas // batches), max_batches=batches, max_bytes=max(1, self.max_bytes // by)
        )


class PassPlanner:
    """Plans one pass over a stream of pending deltas in key order. It holds no more deltas than a pass does.

    Two files of one name, in two formats, share a batch, even a full one. The batch with the oldest delta comes first,
    so that no collection waits for ever.

    Args:
        limits: The limits of the pass.
        prefix: The prefix of pending deltas.
    """

    def __init__(self, limits: PassLimits, *, prefix: str = DELTA_PREFIX) -> None:
        self._limits = limits
        self._prefix = prefix
        self._most_bytes = min(limits.max_batch_bytes, limits.max_bytes)
        # The oldest complete batches, as a heap whose root is the youngest of them.
        self._oldest: list[tuple[float, int, PlannedBatch]] = []
        self._batches = 0
        self._taken: list[ObjectInfo] = []
        self._collections: set[str] = set()
        self._bytes = 0

    def add(self, delta: ObjectInfo) -> None:
        """Add the next pending delta. Its key is greater than those before."""
        # Folders that are not valid collection names count as one collection.
        collection = collection_of_key(delta.key, prefix=self._prefix)
        full = len(self._taken) >= self._limits.size or self._bytes + delta.bytes > self._most_bytes
        if (
            self._taken
            and twin_key(delta.key) != self._taken[-1].key
            and (full or len(self._collections | {collection}) > self._limits.max_collections)
        ):
            self._complete_batch()
        self._taken.append(delta)
        self._collections.add(collection)
        self._bytes += delta.bytes

    def plan(self) -> PassPlan:
        """Return the plan. Call it once, after all deltas were added."""
        if self._taken:
            self._complete_batch()
        chosen: list[PlannedBatch] = []
        collections: set[str] = set()
        total = 0
        for _, _, batch in sorted(self._oldest, reverse=True):
            touched = collections.union(batch.collections)
            too_many = len(touched) > self._limits.max_collections
            if chosen and (total + batch.bytes > self._limits.max_bytes or too_many):
                break
            chosen.append(batch)
            collections = touched
            total += batch.bytes
        return PassPlan(tuple(chosen), more=len(chosen) < self._batches)

    def _complete_batch(self) -> None:
        ordered = sorted(self._taken, key=lambda delta: collection_of_key(delta.key, prefix=self._prefix))
        batch = PlannedBatch(tuple(sorted(self._collections)), tuple(ordered))
        oldest = min(delta.modified for delta in ordered)
        heappush(self._oldest, (-oldest, -self._batches, batch))
        if len(self._oldest) > self._limits.max_batches:
            heappop(self._oldest)
        self._batches += 1
        self._taken, self._collections, self._bytes = [], set(), 0


def plan_batches(pending: Iterable[ObjectInfo], limits: PassLimits, *, prefix: str = DELTA_PREFIX) -> PassPlan:
    """Split `pending` (in key order) into the batches of one pass, as PassPlanner does. Skip folder markers."""
    planner = PassPlanner(limits, prefix=prefix)
    for delta in pending:
        if not is_folder_marker(delta.key):
            planner.add(delta)
    return planner.plan()


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
