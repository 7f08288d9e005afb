"""Fold a whole pass: `fold_pass` gets base copies and runs from S3, checks sizes, and starts the folds of workers.py.

It is the only module here that reads S3. Its caller, UploadSnapshot, publishes the results.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

from chromadb_compaction import layout
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion, KeptSettings, newer_version
from chromadb_compaction.disk import MORE_COMPACTOR_DISK, check_disk
from chromadb_compaction.fold.capacity import FoldSize, check_folds, extra_links, folds_at_once
from chromadb_compaction.fold.fold import FoldRequest, FoldResult
from chromadb_compaction.fold.workers import run_folds
from chromadb_compaction.heartbeat import Heartbeat
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.messages import UploadSnapshotRequest
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.shapes import SHAPES, CollectionChange, StoredShape
from chromadb_compaction.snapshots.base import take_copies
from chromadb_compaction.times import Phases

COPIES = "copies"
RUNS = "runs"


class FoldedCollection(NamedTuple):
    """A collection after its fold, with its settings. `directory` holds its ledger, and its ChromaDB files if any."""

    result: FoldResult
    shape: StoredShape
    directory: Path
    settings: KeptSettings
    dropped_before: DeltaVersion | None


def fold_pass(
    request: UploadSnapshotRequest,
    services: Services,
    *,
    base: Manifest | None,
    scratch: Path,
    phases: Phases,
    heartbeat: Heartbeat,
) -> list[FoldedCollection]:
    """Fold every collection that has runs, below `scratch`, and return the results in the order of the runs.

    The local copies of the base are changed in place. Raises SnapshotTooLargeError if the function's memory or disk
    is too small, and what fold_collection and `heartbeat` raise.
    """
    runs: dict[str, list[str]] = {}
    for merged in request.runs:
        if merged.run is not None or merged.change is not None:
            runs.setdefault(merged.collection, []).extend([merged.run] if merged.run else [])
    if not runs:
        return []
    changes = _read_changes(request, services)
    known = base.collections if base else {}
    shapes = _shapes(request, services)
    sizes = _sizes(request, shapes, known)
    check_folds(sizes, services.settings)
    with phases("download"):
        directories = take_copies(services, base, runs, scratch / COPIES)
    heartbeat.check()
    with phases("read_runs"):
        run_bytes = sum(merged.bytes for merged in request.runs)
        check_disk(scratch, run_bytes, "downloading the runs", next_step=MORE_COMPACTOR_DISK)
        local_runs = _download_runs(runs, services, scratch)
    heartbeat.check()
    with phases("fold"):
        requests = [
            _fold_request(shapes[name], base, changes[name], directories[name], paths)
            for name, paths in local_runs.items()
        ]
        results = run_folds(requests, progress=heartbeat.check, at_once=folds_at_once(sizes, services.settings))
    for result in results:
        phases.include(result.seconds, of="fold")
    return [
        FoldedCollection(result, shapes[each.collection], each.directory, each.settings, each.dropped_before)
        for result, each in zip(results, requests, strict=True)
    ]


def _read_changes(request: UploadSnapshotRequest, services: Services) -> dict[str, CollectionChange]:
    """Return what the pass changes beside rows, by collection."""
    stored = [merged for merged in request.runs if merged.change is not None]
    bodies = in_threads(lambda merged: services.objects.get(cast("str", merged.change)).body, stored)
    changes: dict[str, CollectionChange] = defaultdict(CollectionChange)
    for merged, body in zip(stored, bodies, strict=True):
        changes[merged.collection] = changes[merged.collection].merged(CollectionChange.model_validate_json(body))
    return changes


def _sizes(
    request: UploadSnapshotRequest,
    shapes: Mapping[str, StoredShape],
    known: Mapping[str, CollectionSnapshot],
) -> list[FoldSize]:
    vectors: Counter[str] = Counter()
    for merged in request.runs:
        if merged.run is not None:
            # A run's vectors are uncompressed, and deletes have none.
            dimension = shapes[merged.collection].dimension or 0
            links = extra_links(shapes[merged.collection].settings.max_neighbors)
            vectors[merged.collection] += min(merged.bytes, 4 * merged.rows * dimension) + links * merged.rows
    for name in vectors.keys() & known.keys():
        links = extra_links(shapes[name].settings.max_neighbors)
        vectors[name] += known[name].records * (4 * (known[name].dimension or 0) + links)
    return [FoldSize(name, size) for name, size in vectors.items()]


def _download_runs(runs: dict[str, list[str]], services: Services, scratch: Path) -> dict[str, list[Path]]:
    local: dict[str, list[Path]] = {}
    keys: list[tuple[str, Path]] = []
    for name, run_keys in runs.items():
        local[name] = [scratch / RUNS / name / key.rpartition("/")[2] for key in run_keys]
        keys.extend(zip(run_keys, local[name], strict=True))
        (scratch / RUNS / name).mkdir(parents=True)
    in_threads(lambda pair: services.objects.download(*pair), keys)
    return local


def _shapes(request: UploadSnapshotRequest, services: Services) -> dict[str, StoredShape]:
    key = layout.shapes_key(request.execution, request.pass_number)
    return {shape.collection: shape for shape in SHAPES.validate_json(services.objects.get(key).body)}


def _fold_request(
    shape: StoredShape,
    base: Manifest | None,
    change: CollectionChange,
    directory: Path,
    runs: list[Path],
) -> FoldRequest:
    known = base.collections.get(shape.collection) if base else None
    dropped = base.dropped.get(shape.collection) if base else None
    dropped_before = newer_version(dropped, change.dropped_before)
    ledger = directory / layout.LEDGER_FILE
    before = known.settings_with_function if known else KeptSettings()
    after = before.merged(change.settings).since(dropped_before).with_shape_of(shape.settings)
    return FoldRequest(
        collection=shape.collection,
        # Not the shape's dimension: its delta may have been moved since, and then the collection has no dimension yet.
        dimension=known.dimension if known else None,
        space=shape.space,
        directory=directory,
        ledger=ledger if known else None,
        base_sum=known.conservation.next if known else None,
        runs=runs,
        next_ledger=ledger,
        settings=after,
        base_settings=before if known else None,
        dropped_before=dropped_before,
        drops=dropped_before != dropped,
    )
