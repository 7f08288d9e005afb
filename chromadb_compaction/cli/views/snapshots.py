"""Snapshots as an operator sees them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.cli.common.formatting import counted
from chromadb_compaction.errors import SnapshotCorruptError
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.snapshots.catalogue import Catalogue, read_catalogue
from chromadb_compaction.times import Moment, iso_time


class SnapshotLine(BaseModel):
    """One snapshot in the list.

    If its manifest cannot be read, `problem` says why, `problem_kind` is the kind of the error, and the fields below
    them are None. `files_missing` counts the files that are missing or have another size than the manifest states.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    current: bool
    problem: str | None = None
    problem_kind: str | None = None
    created_at: Moment | None = None
    records: int | None = None
    bytes: int | None = None
    deltas_merged: int | None = None
    seconds: float | None = None
    execution: str | None = None
    parent: str | None = None
    files_missing: int = 0


class SnapshotList(BaseModel):
    """All snapshots, the newest first.

    `problem` says what is wrong with the pointer or the published snapshot. `problem_kind` is the kind of its error.
    """

    model_config = ConfigDict(frozen=True)

    current: str | None
    sequence: int | None
    published_by: str | None
    published_at: Moment | None
    problem: str | None
    problem_kind: str | None
    snapshots: list[SnapshotLine]


def read_snapshot_list(services: Services) -> SnapshotList:
    """Read the pointer and every manifest, and check that each snapshot's files are there."""
    catalogue = read_catalogue(services)
    pointer = catalogue.current_pointer.pointer
    lines = [_line(each, catalogue) for each in sorted({*catalogue.readable, *catalogue.damaged}, reverse=True)]
    error = catalogue.current_pointer.error or catalogue.damaged.get(catalogue.current or "")
    current = next((line for line in lines if line.current), None)
    if error is None and current and current.files_missing:
        error = SnapshotCorruptError(
            f"{counted(current.files_missing, 'file')} of the published snapshot {current.snapshot_id} are missing or"
            " have another size",
            next_step="see: chromadb-compaction snapshots verify",
        )
    return SnapshotList(
        current=catalogue.current,
        sequence=pointer.sequence if pointer else None,
        published_by=pointer.commit_id if pointer else None,
        published_at=pointer.published_at if pointer else None,
        problem=str(error) if error else None,
        problem_kind=error.kind if error else None,
        snapshots=lines,
    )


def snapshot_json(manifest: Manifest, *, published: bool) -> dict[str, Any]:
    """Return the manifest and whether it is published, as JSON values. The manifest's time becomes ISO 8601."""
    stored = manifest.model_dump(mode="json")
    stored["collections"] = {name: _collection_json(each) for name, each in manifest.collections.items()}
    stored["dropped"] = manifest.all_dropped
    return {"published": published, **stored, "created_at": iso_time(manifest.created_at)}


def _collection_json(each: CollectionSnapshot) -> dict[str, Any]:
    partitions = [part.model_dump(mode="json") | {"bytes": part.bytes} for part in each.partitions]
    return each.model_dump(mode="json") | ({"partitions": partitions} if partitions else {})


def _line(snapshot_id: str, catalogue: Catalogue) -> SnapshotLine:
    current = snapshot_id == catalogue.current
    if snapshot_id in catalogue.damaged:
        error = catalogue.damaged[snapshot_id]
        return SnapshotLine(snapshot_id=snapshot_id, current=current, problem=str(error), problem_kind=error.kind)
    manifest = catalogue.readable[snapshot_id].manifest
    return SnapshotLine(
        snapshot_id=snapshot_id,
        current=current,
        created_at=manifest.created_at,
        records=manifest.records,
        bytes=manifest.bytes,
        deltas_merged=manifest.deltas_merged,
        seconds=manifest.seconds,
        execution=manifest.execution,
        parent=manifest.parent,
        files_missing=len(catalogue.absent(manifest)),
    )
