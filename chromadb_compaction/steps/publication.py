"""Publication: the next snapshot's manifest, and the objects that must exist before the pointer names it."""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion
from chromadb_compaction.deltas.outcomes import DeltaOutcome, pack_outcomes
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.fold.collections import FoldedDirectory
from chromadb_compaction.fold.joining import PartOfManifest, check_base, join_parts, whole_collection
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.manifest import (
    CollectionRef,
    CollectionSnapshot,
    Manifest,
    Pointer,
    StoredFile,
    commit_id,
)
from chromadb_compaction.messages import FoldPartitionRequest, PublishedSnapshot, UploadSnapshotRequest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import files_below
from chromadb_compaction.snapshots.files import FoldedFile, absent_files, upload
from chromadb_compaction.snapshots.pointer import remember
from chromadb_compaction.snapshots.tree.descriptions import describe
from chromadb_compaction.snapshots.tree.shards import Changes, next_collections


class Draft:
    """The next snapshot under a fresh id: the base's collections, of which `adopt` replaces the folded ones.

    `described` are the objects that describe them, and the shards that name these, to be written before the manifest:
    those of the collections that `adopt` has replaced and, after a base of format 1, of all others.

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
        self._refs: dict[str, CollectionRef | None] = {}
        self._dropped: dict[str, DeltaVersion] = {}
        self.described: dict[str, bytes] = {}
        self._changed: dict[str, CollectionSnapshot] = {}
        for name, each in base.collections.inline.items() if base else ():
            self._describe(name, each)

    def upload(self, folded: Sequence[FoldedDirectory], services: Services) -> list[PartOfManifest]:
        """Upload the new files of changed directories. Return each directory, with its files if it changed."""
        for each in folded:
            if each.unit.is_whole:
                name = each.unit.collection
                check_base(name, [each.result.conservation.base], self._base_of(name))
        existing = [each for each in folded if each.result.changed and each.result.exists]
        files = [self._files(each) for each in existing]
        stored = iter(upload(services, [file for named in files for file in named.values()]))
        found = {each.unit: {path: next(stored) for path in named} for each, named in zip(existing, files, strict=True)}
        return [
            PartOfManifest(
                unit=each.unit,
                result=each.result,
                files=found.get(each.unit),
                space=each.shape.space,
                embedding_function=each.shape.embedding_function,
                settings=each.settings,
                dropped_before=each.dropped_before,
            )
            for each in folded
        ]

    def adopt(self, parts: Sequence[PartOfManifest]) -> None:
        """Replace the collections that have changed, given all parts of each, from here and from other functions.

        A collection that a drop has left nothing of is removed. Raises VerificationError if the parts of a collection
        are not all of its ids, or do not begin with all rows of the base.
        """
        of_collection: dict[str, list[PartOfManifest]] = defaultdict(list)
        for part in parts:
            of_collection[part.unit.collection].append(part)
        for name, all_parts in of_collection.items():
            changed = [part for part in all_parts if part.result.changed]
            if not changed:
                continue
            if changed[0].dropped_before is not None:
                self._dropped[name] = changed[0].dropped_before
            # Its own function has checked a whole collection, so that its description need not be read here again.
            is_whole = changed[0].unit.is_whole
            joined = whole_collection(changed[0]) if is_whole else join_parts(all_parts, self._base_of(name))
            if joined is None:
                self._remove(name)
            else:
                self._describe(name, joined)

    def _base_of(self, name: str) -> CollectionSnapshot | None:
        return self._base.collections.get(name) if self._base else None

    def bytes_of(self, parts: Sequence[PartOfManifest]) -> int:
        """Return the total size of the files that this snapshot adds, in bytes."""
        return sum(file.bytes for each in parts for file in (each.files or {}).values() if self._is_own(file))

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

    def _files(self, folded: FoldedDirectory) -> dict[str, FoldedFile]:
        unit, found = folded.unit, files_below(folded.directory)
        place = unit.in_place(self._base_of(unit.collection))
        before = place.files if place else {}
        folder = "" if unit.is_whole else f"{layout.partition_folder(unit.first)}/"
        return {
            path: FoldedFile(local, self._key(unit, folder + path), before.get(path)) for path, local in found.items()
        }

    def _key(self, unit: FoldUnit, path: str) -> str:
        return layout.snapshot_file_key(self.snapshot_id, unit.collection, path, prefix=self._prefix)

    def _describe(self, name: str, described: CollectionSnapshot) -> None:
        key, body, self._refs[name] = describe(self.snapshot_id, name, described, prefix=self._prefix)
        self.described[key] = body
        self._changed[name] = described

    def _remove(self, name: str) -> None:
        self._refs[name] = None
        self._changed.pop(name, None)
        self.described.pop(layout.collection_key(self.snapshot_id, name, prefix=self._prefix), None)

    def manifest(self, outcomes: list[DeltaOutcome], *, now: float, seconds: float) -> Manifest:
        """Return the manifest. `now` is its time in Unix seconds, `seconds` the work so far."""
        changes = Changes(self._refs, self._dropped)
        after = next_collections(self._base, changes, snapshot_id=self.snapshot_id, prefix=self._prefix)
        self.described.update(after.shards)
        return Manifest(
            format=after.format,
            snapshot_id=self.snapshot_id,
            parent=self._base.snapshot_id if self._base else None,
            parent_sha256=self._base_sha256 if self._base else None,
            execution=self._request.execution,
            commit_id=commit_id(self._request.execution, self._request.pass_number),
            created_at=now,
            seconds=seconds,
            deltas_merged=sum(outcome.status == "merged" for outcome in outcomes),
            deltas_quarantined=sum(outcome.status == "quarantined" for outcome in outcomes),
            collections=after.collections,
            dropped=after.dropped,
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
