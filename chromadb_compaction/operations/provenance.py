"""The origin of the current version of one record."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, NamedTuple
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.deltas.versions import uuid7_seconds
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import decode_ledger
from chromadb_compaction.snapshots.catalogue import Catalogue, read_catalogue
from chromadb_compaction.snapshots.delta_lists import read_list
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.lineage import lineage_of
from chromadb_compaction.snapshots.pruning import noticing_pruning
from chromadb_compaction.times import Moment

DeltaState = Literal["pending", "compacted", "quarantined", "expired"]


class Provenance(BaseModel):
    """The delta that wrote a record's current version, and the snapshot that first published it.

    Attributes:
        snapshot_id: The published snapshot.
        deleted: Whether the current version is a delete.
        delta: The UUIDv7 of the delta.
        row: The number of the row within the delta, from 0.
        written_at: The time in the delta's name.
        place: Where the delta is now.
        key: The key of the delta. None if it has expired.
        first_snapshot: The snapshot that merged the delta. None if that is no longer known.
        first_published_at: When `first_snapshot` was made.
        no_later_than: The oldest snapshot that is known to hold the version, if `first_snapshot` is None.
        pending_deltas: The number of the collection's pending deltas, which may have a newer version.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    id: str
    snapshot_id: str
    deleted: bool
    delta: str
    row: int
    written_at: Moment
    place: DeltaState
    key: str | None
    first_snapshot: str | None
    first_published_at: Moment | None
    no_later_than: str | None
    pending_deltas: int


class _Version(NamedTuple):
    delta: UUID
    row: int
    deleted: bool


def find_provenance(services: Services, collection: str, record_id: str) -> Provenance | None:
    """Return the origin of the published version of the id, None if the collection has never seen it.

    Of the collection only its ledger is downloaded. Raises NoSnapshotError, NoSuchCollectionError and
    SnapshotCorruptError.
    """
    catalogue = read_catalogue(services)
    manifest = catalogue.find(None).manifest
    version = _read_version(services, manifest, collection, record_id)
    if version is None:
        return None
    names = {
        layout.delta_key(collection, str(version.delta), suffix, prefix=services.settings.delta_prefix)
        for suffix in layout.DELTA_SUFFIXES
    }
    place, key = _locate(names, services)
    first, bound = _first_snapshot(names, manifest.snapshot_id, catalogue, services)
    pending = services.objects.list(layout.collection_prefix(collection, prefix=services.settings.delta_prefix))
    return Provenance(
        collection=collection,
        id=record_id,
        snapshot_id=manifest.snapshot_id,
        deleted=version.deleted,
        delta=str(version.delta),
        row=version.row,
        written_at=uuid7_seconds(version.delta),
        place=place,
        key=key,
        first_snapshot=first,
        first_published_at=catalogue.readable[first].manifest.created_at if first else None,
        no_later_than=bound,
        pending_deltas=sum(not layout.is_folder_marker(each.key) for each in pending),
    )


def _read_version(services: Services, manifest: Manifest, collection: str, record_id: str) -> _Version | None:
    with tempfile.TemporaryDirectory(prefix="chromadb-compaction-") as scratch:
        with noticing_pruning(manifest.snapshot_id, services):
            files = {
                layout.LEDGER_FILE: manifest.collection(collection).directory_of(record_id).files[layout.LEDGER_FILE]
            }
            download(services, manifest, [Wanted(collection, files, Path(scratch))])
        ledger = decode_ledger((Path(scratch) / layout.LEDGER_FILE).read_bytes())
    rows = ledger.filter(pc.equal(ledger["id"], pa.scalar(record_id))).to_pylist()
    return _Version(UUID(bytes=rows[0]["delta"]), rows[0]["row"], rows[0]["deleted"]) if rows else None


def _locate(names: set[str], services: Services) -> tuple[DeltaState, str | None]:
    """Return the state and the key of the delta. `names` are the pending keys that it may have had."""
    prefix = services.settings.delta_prefix
    for name in sorted(names):
        keys: dict[DeltaState, str] = {
            "pending": name,
            "compacted": layout.compacted_key(name, prefix=prefix),
            "quarantined": layout.quarantine_key(name, prefix=prefix),
        }
        for state, key in keys.items():
            if services.objects.head(key) is not None:
                return state, key
    return "expired", None


def _first_snapshot(
    names: set[str], current: str, catalogue: Catalogue, services: Services
) -> tuple[str | None, str | None]:
    """Return the oldest snapshot of the lineage that merged the delta, or else the oldest that is known to hold it."""
    snapshots = lineage_of(current, catalogue.parents).snapshots

    def merged_delta(snapshot_id: str) -> bool:
        try:
            return any(o.key in names and o.status == "merged" for o in read_list(services, snapshot_id))
        except SnapshotCorruptError:
            return False

    found = [each for each, merged in zip(snapshots, in_threads(merged_delta, snapshots), strict=True) if merged]
    return (found[-1], None) if found else (None, snapshots[-1])
