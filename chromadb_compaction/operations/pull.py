"""A local copy of a snapshot, which ChromaDB opens by itself."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.errors import InvalidRequestError, NoSnapshotError
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.operations.typed_ids import LATEST, find_snapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.files import Wanted, download
from chromadb_compaction.snapshots.pruning import noticing_pruning

ATTEMPTS = 3
"""Snapshots that are tried one after the other if each is pruned while it is copied."""


class PulledCollection(BaseModel):
    """One collection of the copy. `directory` is None if it has only ever seen deletes."""

    model_config = ConfigDict(frozen=True)

    collection: str
    directory: str | None
    records: int
    dimension: int | None
    space: str
    bytes: int


class Pulled(BaseModel):
    """The copied collections, sorted by name, or with `dry_run` those that would be copied."""

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    directory: str
    bytes: int
    collections: list[PulledCollection]
    dry_run: bool


def pull_snapshot(
    services: Services,
    snapshot_id: str | None,
    into: Path,
    *,
    only: Collection[str] = (),
    dry_run: bool = False,
) -> Pulled:
    """Copy a snapshot (None: the published one) to {into}/{collection}/, every file checked.

    Args:
        services: The bucket and the settings.
        snapshot_id: The snapshot.
        into: A directory that is empty or missing. It stays so until all files have arrived.
        only: The collections to copy. Empty for all.
        dry_run: Copy nothing.

    If the published snapshot is pruned meanwhile, begin again with the one that is published by then. Raises
    SnapshotCorruptError, NoSnapshotError (also for a snapshot that is pruned meanwhile), NoSuchCollectionError for a
    name in `only`, InvalidRequestError for a directory that is not empty.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InvalidRequestError(f"{into} is not empty", next_step="give a directory that is, or that does not exist")
    into = into.resolve()
    for attempt in range(1, ATTEMPTS + 1):
        manifest = find_snapshot(snapshot_id, read_catalogue(services)).manifest
        chosen = {name: manifest.collection(name) for name in only} or dict(manifest.collections)
        if dry_run:
            break
        try:
            with noticing_pruning(manifest.snapshot_id, services):
                _copy(services, manifest, chosen, into)
            break
        except NoSnapshotError:
            if snapshot_id not in (None, LATEST) or attempt == ATTEMPTS:
                raise
    collections = [_pulled(name, each, into) for name, each in sorted(chosen.items())]
    return Pulled(
        snapshot_id=manifest.snapshot_id,
        directory=str(into),
        bytes=sum(each.bytes for each in collections),
        collections=collections,
        dry_run=dry_run,
    )


def _copy(services: Services, manifest: Manifest, chosen: dict[str, CollectionSnapshot], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    unfinished = into.parent / f".{into.name}-{secrets.token_hex(4)}"
    wanted = [Wanted(name, each.chroma_files, unfinished / name) for name, each in chosen.items() if each.chroma_files]
    try:
        unfinished.mkdir()
        download(services, manifest, wanted)
        for directory in unfinished.iterdir():
            directory.rename(into / directory.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _pulled(name: str, each: CollectionSnapshot, into: Path) -> PulledCollection:
    has_directory = bool(each.chroma_files)
    return PulledCollection(
        collection=name,
        directory=str(into / name) if has_directory else None,
        records=each.records,
        dimension=each.dimension,
        space=each.space,
        bytes=sum(file.bytes for file in each.chroma_files.values()) if has_directory else 0,
    )
