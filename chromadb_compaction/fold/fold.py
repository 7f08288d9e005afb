"""Fold one collection in this process: base directory + ledger + runs -> the directory and the ledger to publish.

`fold_collection` reads and writes local files only. It plans, loads, verifies and finalizes. workers.py runs it for
several collections.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.chroma.bulk_loader import choose_loader
from chromadb_compaction.chroma.client import SQLITE_FILE, CollectionSpec, create_directory, finalize
from chromadb_compaction.chroma.loader import Loader, Progress
from chromadb_compaction.chroma.verification import verify
from chromadb_compaction.configuration import DeltaVersion, KeptSettings, Space
from chromadb_compaction.disk import MORE_COMPACTOR_DISK, check_disk
from chromadb_compaction.errors import VerificationError
from chromadb_compaction.fold.kept_settings import write_settings
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.manifest import Conservation, Fingerprint128
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange
from chromadb_compaction.rows.ledger import (
    Drop,
    FoldCounts,
    FoldPlan,
    decode_ledger,
    encode_ledger,
    newest_delta,
    plan_fold,
)
from chromadb_compaction.rows.moved import into_new_directory
from chromadb_compaction.rows.native_memory import trim_memory
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
        settings: The settings that the collection has afterwards.
        base_settings: The settings of the base. None if there is no base.
        dropped_before: The newest drop of the collection. None: it was never dropped.
        drops: Whether the base does not know this drop.
        replaced_in_place: The vectors that earlier releases have replaced in place since the index was built.
        ids: The ids that are folded: those of a partition, or all. Other rows of the runs are not read.
        moved: The live base rows of these ids as a run, if they are not exactly one directory of the base
            (reshaping.reshape). Then `directory` is empty, and the fold writes all rows to it.
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
    settings: KeptSettings = KeptSettings()
    base_settings: KeptSettings | None = None
    dropped_before: DeltaVersion | None = None
    drops: bool = False
    replaced_in_place: int = 0
    ids: IdRange = ALL_IDS
    moved: Path | None = None

    @property
    def unit(self) -> FoldUnit:
        """The name of this fold in its pass."""
        return FoldUnit(self.collection, *self.ids)


class FoldResult(BaseModel):
    """The outcome of one collection's fold.

    Attributes:
        records_changed: False if no record was changed.
        changed: False if there was nothing new, so that nothing was written. Always true of a new directory.
        exists: False if a drop has left nothing of the collection.
        newest: The newest delta of which the ledger has a row. None: it has no row.
        loader: The name of the loader that wrote records. None if none did.
        replaced_in_place: As in the request, after this fold.
        seconds: By phase: plan, load (and its parts load.records, load.index), verify, finalize, ledger.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    dimension: int | None
    records_changed: bool
    changed: bool
    exists: bool
    newest: DeltaVersion | None
    counts: FoldCounts
    conservation: Conservation
    loader: str | None
    seconds: dict[str, float]
    replaced_in_place: int = 0


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
    if plan.restarts:
        shutil.rmtree(request.directory, ignore_errors=True)
        request.directory.mkdir(parents=True)
        request = request.model_copy(update={"dimension": None, "base_settings": None, "replaced_in_place": 0})
    if request.moved is not None:  # to an index of its own
        request = request.model_copy(update={"replaced_in_place": 0})
    exists = plan.ledger.num_rows > 0 or request.settings.stated is not None
    is_restated = request.settings != (request.base_settings or KeptSettings())
    changed = plan.touches_ledger or request.drops or is_restated or request.moved is not None
    replaced = request.replaced_in_place
    if plan.touches_directory and dimension is not None:
        loader, replaced = _load(request, plan, dimension, loader, phases=phases, progress=progress)
    elif changed and exists:
        with phases("settings"):
            _keep_settings(request, CollectionSpec(request.collection, dimension or 1, request.space))
    if changed and exists:
        with phases("ledger"):
            request.next_ledger.write_bytes(encode_ledger(plan.ledger))
    newest = newest_delta(plan.ledger)
    return FoldResult(
        collection=request.collection,
        # Late upserts of deleted ids have a dimension, but give the collection none.
        dimension=dimension if plan.touches_directory else request.dimension,
        records_changed=plan.touches_records,
        changed=changed,
        exists=exists,
        newest=str(newest) if newest else None,
        counts=plan.counts,
        conservation=plan.conservation,
        loader=loader.name if loader and plan.touches_directory else None,
        seconds=phases.seconds,
        replaced_in_place=replaced,
    )


def _load(
    request: FoldRequest,
    plan: FoldPlan,
    dimension: int,
    loader: Loader | None,
    *,
    phases: Phases,
    progress: Progress,
) -> tuple[Loader, int]:
    """Apply the plan to the directory. Return the loader that did it, and what is now `replaced_in_place`."""
    spec = CollectionSpec(request.collection, dimension, request.space)
    request.directory.mkdir(parents=True, exist_ok=True)
    action = f"{request.collection}: the fold"
    check_disk(request.directory, _disk_bytes(request.directory, plan), action, next_step=MORE_COMPACTOR_DISK)
    with phases("load"):
        _create(request, spec)
        loader = loader or choose_loader(request.directory, spec, replaced_in_place=request.replaced_in_place)
        loaded = loader.apply(request.directory, spec, plan, progress=progress)
    phases.include(loaded.seconds, of="load")
    with phases("verify"):
        verify(request.directory, spec, plan, index=loaded.index_files, progress=progress)
    with phases("finalize"):
        finalize(request.directory)
    replaced = loaded.replaced_in_place
    return loader, request.replaced_in_place if replaced is None else replaced


def _keep_settings(request: FoldRequest, spec: CollectionSpec) -> None:
    """Write the settings of a collection of which no record changes.

    It is created if a delta states it, or if it had records in a directory before this one.
    """
    had_records = request.moved is not None and request.dimension is not None
    if request.settings.stated or had_records or (request.directory / SQLITE_FILE).exists():
        _create(request, spec)
        finalize(request.directory)


def _create(request: FoldRequest, spec: CollectionSpec) -> None:
    """Create the directory unless it is there, and write the settings unless it has them.

    So one without settings stays as ChromaDB made it. A partition that has had no record yet has no directory either.
    """
    before = request.base_settings if (request.directory / SQLITE_FILE).exists() else None
    create_directory(request.directory, spec)
    if request.settings.values != (before or KeptSettings()).values:
        write_settings(request.directory, request.settings)


def _plan(request: FoldRequest) -> tuple[FoldPlan, int | None]:
    """Return the plan, whose conservation is checked, and the collection's dimension, if it has one by now."""
    rows = stored_rows(request.runs, request.ids)
    ledger = None if request.ledger is None else decode_ledger(request.ledger.read_bytes())
    if ledger is not None and not request.ids.mask(ledger["id"]).all():
        raise VerificationError(f"{request.collection}: the ledger has ids outside its partition, {request.ids}")
    drop = Drop(UUID(request.dropped_before).bytes, request.drops) if request.dropped_before else None
    plan = plan_fold(ledger, rows, base=request.base_sum, drop=drop)
    if request.moved is not None:
        plan = into_new_directory(plan, rows, stored_rows([request.moved]), collection=request.collection)
    before = None if plan.restarts else request.dimension
    if None not in {before, rows.dimension} and before != rows.dimension:
        raise VerificationError(
            f"{request.collection}: the runs hold {rows.dimension} dimensions, the collection {before}"
        )
    if not plan.conservation.holds():
        raise VerificationError(
            f"{request.collection}: the next ledger does not follow from the base: {plan.conservation!r}"
        )
    return plan, before or rows.dimension


def _disk_bytes(directory: Path, plan: FoldPlan) -> int:
    """Return the most disk space that the fold needs for the new rows, and for rewriting SQLite's file.

    ChromaDB holds a new vector twice, in its queue and in its index. VACUUM writes the database again, and a journal
    of the pages that it replaces.
    """
    database = directory / SQLITE_FILE
    return 3 * plan.written_bytes + 2 * (database.stat().st_size if database.exists() else 0)
