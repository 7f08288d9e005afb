"""A local copy of a snapshot, for whoever wants to open it with ChromaDB alone."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from chromadb_compaction import layout
from chromadb_compaction.errors import InvalidRequestError, NoSuchCollectionError
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.cache import Files
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.files import Wanted, download


class PulledCollection(BaseModel):
    """One ChromaDB directory. `directory` None: the collection has only ever seen deletes, and has none."""

    model_config = ConfigDict(frozen=True)

    collection: str
    directory: str | None
    records: int
    dimension: int | None
    space: str
    bytes: int


class Pulled(BaseModel):
    """What was copied; with `dry_run`, what would be."""

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

    `into` must be empty or missing, and stays so until all has arrived. Raises SnapshotCorruptError, NoSnapshotError,
    NoSuchCollectionError for a name in `only`, InvalidRequestError for a directory in use.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InvalidRequestError(f"{into} is not empty: give a directory that is, or that does not exist yet")
    into = into.resolve()
    manifest = read_catalogue(services).find(snapshot_id).manifest
    chosen = _chosen(manifest, only)
    if not dry_run:
        _copy(services, manifest, chosen, into)
    collections = [_pulled(name, each, into) for name, each in sorted(chosen.items())]
    return Pulled(
        snapshot_id=manifest.snapshot_id,
        directory=str(into),
        bytes=sum(each.bytes for each in collections),
        collections=collections,
        dry_run=dry_run,
    )


def _chosen(manifest: Manifest, only: Collection[str]) -> dict[str, CollectionSnapshot]:
    for name in only:
        if name not in manifest.collections:
            there = ", ".join(manifest.collections) or "none"
            raise NoSuchCollectionError(f"snapshot {manifest.snapshot_id} has no collection {name!r}; it has: {there}")
    return {name: each for name, each in manifest.collections.items() if not only or name in only}


def _copy(services: Services, manifest: Manifest, chosen: dict[str, CollectionSnapshot], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    unfinished = into.parent / f".{into.name}-{secrets.token_hex(4)}"
    wanted = [
        Wanted(name, _readers_files(each), unfinished / name)
        for name, each in chosen.items()
        if each.dimension is not None
    ]
    try:
        unfinished.mkdir()
        download(services, manifest, wanted)
        for directory in unfinished.iterdir():
            directory.rename(into / directory.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _readers_files(each: CollectionSnapshot) -> Files:
    return {path: file for path, file in each.files.items() if path != layout.LEDGER_FILE}


def _pulled(name: str, each: CollectionSnapshot, into: Path) -> PulledCollection:
    there = each.dimension is not None
    return PulledCollection(
        collection=name,
        directory=str(into / name) if there else None,
        records=each.records,
        dimension=each.dimension,
        space=each.space,
        bytes=sum(file.bytes for path, file in each.files.items() if path != layout.LEDGER_FILE) if there else 0,
    )
