"""Fold one collection in this process: base directory + ledger + runs -> the directory and the ledger to publish.

`fold_collection` reads and writes local files only. It plans, loads, verifies and finalizes. workers.py runs it for
several collections.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.chroma.bulk_loader import choose_loader
from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory, finalize
from chromadb_compaction.chroma.loader import Loader, Progress
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.disk import MORE_COMPACTOR_DISK, check_disk
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.manifest import Conservation, Fingerprint128, Space
from chromadb_compaction.native_memory import trim_memory
from chromadb_compaction.rows.ledger import FoldCounts, FoldPlan, decode_ledger, encode_ledger, plan_fold
from chromadb_compaction.rows.run_rows import stored_rows
from chromadb_compaction.times import Phases


class FoldRequest(BaseModel):
    """The inputs of one collection's fold. All paths are local.

    Attributes:
        dimension: The base's dimension. None until the first upsert.
        directory: A copy of the base's ChromaDB directory, which the fold changes in place. May be missing.
        ledger: The base's ledger. None if there is no base.
        base_sum: The `next` sum of the conservation in the base's manifest.
        next_ledger: The path that the next ledger is written to.
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
    """The outcome of one collection's fold.

    Attributes:
        records_changed: False if the directory was not changed, or is still missing.
        ledger_changed: False if the runs held nothing new, so that nothing was written.
        loader: The name of the loader that changed the records. None if no record changed.
        seconds: By phase: plan, load (and its parts load.records, load.index), verify, finalize, ledger.
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
    """Do nothing: a `Progress` that never stops the fold."""


def fold_collection(
    request: FoldRequest, *, loader: Loader | None = None, progress: Progress = no_progress
) -> FoldResult:
    """Apply the runs to the directory and the ledger. The directory is then verified, closed and ready to upload.

    ChromaDB is opened only if a record changes. `progress` is called between batches; an exception from it stops the
    fold. Raises VerificationError if the result is not what the ledger says, and SnapshotTooLargeError if the disk is
    too small. After an exception `request.directory` is unusable.
    """
    phases = Phases()
    with phases("plan"):
        plan, dimension = _plan(request)
    trim_memory()
    if plan.touches_records and dimension is not None:
        request.directory.mkdir(parents=True, exist_ok=True)
        action = f"{request.collection}: the fold"
        check_disk(request.directory, _disk_bytes(request.directory, plan), action, next_step=MORE_COMPACTOR_DISK)
        spec = CollectionSpec(request.collection, dimension, request.space)
        with phases("load"):
            create_directory(request.directory, spec)
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
    """Return the plan, whose conservation is checked, and the collection's dimension, if it has one by now."""
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


def _disk_bytes(directory: Path, plan: FoldPlan) -> int:
    """Return the most disk space that the fold needs for the new rows, and for rewriting SQLite's file.

    ChromaDB holds a new vector twice, in its queue and in its index. VACUUM writes the database again, and a journal
    of the pages that it replaces.
    """
    database = directory / SQLITE_FILE
    return 3 * plan.written_bytes + 2 * (database.stat().st_size if database.exists() else 0)
