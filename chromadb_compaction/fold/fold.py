"""Folding one collection: base directory + ledger + runs -> the directory and the ledger to publish."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.chroma.bulk_loader import choose_loader
from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, finalize
from chromadb_compaction.chroma.loader import Loader, Progress
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.errors import SnapshotTooLargeError, VerificationError
from chromadb_compaction.manifest import Conservation, Fingerprint128, Space
from chromadb_compaction.native_memory import trim_memory
from chromadb_compaction.rows.ledger import FoldCounts, FoldPlan, decode_ledger, encode_ledger, plan_fold
from chromadb_compaction.rows.run_rows import stored_rows
from chromadb_compaction.times import Phases


class FoldRequest(BaseModel):
    """One collection's part of a pass; all paths are local.

    `directory` is consumed: the fold changes it in place, so it must not be the only copy of the base. It may be
    missing, for a collection that has no ChromaDB directory yet. `ledger` is the base's (None: no base),
    `base_sum` what the base's manifest gives as its conservation's `next`. `dimension` is None until the first
    upsert. The next ledger is written to `next_ledger`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    dimension: int | None
    space: Space
    directory: Path
    ledger: Path | None
    base_sum: Fingerprint128 | None = None
    runs: list[Path]
    next_ledger: Path


class FoldResult(BaseModel):
    """What became of the collection.

    `ledger_changed` False: nothing is new, nothing was written. `records_changed` False: the directory is as it
    was (or still missing), only versions or tombstones moved. `loader`: the one that changed the records, if any
    changed. `seconds` per phase: plan, load (and its parts load.records, load.index), verify, finalize, ledger.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    dimension: int | None
    records_changed: bool
    ledger_changed: bool
    counts: FoldCounts
    conservation: Conservation
    loader: str | None
    seconds: dict[str, float]


def no_progress() -> None:
    """Go on, whatever the time."""


def fold_collection(
    request: FoldRequest, *, loader: Loader | None = None, progress: Progress = no_progress
) -> FoldResult:
    """Bring the directory and the ledger to what the runs say, verified, closed and ready to upload.

    ChromaDB is opened only if a record changes. `progress` is called between batches, and what it raises stops
    the fold. Raises VerificationError if the outcome is not what the ledger says, SnapshotTooLargeError if the disk
    cannot hold it. After an exception the directory is worthless; the base elsewhere is untouched.
    """
    phases = Phases()
    with phases("plan"):
        plan, dimension = _plan(request)
    trim_memory()
    if plan.touches_records and dimension is not None:
        _check_disk(request.directory, plan)
        spec = CollectionSpec(request.collection, dimension, request.space)
        with phases("load"):
            loader = loader or choose_loader(request.directory, spec)
            parts = loader.apply(request.directory, spec, plan, progress=progress)
        phases.include(parts, of="load")
        with phases("verify"):
            verify(request.directory, spec, plan, progress=progress)
        with phases("finalize"):
            finalize(request.directory)
    if plan.touches_ledger:
        with phases("ledger"):
            request.next_ledger.write_bytes(encode_ledger(plan.ledger))
    return FoldResult(
        collection=request.collection,
        dimension=dimension,
        records_changed=plan.touches_records,
        ledger_changed=plan.touches_ledger,
        counts=plan.counts,
        conservation=plan.conservation,
        loader=loader.name if loader and plan.touches_records else None,
        seconds=phases.seconds,
    )


def _plan(request: FoldRequest) -> tuple[FoldPlan, int | None]:
    """Return the plan, proven to conserve, and the collection's dimension, if it has one by now."""
    rows = stored_rows(request.runs)
    ledger = None if request.ledger is None else decode_ledger(request.ledger.read_bytes())
    if None not in {request.dimension, rows.dimension} and request.dimension != rows.dimension:
        raise VerificationError(
            f"{request.collection}: the runs hold {rows.dimension} dimensions, the collection {request.dimension}"
        )
    plan = plan_fold(ledger, rows, base=request.base_sum)
    if not plan.conservation.holds():
        raise VerificationError(
            f"{request.collection}: the next ledger does not follow from the base: {plan.conservation!r}"
        )
    return plan, request.dimension or rows.dimension


def _check_disk(directory: Path, plan: FoldPlan) -> None:
    """Raise SnapshotTooLargeError unless the disk has room for the new rows and for SQLite to be rewritten.

    ChromaDB holds a new vector twice, in its queue and its index; VACUUM writes the database once more, and a
    journal of the pages that it replaces.
    """
    database = directory / SQLITE_FILE
    needed = 3 * plan.written_bytes + 2 * (database.stat().st_size if database.exists() else 0)
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise SnapshotTooLargeError(
            f"{directory.name}: the fold may need {needed:,} bytes of disk, {free:,} are free;"
            " raise the compactor's ephemeral storage"
        )
