"""Where the current version of one record comes from."""

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
from chromadb_compaction.errors import NoSuchCollectionError, SnapshotCorruptError
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.ledger import decode_ledger
from chromadb_compaction.snapshots.catalogue import Catalogue, read_catalogue, read_list
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.lineage import line_of

Place = Literal["pending", "compacted", "quarantined", "expired"]


class Provenance(BaseModel):
    """Which delta wrote a record's current version, and since when it has been published.

    `written_at` is the time in the delta's name, Unix seconds. `key` is where the delta is now, None if it has
    expired. `first_snapshot` merged it; None if that is no longer known, and `no_later_than` is then the oldest
    snapshot that is known to hold it. `pending_deltas` of the collection may bring a newer version.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    id: str
    snapshot_id: str
    deleted: bool
    delta: str
    row: int
    written_at: float
    place: Place
    key: str | None
    first_snapshot: str | None
    first_published_at: float | None
    no_later_than: str | None
    pending_deltas: int


class _Version(NamedTuple):
    delta: UUID
    row: int
    deleted: bool


def find_provenance(services: Services, collection: str, record_id: str) -> Provenance | None:
    """Return where the published version of the id comes from; None if the collection has never seen it.

    Downloads the collection's ledger and nothing else of it. Raises NoSnapshotError, NoSuchCollectionError and
    SnapshotCorruptError.
    """
    catalogue = read_catalogue(services)
    manifest = catalogue.find(None).manifest
    version = _version(services, manifest, collection, record_id)
    if version is None:
        return None
    names = {
        layout.delta_key(collection, str(version.delta), suffix, prefix=services.settings.delta_prefix)
        for suffix in layout.DELTA_SUFFIXES
    }
    place, key = _whereabouts(names, services)
    first, bound = _first_snapshot(names, manifest.snapshot_id, catalogue, services)
    pending = services.objects.list(f"{services.settings.delta_prefix}{collection}/")
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


def _version(services: Services, manifest: Manifest, collection: str, record_id: str) -> _Version | None:
    if collection not in manifest.collections:
        there = ", ".join(manifest.collections) or "none"
        raise NoSuchCollectionError(
            f"snapshot {manifest.snapshot_id} has no collection {collection!r}; it has: {there}"
        )
    files = {layout.LEDGER_FILE: manifest.collections[collection].files[layout.LEDGER_FILE]}
    with tempfile.TemporaryDirectory(prefix="chromadb-compaction-") as scratch:
        download(services, manifest, [Wanted(collection, files, Path(scratch))])
        ledger = decode_ledger((Path(scratch) / layout.LEDGER_FILE).read_bytes())
    rows = ledger.filter(pc.equal(ledger["id"], pa.scalar(record_id))).to_pylist()
    return _Version(UUID(bytes=rows[0]["delta"]), rows[0]["row"], rows[0]["deleted"]) if rows else None


def _whereabouts(names: set[str], services: Services) -> tuple[Place, str | None]:
    prefix = services.settings.delta_prefix
    for name in sorted(names):
        compacted, refused = layout.compacted_key(name, prefix=prefix), layout.quarantine_key(name, prefix=prefix)
        places: list[tuple[Place, str]] = [("pending", name), ("compacted", compacted), ("quarantined", refused)]
        for place, key in places:
            if services.objects.head(key) is not None:
                return place, key
    return "expired", None


def _first_snapshot(
    names: set[str], current: str, catalogue: Catalogue, services: Services
) -> tuple[str | None, str | None]:
    """Return the oldest snapshot of the line that merged the delta, or else the oldest that is known to hold it."""
    line = line_of(current, catalogue.parents)

    def merged_it(snapshot_id: str) -> bool:
        try:
            return any(o.key in names and o.status == "merged" for o in read_list(services, snapshot_id))
        except SnapshotCorruptError:
            return False

    found = [each for each, yes in zip(line.snapshots, in_threads(merged_it, line.snapshots), strict=True) if yes]
    return (found[-1], None) if found else (None, line.snapshots[-1])
