"""A local copy of a snapshot, which ChromaDB opens by itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.errors import InvalidRequestError, NoSnapshotError
from chromadb_compaction.layout import partition_folder
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.operations.pulling.exchange import install
from chromadb_compaction.operations.pulling.fetch import fetch, unfinished_beside
from chromadb_compaction.operations.pulling.marker import (
    changed_since,
    read_marker,
    write_marker,
)
from chromadb_compaction.operations.typed_ids import LATEST, find_snapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import read_catalogue
from chromadb_compaction.snapshots.pruning import noticing_pruning

ATTEMPTS = 3
"""Snapshots that are tried one after the other if each is pruned while it is copied."""

Chosen = Mapping[str, CollectionSnapshot]


class _Request(NamedTuple):
    """The arguments of `pull_snapshot` that say what to put where."""

    into: Path
    only: Collection[str]
    merged: bool
    force: bool


class PulledCollection(BaseModel):
    """One collection of the copy.

    Attributes:
        directory: Its directory. None if it has only ever seen deletes.
        partitions: The folders in it, each a ChromaDB directory, in the order of their ids. Empty: it is one itself.
    """

    model_config = ConfigDict(frozen=True)

    collection: str
    directory: str | None
    partitions: list[str]
    records: int
    dimension: int | None
    space: str
    bytes: int
    refreshed: bool


class Pulled(BaseModel):
    """The copied collections, sorted by name, or with `dry_run` those that would be copied.

    Attributes:
        bytes: The size of all files.
        fetched: The bytes that were fetched, or would be. What was there already is not fetched again.
        removed: The collections that were there, and are not in the snapshot.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    directory: str
    bytes: int
    fetched: int
    collections: list[PulledCollection]
    removed: list[str]
    merged: bool
    dry_run: bool


class _Plan(NamedTuple):
    """The changes that a pull makes.

    Attributes:
        stale: The collections that are missing there, or differ.
        removed: The collections that are there, and should not be.
        changed: The files there that were changed since they were pulled.
    """

    stale: Chosen
    removed: list[str]
    changed: list[Path]


def pull_snapshot(
    services: Services,
    snapshot_id: str | None,
    into: Path,
    *,
    only: Collection[str] = (),
    merged: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> Pulled:
    """Copy a snapshot (None: the published one) to {into}/{collection}/, every file checked, or refresh such a copy.

    The directory of a partitioned collection has a folder for each partition, which is a ChromaDB directory.
    Each directory is replaced as a whole, once all of its files have arrived. If the published snapshot is pruned
    meanwhile, begin again with the one that is published by then.

    Args:
        services: The bucket and the settings.
        snapshot_id: The snapshot, as `find_snapshot` takes it.
        into: A directory that is empty or missing, or that an earlier pull has filled.
        only: The collections to copy; the directories of others stay as they are. Empty for all, and for no others.
        merged: Make `into` one ChromaDB directory of all collections.
        force: Replace directories that were changed since they were pulled.
        dry_run: Copy nothing.

    Raises SnapshotCorruptError, NoSnapshotError (also for a snapshot that is pruned meanwhile), AmbiguousIdError,
    NoSuchCollectionError for a name in `only`, and InvalidRequestError for a directory that holds anything else, or
    that was changed since it was pulled.
    """
    request = _Request(into.resolve(), only, merged=merged, force=force)
    _check_contents(request.into, merged=merged)
    for attempt in range(1, ATTEMPTS + 1):
        manifest = find_snapshot(snapshot_id, read_catalogue(services)).manifest
        try:
            with noticing_pruning(manifest.snapshot_id, services):
                chosen = {name: manifest.collection(name) for name in only} or dict(manifest.collections.items())
                plan = _plan(request, manifest, chosen)
                fetched = (
                    sum(_chroma_bytes(each) for each in plan.stale.values())
                    if dry_run
                    else _carry_out(services, request, manifest, chosen)
                )
            break
        except NoSnapshotError:
            if snapshot_id not in (None, LATEST) or attempt == ATTEMPTS:
                raise
    collections = [_pulled(name, each, request, plan) for name, each in sorted(chosen.items())]
    return Pulled(
        snapshot_id=manifest.snapshot_id,
        directory=str(request.into),
        bytes=sum(each.bytes for each in collections),
        fetched=fetched,
        collections=collections,
        removed=plan.removed,
        merged=merged,
        dry_run=dry_run,
    )


def _check_contents(into: Path, *, merged: bool) -> None:
    """Raise InvalidRequestError unless everything in the directory was pulled into it, in the same way."""
    if not into.exists():
        return
    otherwise = "give a directory that is empty, or that does not exist"
    marker = read_marker(into) if into.is_dir() else None
    inside = [read_marker(each) for each in _entries(into)] if into.is_dir() and marker is None else []
    if not into.is_dir() or None in inside or (merged and marker is None and any(into.iterdir())):
        raise InvalidRequestError(f"{into} is not empty, and was not filled by such a pull", next_step=otherwise)
    if marker is not None and not merged:
        raise InvalidRequestError(f"{into} was pulled with --merge", next_step=f"add --merge, or {otherwise}")


def _entries(into: Path) -> list[Path]:
    """Return what is in the directory, except hidden files, such as those of file managers. No collection is hidden."""
    return [each for each in into.iterdir() if not each.name.startswith(".")]


def _plan(request: _Request, manifest: Manifest, chosen: Chosen) -> _Plan:
    into = request.into
    if request.merged:
        marker = read_marker(into)
        changed = [into / path for path in changed_since(into, marker)] if marker else []
        wanted = {name: _content(each) for name, each in chosen.items() if each.chroma_files}
        same = marker is not None and not changed and marker.collections == wanted
        removed = sorted(marker.collections.keys() - wanted.keys()) if marker else []
        plan = _Plan({} if same else {name: chosen[name] for name in wanted}, removed, changed)
    else:
        plan = _plan_directories(request, manifest, chosen)
    if plan.changed and not request.force:
        raise InvalidRequestError(
            f"{plan.changed[0]} was changed since it was pulled ({len(plan.changed)} such files)",
            next_step="give another directory, or add --force to replace it",
        )
    return plan


def _plan_directories(request: _Request, manifest: Manifest, chosen: Chosen) -> _Plan:
    into = request.into
    held = {each.name: read_marker(each) for each in _entries(into)} if into.exists() else {}
    stale: dict[str, CollectionSnapshot] = {}
    removed = [] if request.only else sorted(held.keys() - manifest.collections.keys())
    removed += sorted(name for name in held.keys() & chosen.keys() if not chosen[name].chroma_files)
    changed: list[Path] = []
    for name, each in chosen.items():
        marker = held.get(name)
        touched = changed_since(into / name, marker) if marker else []
        changed += [into / name / path for path in touched]
        if each.chroma_files and (marker is None or touched or marker.collections.get(name) != _content(each)):
            stale[name] = each
    for name in removed:
        marker = held.get(name)
        changed += [into / name / path for path in changed_since(into / name, marker)] if marker else []
    return _Plan(stale, removed, changed)


def _carry_out(services: Services, request: _Request, manifest: Manifest, chosen: Chosen) -> int:
    """Fetch what is stale, and put it in place. Return the bytes that were fetched."""
    into, plan = request.into, _plan(request, manifest, chosen)
    if not request.merged:
        into.mkdir(parents=True, exist_ok=True)
    with unfinished_beside(into) as unfinished:
        if request.merged:
            if not plan.stale and not plan.removed:
                return 0
            fetched, new = _merge(services, into, manifest, plan, unfinished)
            _plan(request, manifest, chosen)  # raises if anything was changed meanwhile
            install(new, into)
            return fetched
        fetched = fetch(services, manifest, plan.stale, into, unfinished)
        _plan(request, manifest, chosen)  # as above
        for name, each in plan.stale.items():
            write_marker(unfinished / name, manifest.snapshot_id, {name: _content(each)}, merged=False)
            install(unfinished / name, into / name)
        for name in plan.removed:
            (into / name).rename(unfinished / f"{name}.removed")
    return fetched


def _merge(services: Services, into: Path, manifest: Manifest, plan: _Plan, unfinished: Path) -> tuple[int, Path]:
    """Make the merged directory. Collections that `into` holds unchanged are read from there.

    Return the bytes that were fetched, and the directory.
    """
    from chromadb_compaction.operations.pulling.merge import Part, merge  # ChromaDB takes a second to import

    marker = None if plan.changed else read_marker(into)
    kept = marker.collections if marker else {}
    stale = {name: each for name, each in plan.stale.items() if kept.get(name) != _content(each)}
    fetched = fetch(services, manifest, stale, None, unfinished)
    parts = {
        name: Part(_directories(unfinished / name, each) if name in stale else [into], each.records)
        for name, each in plan.stale.items()
    }
    new = unfinished / ".merged"
    merge(parts, new)
    content = {name: _content(each) for name, each in plan.stale.items()}
    write_marker(new, manifest.snapshot_id, content, merged=True)
    return fetched, new


def _directories(fetched: Path, each: CollectionSnapshot) -> list[Path]:
    """Return the ChromaDB directories of a fetched collection, in the order of their ids."""
    if not each.partitions:
        return [fetched]
    return [fetched / partition_folder(part.first) for part in each.partitions if part.chroma_files]


def _content(each: CollectionSnapshot) -> dict[str, str]:
    return {path: file.sha256 for path, file in each.chroma_files.items()}


def _chroma_bytes(each: CollectionSnapshot) -> int:
    return sum(file.bytes for file in each.chroma_files.values())


def _pulled(name: str, each: CollectionSnapshot, request: _Request, plan: _Plan) -> PulledCollection:
    directory = request.into if request.merged else request.into / name
    return PulledCollection(
        collection=name,
        directory=str(directory) if each.chroma_files else None,
        partitions=[] if request.merged else [partition_folder(part.first) for part in each.partitions],
        records=each.records,
        dimension=each.dimension,
        space=each.space,
        bytes=_chroma_bytes(each),
        refreshed=name in plan.stale,
    )
