"""Publication: the next snapshot's manifest, and the objects that must exist before the pointer names it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.deltas.outcomes import DeltaOutcome, pack_outcomes
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.fold.collections import FoldedCollection
from chromadb_compaction.fold.fold import FoldResult
from chromadb_compaction.manifest import (
    CollectionRef,
    Collections,
    CollectionSnapshot,
    Manifest,
    Pointer,
    StoredFile,
    commit_id,
)
from chromadb_compaction.messages import (
    LISTED_COLLECTIONS,
    CollectionCounts,
    FoldPartitionRequest,
    PublishedSnapshot,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import Files, files_below
from chromadb_compaction.snapshots.files import FoldedFile, Wanted, absent_files, upload
from chromadb_compaction.snapshots.pointer import remember
from chromadb_compaction.snapshots.tree import describe


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

    `described` are the objects that describe them, to be written before the manifest: those that `upload` has replaced
    and, after a base of format 1, all others.

    Args:
        request: The pass to publish.
        base: The manifest of the snapshot that the pass started from. None: nothing is published yet.
        base_sha256: The SHA-256 of that manifest, as the pointer states it.
        prefix: The snapshot prefix.
    """

    def __init__(
        self,
        request: UploadSnapshotRequest | FoldPartitionRequest,
        base: Manifest | None,
        *,
        base_sha256: str | None,
        prefix: str,
    ) -> None:
        self.snapshot_id = layout.new_snapshot_id(request.base.sequence + 1, secrets.token_hex(4))
        self._request = request
        self._base = base
        self._base_sha256 = base_sha256
        self._prefix = prefix
        self._refs: dict[str, CollectionRef] = {}
        self._dropped = dict(base.dropped) if base else {}
        self.described: dict[str, bytes] = {}
        self._changed: dict[str, CollectionSnapshot] = {}
        for name, each in base.collections.entries.items() if base else ():
            if isinstance(each, CollectionRef):
                self._refs[name] = each
            else:
                self._describe(name, each)

    def upload(self, folded: Sequence[FoldedCollection], services: Services) -> list[Wanted]:
        """Upload the new files of changed collections. Return each collection's files and local directory.

        A collection that a drop has left nothing of is removed.
        """
        for each in folded:
            if each.dropped_before is not None:
                self._dropped[each.result.collection] = each.dropped_before
            if not each.result.exists:
                self._remove(each.result.collection)
        existing = [each for each in folded if each.result.exists]
        files = [self._files(collection) for collection in existing]
        stored = iter(upload(services, [file for named in files for file in named.values()]))
        wanted = []
        for each, named in zip(existing, files, strict=True):
            name, described = each.result.collection, {path: next(stored) for path in named}
            self._describe(name, _collection(each, described))
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
                self._remove(part.result.collection)
            else:
                self._describe(part.result.collection, part.snapshot)

    def parts(self, folded: Sequence[FoldedCollection]) -> list[PartOfManifest]:
        """Return the folded collections, of which the changed ones are uploaded, as another manifest adopts them."""
        return [
            PartOfManifest(
                result=each.result,
                snapshot=self._changed.get(each.result.collection) if each.result.changed else None,
                dropped_before=each.dropped_before,
            )
            for each in folded
        ]

    def bytes_of(self, wanted: Sequence[Wanted]) -> int:
        """Return the total size of the files that this snapshot adds, in bytes."""
        return sum(file.bytes for each in wanted for file in each.files.values() if self._is_own(file))

    def check_kept_files(self, services: Services) -> None:
        """Raise SnapshotCorruptError if a file that a changed collection has from elsewhere is missing or damaged.

        The compactor's local copy can outlive an object that was deleted, and readers do not have that copy. The pass
        has no copy of the other collections and changes nothing about them: the base has named the same objects.
        """
        files = (file for each in self._changed.values() for file in each.all_files.values())
        absent = absent_files(services, (file for file in files if not self._is_own(file)))
        if absent:
            problem = f"is missing or damaged ({len(absent)} such files), and the published snapshot needs it"
            raise SnapshotCorruptError.damaged(absent[0], problem)

    def _is_own(self, file: StoredFile) -> bool:
        return layout.snapshot_of_key(file.key, prefix=self._prefix) == self.snapshot_id

    def _files(self, folded: FoldedCollection) -> dict[str, FoldedFile]:
        name, found = folded.result.collection, files_below(folded.directory)
        base = self._base.collections.get(name) if self._base else None
        before = base.all_files if base else {}
        keys = {path: layout.snapshot_file_key(self.snapshot_id, name, path, prefix=self._prefix) for path in found}
        return {path: FoldedFile(local, keys[path], before.get(path)) for path, local in found.items()}

    def _describe(self, name: str, described: CollectionSnapshot) -> None:
        key, body, self._refs[name] = describe(self.snapshot_id, name, described, prefix=self._prefix)
        self.described[key] = body
        self._changed[name] = described

    def _remove(self, name: str) -> None:
        self._refs.pop(name, None)
        self._changed.pop(name, None)
        self.described.pop(layout.collection_key(self.snapshot_id, name, prefix=self._prefix), None)

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
            collections=Collections({name: self._refs[name] for name in sorted(self._refs)}),
            dropped=dict(sorted(self._dropped.items())),
        )


def write_objects(
    services: Services,
    manifest: Manifest,
    outcomes: list[DeltaOutcome],
    result: PublishedSnapshot,
    described: Mapping[str, bytes],
) -> Pointer:
    """Write the list of outcomes, the result, the objects in `described`, by key, and the manifest after them.

    Return the pointer that publishes them.
    """
    prefix = services.settings.snapshot_prefix
    body = manifest.model_dump_json().encode()
    objects = {
        layout.merged_deltas_key(manifest.snapshot_id, prefix=prefix): pack_outcomes(outcomes),
        layout.result_key(manifest.snapshot_id, prefix=prefix): result.model_dump_json().encode(),
        **described,
    }
    in_threads(lambda item: services.objects.put(*item), objects.items())
    sha256 = hashlib.sha256(body).hexdigest()
    remember(manifest, sha256)
    # Last, because a snapshot that has a manifest is complete, and nothing is pruned while one is not.
    services.objects.put(layout.manifest_key(manifest.snapshot_id, prefix=prefix), body)
    return Pointer(
        snapshot_id=manifest.snapshot_id,
        sequence=layout.snapshot_sequence(manifest.snapshot_id),
        manifest_sha256=sha256,
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
