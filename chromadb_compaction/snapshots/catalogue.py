"""Every snapshot in the bucket and what is wrong with it, readable even when the pointer is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import (
    InvalidRequestError,
    NewerFormatError,
    NoSnapshotError,
    ObjectMissingError,
    SnapshotCorruptError,
)
from chromadb_compaction.manifest import CollectionRef, Manifest, ReadShard
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.lineage import Parents
from chromadb_compaction.snapshots.missing_pointer import lost_pointer, published_uncleaned
from chromadb_compaction.snapshots.pointer import (
    CurrentPointer,
    SnapshotError,
    StoredManifest,
    read_current_pointer,
    read_stored_manifest,
)
from chromadb_compaction.snapshots.tree.descriptions import absent_keys
from chromadb_compaction.snapshots.tree.shards import reading_once

ATTEMPTS = 3
"""Readings of the catalogue, each overtaken by a new pointer, before one is returned in any case."""

SEE_LIST = "for the snapshots that exist, run: chromadb-compaction snapshots list"


class Catalogue(NamedTuple):
    """All snapshots under the snapshot prefix. Uploads that were given up before they had a manifest are left out.

    Attributes:
        current_pointer: The pointer, valid or not.
        objects: The description of every object under the prefix, by key.
        readable: By snapshot id, the manifests that can be used: parsed, under their own id, with true proofs.
        damaged: By snapshot id, the errors of the manifests that cannot be used.
        prefix: The snapshot prefix.
        absent_of: The absent keys of the collections that `absent` has read.
    """

    current_pointer: CurrentPointer
    objects: Mapping[str, ObjectInfo]
    readable: Mapping[str, StoredManifest]
    damaged: Mapping[str, SnapshotError]
    prefix: str
    absent_of: dict[CollectionRef, list[str]]

    @property
    def current(self) -> str | None:
        """The published snapshot's id, if the pointer can be read."""
        return self.current_pointer.pointer.snapshot_id if self.current_pointer.pointer else None

    @property
    def parents(self) -> Parents:
        """The parent of every readable snapshot."""
        return {snapshot_id: each.manifest.parent for snapshot_id, each in self.readable.items()}

    @property
    def listed(self) -> list[str]:
        """The snapshots whose list of merged deltas exists, newest first, with or without a manifest."""
        ids = {layout.snapshot_of_key(key, prefix=self.prefix) for key in self.objects}
        keys = {each: layout.merged_deltas_key(each, prefix=self.prefix) for each in ids if each}
        return sorted((each for each, key in keys.items() if key in self.objects), reverse=True)

    @property
    def ever_published(self) -> set[str]:
        """The snapshots that may have been published. An upload that never was has no list or no clean-up marker.

        A snapshot that the pointer names, but of which there is no object, is left out: nothing is known of it.
        """
        known = {layout.snapshot_of_key(key, prefix=self.prefix) for key in self.objects}
        cleaned = {each for each in (*self.readable, *self.damaged) if self._is_cleaned(each)}
        return {*self.listed, *cleaned, *([self.current] if self.current and self.current in known else [])}

    def is_proven(self, snapshot_id: str) -> bool:
        """Return whether the pointer or a child states the SHA-256 of the snapshot's manifest, which then is right."""
        children = (each.manifest for each in self.readable.values() if each.manifest.parent == snapshot_id)
        return snapshot_id == self.current or any(child.parent_sha256 for child in children)

    def absent(self, manifest: Manifest) -> list[str]:
        """Return the keys that the manifest needs and that do not exist, or have another size."""
        return absent_keys(manifest, self.objects, prefix=self.prefix, known=self.absent_of)

    def find(self, snapshot_id: str | None) -> StoredManifest:
        """Return a snapshot by its id, or the published one for None.

        Raises NoSnapshotError, SnapshotCorruptError or NewerFormatError if its manifest or the pointer cannot be
        used, and InvalidRequestError for text that is not a snapshot id.
        """
        wanted = snapshot_id or self.current
        if wanted is None:
            raise self.current_pointer.error or NoSnapshotError.nothing_published()
        if wanted in self.damaged:
            raise self.damaged[wanted]
        if wanted not in self.readable:
            _check_id(wanted)
            raise NoSnapshotError(
                f"there is no snapshot {wanted}, or none any more: it may have been pruned", next_step=SEE_LIST
            )
        return self.readable[wanted]

    def _is_cleaned(self, snapshot_id: str) -> bool:
        return layout.cleaned_key(snapshot_id, prefix=self.prefix) in self.objects


def read_catalogue(services: Services) -> Catalogue:
    """List everything under the snapshot prefix, and read every manifest.

    If the published snapshot is damaged because another was published and this one pruned meanwhile, begin again.
    """
    for _ in range(ATTEMPTS):
        found = _read_catalogue(services)
        if found.current not in found.damaged or read_current_pointer(services).etag == found.current_pointer.etag:
            break
    return found


def _read_catalogue(services: Services) -> Catalogue:
    prefix = services.settings.snapshot_prefix
    current = read_current_pointer(services)
    objects = {info.key: info for info in services.objects.list(prefix)}
    ids = {layout.snapshot_of_key(key, prefix=prefix) for key in objects}
    found = {each for each in ids if each and layout.manifest_key(each, prefix=prefix) in objects}
    snapshots = sorted({*found, *([current.pointer.snapshot_id] if current.pointer else [])})
    shards = reading_once(services)
    read = dict(zip(snapshots, in_threads(lambda each: _read(each, current, services, shards), snapshots), strict=True))
    readable = {each: manifest for each, manifest in read.items() if isinstance(manifest, StoredManifest)}
    damaged = {each: error for each, error in read.items() if error and not isinstance(error, StoredManifest)}
    damaged |= _contradicted(readable, prefix)
    readable = {each: manifest for each, manifest in readable.items() if each not in damaged}
    if current.pointer is None and current.error is None:
        current = current._replace(
            error=lost_pointer(
                objects,
                prefix=prefix,
                readable=readable.keys(),
                uncleaned=published_uncleaned(objects, services),
            )
        )
    return Catalogue(current, objects, readable, damaged, prefix, {})


def _contradicted(readable: Mapping[str, StoredManifest], prefix: str) -> dict[str, SnapshotError]:
    """Return the manifests that were changed after a child had stated their SHA-256. Children are checked first."""
    found: dict[str, SnapshotError] = {}
    for child in sorted(readable, reverse=True):
        manifest = readable[child].manifest
        parent = readable.get(manifest.parent or "")
        if child not in found and parent and manifest.parent_sha256 not in (None, parent.sha256):
            key = layout.manifest_key(parent.manifest.snapshot_id, prefix=prefix)
            problem = f"is not what snapshot {child}, which was made from it, says it is (its SHA-256 differs)"
            found[parent.manifest.snapshot_id] = SnapshotCorruptError.damaged(key, problem)
    return found


def _read(
    snapshot_id: str, current: CurrentPointer, services: Services, shards: ReadShard
) -> StoredManifest | SnapshotError | None:
    """Return the manifest, or what is wrong with it. None if a clean-up has pruned it since the listing.

    The pointer has the SHA-256 of the published one.
    """
    pointer = current.pointer
    sha256 = pointer.manifest_sha256 if pointer and pointer.snapshot_id == snapshot_id else None
    try:
        stored = read_stored_manifest(services, snapshot_id, sha256=sha256, shards=shards)
    except (SnapshotCorruptError, NewerFormatError) as error:
        return None if sha256 is None and isinstance(error.__cause__, ObjectMissingError) else error
    key = layout.manifest_key(snapshot_id, prefix=services.settings.snapshot_prefix)
    manifest = stored.manifest
    if manifest.snapshot_id != snapshot_id:
        return SnapshotCorruptError.damaged(key, f"is the manifest of another snapshot, {manifest.snapshot_id}")
    # Those that are objects of their own are checked when they are read.
    unproven = [name for name, each in manifest.collections.inline.items() if not each.conservation.holds()]
    if unproven:
        return SnapshotCorruptError.damaged(key, f"has a wrong conservation proof for collection {unproven[0]}")
    return stored


def _check_id(text: str) -> None:
    try:
        layout.snapshot_sequence(text)
    except ValueError as error:
        raise InvalidRequestError(str(error), next_step=SEE_LIST) from error
