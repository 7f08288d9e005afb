"""Publication: the next snapshot's manifest, and the objects that must exist before the pointer names it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.deltas.outcomes import DeltaOutcome, pack_outcomes
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.fold.collections import FoldedCollection
from chromadb_compaction.fold.fold import FoldResult
from chromadb_compaction.manifest import CollectionSnapshot, Manifest, Pointer, commit_id
from chromadb_compaction.messages import (
    LISTED_COLLECTIONS,
    CollectionCounts,
    FoldPartitionRequest,
    PublishedSnapshot,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import Files, files_below
from chromadb_compaction.snapshots.files import FoldedFile, Wanted, absent_kept_files, upload


class PartOfManifest(BaseModel):
    """One collection after its fold, as the next manifest has it.

    Attributes:
        result: The result of the fold.
        snapshot: The collection. None if nothing of it is left, or if it did not change.
        dropped_before: The version at which it was dropped last.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    result: FoldResult
    snapshot: CollectionSnapshot | None
    dropped_before: DeltaVersion | None


class Draft:
    """The next snapshot under a fresh id: the base's collections, of which `upload` replaces the folded ones.

    Args:
        request: The pass to publish.
        base: The manifest of the snapshot that the pass started from. None: nothing is published yet.
        base_sha256: The SHA-256 of that manifest, as the pointer states it.
    """

    def __init__(
        self, request: UploadSnapshotRequest | FoldPartitionRequest, base: Manifest | None, *, base_sha256: str | None
    ) -> None:
        self.snapshot_id = layout.new_snapshot_id(request.base.sequence + 1, secrets.token_hex(4))
        self._request = request
        self._base = base
        self._base_sha256 = base_sha256
        self._collections = dict(base.collections) if base else {}
        self._dropped = dict(base.dropped) if base else {}

    def upload(self, folded: Sequence[FoldedCollection], services: Services) -> list[Wanted]:
        """Upload the new files of changed collections. Return each collection's files and local directory.

        A collection that a drop has left nothing of is removed.
        """
        for each in folded:
            if each.dropped_before is not None:
                self._dropped[each.result.collection] = each.dropped_before
            if not each.result.exists:
                self._collections.pop(each.result.collection, None)
        existing = [each for each in folded if each.result.exists]
        files = [self._files(collection, services.settings.snapshot_prefix) for collection in existing]
        stored = iter(upload(services, [file for named in files for file in named.values()]))
        wanted = []
        for each, named in zip(existing, files, strict=True):
            name, described = each.result.collection, {path: next(stored) for path in named}
            self._collections[name] = _collection(each, described)
            wanted.append(Wanted(name, described, each.directory))
        return wanted

    def adopt(self, parts: Sequence[PartOfManifest]) -> None:
        """Replace collections by those that other functions have folded and uploaded."""
        for part in parts:
            if not part.result.changed:
                continue
            if part.dropped_before is not None:
                self._dropped[part.result.collection] = part.dropped_before
            if part.snapshot is None:
                self._collections.pop(part.result.collection, None)
            else:
                self._collections[part.result.collection] = part.snapshot

    def parts(self, folded: Sequence[FoldedCollection]) -> list[PartOfManifest]:
        """Return the folded collections, of which the changed ones are uploaded, as another manifest adopts them."""
        return [
            PartOfManifest(
                result=each.result,
                snapshot=self._collections.get(each.result.collection) if each.result.changed else None,
                dropped_before=each.dropped_before,
            )
            for each in folded
        ]

    def bytes_of(self, wanted: Sequence[Wanted], *, prefix: str) -> int:
        """Return the total size of the files that this snapshot adds, in bytes."""
        files = [file for each in wanted for file in each.files.values()]
        return sum(f.bytes for f in files if layout.snapshot_of_key(f.key, prefix=prefix) == self.snapshot_id)

    def _files(self, folded: FoldedCollection, prefix: str) -> dict[str, FoldedFile]:
        name, found = folded.result.collection, files_below(folded.directory)
        base = self._collections.get(name)
        before = base.files if base else {}
        keys = {path: layout.snapshot_file_key(self.snapshot_id, name, path, prefix=prefix) for path in found}
        return {path: FoldedFile(local, keys[path], before.get(path)) for path, local in found.items()}

    def manifest(self, outcomes: list[DeltaOutcome], *, now: float, seconds: float) -> Manifest:
        """Return the manifest. `now` is its time in Unix seconds, `seconds` the work so far."""
        return Manifest(
            snapshot_id=self.snapshot_id,
            parent=self._base.snapshot_id if self._base else None,
            parent_sha256=self._base_sha256 if self._base else None,
            execution=self._request.execution,
            commit_id=commit_id(self._request.execution, self._request.pass_number),
            created_at=now,
            seconds=seconds,
            deltas_merged=sum(outcome.status == "merged" for outcome in outcomes),
            deltas_quarantined=sum(outcome.status == "quarantined" for outcome in outcomes),
            collections=dict(sorted(self._collections.items())),
            dropped=dict(sorted(self._dropped.items())),
        )


def check_kept_files(services: Services, manifest: Manifest) -> None:
    """Raise SnapshotCorruptError if a file kept from an earlier snapshot is missing or has another size.

    The compactor's local copy can outlive an object that was deleted, and readers do not have that copy.
    """
    absent = absent_kept_files(services, manifest, own=False)
    if absent:
        problem = f"is missing or damaged ({len(absent)} such files), and the published snapshot needs it"
        raise SnapshotCorruptError.damaged(absent[0], problem)


def write_objects(
    services: Services, manifest: Manifest, outcomes: list[DeltaOutcome], result: PublishedSnapshot
) -> Pointer:
    """Write the list of outcomes, the result and the manifest. Return the pointer that publishes them."""
    prefix = services.settings.snapshot_prefix
    body = manifest.model_dump_json().encode()
    objects = {
        layout.merged_deltas_key(manifest.snapshot_id, prefix=prefix): pack_outcomes(outcomes),
        layout.result_key(manifest.snapshot_id, prefix=prefix): result.model_dump_json().encode(),
        layout.manifest_key(manifest.snapshot_id, prefix=prefix): body,
    }
    in_threads(lambda item: services.objects.put(*item), objects.items())
    return Pointer(
        snapshot_id=manifest.snapshot_id,
        sequence=layout.snapshot_sequence(manifest.snapshot_id),
        manifest_sha256=hashlib.sha256(body).hexdigest(),
        commit_id=manifest.commit_id,
        published_at=services.clock(),
    )


def _collection(folded: FoldedCollection, files: Files) -> CollectionSnapshot:
    result = folded.result
    return CollectionSnapshot(
        dimension=result.dimension,
        space=folded.shape.space,
        embedding_function=folded.shape.embedding_function,
        records=result.counts.records,
        tombstones=result.counts.tombstones,
        conservation=result.conservation,
        files=files,
        settings=folded.settings,
        newest=result.newest,
        replaced_in_place=result.replaced_in_place,
    )


def counts_of(results: list[FoldResult]) -> list[CollectionCounts]:
    """Return the counts of the collections that changed most, and of all others together as the last entry."""
    counts = sorted((_count(each) for each in results), key=lambda count: -count.added - count.replaced - count.deleted)
    if len(counts) <= LISTED_COLLECTIONS:
        return sorted(counts, key=lambda count: count.collection)
    listed, others = counts[: LISTED_COLLECTIONS - 1], counts[LISTED_COLLECTIONS - 1 :]
    return [*sorted(listed, key=lambda count: count.collection), _sum(others)]


def _count(result: FoldResult) -> CollectionCounts:
    counts = result.counts
    return CollectionCounts(
        collection=result.collection,
        added=counts.added,
        replaced=counts.replaced,
        deleted=counts.deleted,
        unchanged=counts.unchanged,
        older=counts.stale,
        records=counts.records,
        loader=result.loader,
    )


def _sum(others: list[CollectionCounts]) -> CollectionCounts:
    loaders = {count.loader for count in others if count.loader}
    return CollectionCounts(
        collection=f"({len(others)} other collections)",
        collections=len(others),
        added=sum(count.added for count in others),
        replaced=sum(count.replaced for count in others),
        deleted=sum(count.deleted for count in others),
        unchanged=sum(count.unchanged for count in others),
        older=sum(count.older for count in others),
        records=sum(count.records for count in others),
        # The least name, because ChromaDB's own API is what an operator should hear of: "api" comes before "bulk".
        loader=min(loaders, default=None),
    )
