"""The deltas that were merged since a snapshot was made and that it does not hold: those that a replay is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.identity import Content, compare, content_of
from chromadb_compaction.deltas.outcomes import DeltaOutcome
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.lease import DAY_SECONDS
from chromadb_compaction.operations.replay import Wanted
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue
from chromadb_compaction.snapshots.delta_lists import read_list
from chromadb_compaction.snapshots.lineage import Lineage, as_new_as, lineage_of, lineage_since
from chromadb_compaction.snapshots.pointer import StoredManifest

Lists = Mapping[str, list[DeltaOutcome]]
"""The deltas that each snapshot merged, by snapshot id."""


class MergedSince(NamedTuple):
    """The snapshots whose deltas the target does not hold, newest first, and the deltas merged since the target."""

    undone: tuple[str, ...]
    deltas: Wanted


def find_merged_since(
    target: StoredManifest,
    catalogue: Catalogue,
    archived: Mapping[str, ObjectInfo],
    services: Services,
    *,
    for_replay: bool,
) -> MergedSince:
    """Return everything that was merged since the target, by whichever snapshot, and that the target does not hold.

    `archived` are the objects in compacted/, by pending key. With `for_replay`, raise SnapshotCorruptError if deltas
    may be missing: the list of a snapshot is not known, and archived deltas may have expired. Deltas that the target
    holds may be included, which is harmless: merging them again changes nothing.
    """
    snapshot_id, since = target.manifest.snapshot_id, min(target.written, target.manifest.created_at)
    undone = _undone(snapshot_id, catalogue)
    # Nothing expires from compacted/ within a day. Until then the archive is complete without any list.
    needs_lists = for_replay and services.clock() - since > DAY_SECONDS
    if needs_lists and undone.unknown_parent:
        raise SnapshotCorruptError(
            f"snapshot {undone.unknown_parent}, which was published in between, is missing, so the deltas that it"
            " merged are not known",
            next_step="choose a newer snapshot, or roll back without --replay",
        )
    lists = _read_lists(undone.snapshots, services, needed=needs_lists)
    held = _read_lists(lineage_of(snapshot_id, catalogue.parents).snapshots, services, needed=False)
    return MergedSince(undone.snapshots, _deltas(undone, lists, held, _archived_since(since, archived)))


def _undone(target: str, catalogue: Catalogue) -> Lineage:
    """Return the snapshots with deltas that the target does not hold, newest first.

    Those are the ones between the target and the published snapshot, and all others as new as the target that are not
    its ancestors: a rollback undid them, or the published snapshot cannot be read.
    """
    current = catalogue.current
    between = Lineage((), None)
    if current in catalogue.readable and current not in (None, target):
        between = lineage_since(target, str(current), catalogue.parents)
    ancestors = lineage_of(target, catalogue.parents).snapshots
    newer = {each for each in as_new_as(target, catalogue.ever_published) if each not in ancestors}
    return Lineage(tuple(sorted(newer.union(between.snapshots), reverse=True)), between.unknown_parent)


def _archived_since(since: float, archived: Mapping[str, ObjectInfo]) -> Wanted:
    return {key: content_of(info) for key, info in archived.items() if info.modified >= since}


def _deltas(undone: Lineage, lists: Lists, held: Lists, archived: Wanted) -> Wanted:
    """Return the deltas that the undone snapshots list, and the archived ones that nobody lists.

    The latter were merged by a snapshot that is gone, or by a pass that changed nothing, because newer rows existed.
    Without the newer rows they may count.
    """
    in_target: dict[str, list[Content]] = {}
    for outcome in _merged(held, held):
        in_target.setdefault(outcome.key, []).append(outcome.content)
    deltas: dict[str, Content] = {}
    for outcome in _merged(lists, undone.snapshots[::-1]):
        known = in_target.get(outcome.key, ())
        if not any(compare(each, outcome.content) for each in known):
            deltas[outcome.key] = outcome.content
    return {key: content for key, content in archived.items() if key not in in_target} | deltas


def _merged(lists: Lists, snapshots: Collection[str]) -> list[DeltaOutcome]:
    return [outcome for each in snapshots for outcome in lists[each] if outcome.status == "merged"]


def _read_lists(snapshots: Collection[str], services: Services, *, needed: bool) -> Lists:
    """Return the delta lists of snapshots. One that cannot be read is empty, unless it is needed."""

    def read(snapshot_id: str) -> list[DeltaOutcome]:
        try:
            return read_list(services, snapshot_id)
        except SnapshotCorruptError:
            if needed:
                raise
            return []

    return dict(zip(snapshots, in_threads(read, snapshots), strict=True))
