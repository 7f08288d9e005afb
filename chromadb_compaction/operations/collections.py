"""The published collections, and the delta that deletes one."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.client.writer import DeltaWriter
from chromadb_compaction.configuration import CollectionMetadata
from chromadb_compaction.errors import NoSnapshotError, NoSuchCollectionError
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.pointer import read_manifest, read_pointer


class PublishedCollection(BaseModel):
    """One collection of the published snapshot.

    Attributes:
        configuration: As ChromaDB's `Collection.configuration_json` gives it.
        metadata: The metadata. {}: none.
        pending_deltas: The deltas that are not merged yet.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    snapshot_id: str
    records: int
    dimension: int | None
    space: str
    embedding_function: str | None
    bytes: int
    pending_deltas: int
    configuration: dict[str, Any]
    metadata: CollectionMetadata


class DroppedCollection(BaseModel):
    """A collection that a delta deletes at the next compaction, or would.

    Attributes:
        records: Its published records. None: it is not published yet.
        pending_deltas: Its deltas that are not merged yet, and never will be.
        delta: The key of the delta. None with `dry_run`.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    records: int | None
    pending_deltas: int
    delta: str | None
    dry_run: bool


def list_collections(services: Services) -> list[PublishedCollection]:
    """Return the published collections, sorted by name. Raises NoSnapshotError and SnapshotCorruptError."""
    manifest = _published(services)
    if manifest is None:
        raise NoSnapshotError.nothing_published()
    prefix = services.settings.delta_prefix
    pending = Counter(
        layout.collection_of_key(each.key, prefix=prefix)
        for each in services.objects.list(prefix)
        if not layout.is_folder_marker(each.key)
    )
    return [
        _describe(name, manifest.snapshot_id, each, pending[name])
        for name, each in sorted(manifest.collections.items())
    ]


def show_collection(services: Services, name: str) -> PublishedCollection:
    """Return one published collection. Raises NoSuchCollectionError, and what list_collections raises."""
    manifest = _published(services)
    if manifest is None:
        raise NoSnapshotError.nothing_published()
    return _describe(name, manifest.snapshot_id, manifest.collection(name), _pending(name, services))


def drop_collection(services: Services, name: str, *, dry_run: bool) -> DroppedCollection:
    """Write the delta that deletes a collection, with all its published records and pending deltas.

    Raises NoSuchCollectionError if it has neither.
    """
    manifest, pending = _published(services), _pending(name, services)
    known = manifest.collections.get(name) if manifest else None
    if known is None and not pending:
        raise NoSuchCollectionError(
            f"there is no collection {name!r}, published or pending",
            next_step="see the published ones: chromadb-compaction collections list",
        )
    written: list[str] = []
    if not dry_run:
        writer = DeltaWriter(
            services.settings,
            objects=services.objects,
            queue=services.queue if services.settings.delta_queue_url else None,
            producer="chromadb-compaction collections delete",
        )
        writer.drop_collection(name)
        written = writer.written
    return DroppedCollection(
        collection=name,
        records=known.records if known else None,
        pending_deltas=pending,
        delta=written[0] if written else None,
        dry_run=dry_run,
    )


def _published(services: Services) -> Manifest | None:
    current = read_pointer(services)
    return read_manifest(services, current.pointer) if current else None


def _pending(name: str, services: Services) -> int:
    prefix = layout.collection_prefix(name, prefix=services.settings.delta_prefix)
    return sum(not layout.is_folder_marker(each.key) for each in services.objects.list(prefix))


def _describe(name: str, snapshot_id: str, each: CollectionSnapshot, pending: int) -> PublishedCollection:
    settings = each.settings_with_function
    return PublishedCollection(
        collection=name,
        snapshot_id=snapshot_id,
        records=each.records,
        dimension=each.dimension,
        space=each.space,
        embedding_function=each.embedding_function,
        bytes=each.bytes,
        pending_deltas=pending,
        configuration=settings.configuration(each.space).model_dump(exclude_none=True),
        metadata=settings.metadata_value,
    )
