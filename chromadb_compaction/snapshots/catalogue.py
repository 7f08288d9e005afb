"""Every snapshot in the bucket and what is wrong with it, readable even when the pointer is not."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import ValidationError

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.outcomes import DeltaOutcome, unpack_outcomes
from chromadb_compaction.errors import InvalidRequestError, NoSnapshotError, ObjectMissingError, SnapshotCorruptError
from chromadb_compaction.manifest import Manifest, StoredFile
from chromadb_compaction.planning import ObjectInfo
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.lineage import Parents
from chromadb_compaction.snapshots.pointer import CurrentPointer, read_current_pointer

SEE_LIST = "chromadb-compaction snapshots list names those there are"


class Readable(NamedTuple):
    """A manifest that can be used: parsed, under its own id, its conservation proofs true. `written` is S3's clock."""

    manifest: Manifest
    sha256: str
    written: float


class Catalogue(NamedTuple):
    """What stands under the snapshot prefix. A snapshot is in `readable` or, with the reason, in `damaged`.

    Uploads that were given up before they had a manifest are in neither.
    """

    current_pointer: CurrentPointer
    objects: Mapping[str, ObjectInfo]
    readable: Mapping[str, Readable]
    damaged: Mapping[str, str]
    prefix: str

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
        """The snapshots whose list of merged deltas is there, newest first; their manifests may not be."""
        ids = {layout.snapshot_of_key(key, prefix=self.prefix) for key in self.objects}
        return sorted((each for each in ids if each and self.has(self.list_key(each))), reverse=True)

    @property
    def ever_published(self) -> set[str]:
        """The snapshots that may have been published: an upload that never was has no list, or no clean-up marker."""
        known = {*self.readable, *self.damaged}
        cleaned = {each for each in known if self.has(layout.cleaned_key(each, prefix=self.prefix))}
        return {*self.listed, *cleaned, *([self.current] if self.current else [])}

    def list_key(self, snapshot_id: str) -> str:
        """Return the key of a snapshot's list of merged deltas."""
        return layout.merged_deltas_key(snapshot_id, prefix=self.prefix)

    def has(self, key: str) -> bool:
        """Say whether the object was there when the catalogue was read."""
        return key in self.objects

    def absent(self, manifest: Manifest) -> list[StoredFile]:
        """Return the files that the manifest names and that are not there in the size that it states."""
        files = (file for collection in manifest.collections.values() for file in collection.files.values())
        return [f for f in files if f.key not in self.objects or self.objects[f.key].bytes != f.bytes]

    def find(self, snapshot_id: str | None) -> Readable:
        """Return a snapshot by its id; None: the published one.

        Raises NoSnapshotError, or SnapshotCorruptError if its manifest or the pointer cannot be used.
        """
        wanted = snapshot_id or self.current
        if wanted is None:
            if self.current_pointer.problem:
                raise SnapshotCorruptError(self.current_pointer.problem)
            raise NoSnapshotError("nothing has been published yet; run: chromadb-compaction compact --wait")
        if wanted in self.damaged:
            raise SnapshotCorruptError(self.damaged[wanted])
        if wanted not in self.readable:
            _check_id(wanted)
            raise NoSnapshotError(f"there is no snapshot {wanted}; {SEE_LIST}")
        return self.readable[wanted]


def read_catalogue(services: Services) -> Catalogue:
    """List everything under the snapshot prefix, and read every manifest."""
    prefix = services.settings.snapshot_prefix
    current_pointer = read_current_pointer(services)
    objects = {info.key: info for info in services.objects.list(prefix)}
    manifests = [key for key in objects if _is_manifest(key, prefix)]
    if current_pointer.pointer:
        manifests = sorted({*manifests, layout.manifest_key(current_pointer.pointer.snapshot_id, prefix=prefix)})
    readable: dict[str, Readable] = {}
    damaged: dict[str, str] = {}
    for key, read in zip(
        manifests, in_threads(lambda key: _read(key, current_pointer, services), manifests), strict=True
    ):
        snapshot_id = str(layout.snapshot_of_key(key, prefix=prefix))
        if isinstance(read, str):
            damaged[snapshot_id] = read
        else:
            readable[snapshot_id] = read
    published = [each for each in readable if layout.cleaned_key(each, prefix=prefix) in objects]
    if current_pointer.pointer is None and current_pointer.problem is None and published:
        current_pointer = current_pointer._replace(problem=_lost(max(published), services))
    return Catalogue(current_pointer, objects, readable, damaged, prefix)


def read_list(services: Services, snapshot_id: str) -> list[DeltaOutcome]:
    """Return what became of the deltas of the pass that made a snapshot. Raises SnapshotCorruptError."""
    key = layout.merged_deltas_key(snapshot_id, prefix=services.settings.snapshot_prefix)
    problem = "cannot be read"
    try:
        return unpack_outcomes(services.objects.get(key).body)
    except ObjectMissingError:
        problem = "is missing"
    except (ValidationError, OSError, EOFError, zlib.error):
        pass
    raise SnapshotCorruptError(
        f"{key}, the list of the deltas that snapshot {snapshot_id} merged, {problem};"
        " restore its previous version in the bucket"
    )


def _is_manifest(key: str, prefix: str) -> bool:
    snapshot_id = layout.snapshot_of_key(key, prefix=prefix)
    return snapshot_id is not None and key == layout.manifest_key(snapshot_id, prefix=prefix)


def _read(key: str, current_pointer: CurrentPointer, services: Services) -> Readable | str:
    """Return the manifest, or what is wrong with it. Of the published one the pointer knows the SHA-256."""
    mend = f"restore its previous version in the bucket, or roll back to another snapshot; {SEE_LIST}"
    snapshot_id = str(layout.snapshot_of_key(key, prefix=services.settings.snapshot_prefix))
    try:
        stored = services.objects.get(key)
        manifest = Manifest.model_validate_json(stored.body)
    except ObjectMissingError:
        return f"{key} is missing; {mend}"
    except ValidationError:
        return f"{key} cannot be understood; {mend}"
    sha256 = hashlib.sha256(stored.body).hexdigest()
    pointer = current_pointer.pointer
    if pointer and pointer.snapshot_id == snapshot_id and pointer.manifest_sha256 != sha256:
        return f"{key} is not what the pointer says it is (its SHA-256 differs); {mend}"
    if manifest.snapshot_id != snapshot_id:
        return f"{key} is the manifest of another snapshot, {manifest.snapshot_id}; {mend}"
    unproven = [name for name, each in manifest.collections.items() if not each.conservation.holds()]
    if unproven:
        return f"{key}: the conservation proof of collection {unproven[0]} is wrong; {mend}"
    return Readable(manifest, sha256, stored.modified)


def _lost(newest: str, services: Services) -> str:
    key = layout.pointer_key(prefix=services.settings.snapshot_prefix)
    return (
        f"{key} is missing, though snapshot {newest} has been published; restore its previous version in the bucket,"
        f" or run: chromadb-compaction snapshots rollback {newest} --replay"
    )


def _check_id(text: str) -> None:
    try:
        layout.snapshot_sequence(text)
    except ValueError as error:
        raise InvalidRequestError(f"{error}; {SEE_LIST}") from error
