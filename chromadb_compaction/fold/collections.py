"""Fold a whole pass: `fold_pass` gets base copies and runs from S3, checks sizes, and starts the folds of workers.py.

It is the only module here that reads S3. Its callers are UploadSnapshot and FoldPartitions.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import DeltaVersion, KeptSettings, newer_version
from chromadb_compaction.deltas.attempts import blaming_collections, mark_collections
from chromadb_compaction.deltas.deaths import Process, running
from chromadb_compaction.disk import MORE_COMPACTOR_DISK, check_disk
from chromadb_compaction.errors import OutOfTimeError, SnapshotTooLargeError
from chromadb_compaction.fold.capacity import FoldSize, extra_links, folds_at_once, folds_too_large
from chromadb_compaction.fold.distribution import FoldInput, FoldUnit
from chromadb_compaction.fold.fold import FoldRequest, FoldResult
from chromadb_compaction.fold.workers import FoldOutcome, run_folds
from chromadb_compaction.heartbeat import Heartbeat
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.messages import MergedBatch
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.batch_run import RUN_PARTS, RunPart, split
from chromadb_compaction.rows.shapes import SHAPES, CollectionChange, StoredShape
from chromadb_compaction.snapshots.base import take_copies
from chromadb_compaction.times import Phases

log = logging.getLogger(__name__)

FOLD_SHARE: Final = 0.75
"""The share of the time left that folds may take. The rest is for uploading what was folded, and publishing it."""
COPIES = "copies"
RUNS = "runs"


class FoldedCollection(NamedTuple):
    """A collection after its fold, with its settings. `directory` holds its ledger, and its ChromaDB files if any."""

    result: FoldResult
    shape: StoredShape
    directory: Path
    settings: KeptSettings
    dropped_before: DeltaVersion | None


class FoldedPass(NamedTuple):
    """The folds of one function.

    Attributes:
        folded: The collections after their folds, in the order of the runs.
        too_large: The errors of the collections whose fold memory or disk cannot hold. Their deltas stay pending.
        late: Those that time did not suffice to fold. Their deltas stay pending too.
    """

    folded: list[FoldedCollection]
    too_large: dict[str, SnapshotTooLargeError]
    late: dict[str, OutOfTimeError]

    @property
    def error(self) -> SnapshotTooLargeError | None:
        """The first error. None: every fold fitted."""
        return next(iter((self.too_large | self.late).values()), None)


def fold_pass(
    request: FoldInput,
    services: Services,
    *,
    base: Manifest | None,
    scratch: Path,
    phases: Phases,
    heartbeat: Heartbeat,
) -> FoldedPass:
    """Fold the collections of `request`, below `scratch`.

    The local copies of the base are changed in place. A mark is written about each collection that does not fit. Raises
    what fold_collection and `heartbeat` raise. No mark is written about one for which no time was left, if others were
    folded: the next pass begins with it.
    """
    parts = [[part for part in of_run if _is_wanted(part, request)] for of_run in request.parts]
    changes = _changes(parts)
    if not changes:
        return FoldedPass([], {}, {})
    if base is not None:
        base.collections.fetch(changes)
    shapes = _shapes(request, services)
    sizes = _sizes(parts, shapes, base.collections if base else {})
    too_large = folds_too_large(sizes, services.settings)
    changes = {name: change for name, change in changes.items() if name not in too_large}
    folded: list[FoldedCollection] = []
    late: dict[str, OutOfTimeError] = {}
    if changes:
        with blaming_collections(changes, request.execution, services.objects):
            directories, runs = _download(request, parts, changes, services, base, scratch, phases, heartbeat)
        requests = [
            _fold_request(shapes[name], base, change, directories[name], runs[name]) for name, change in changes.items()
        ]
        with phases("fold"):
            outcomes = _run_folds(requests, request, services, sizes, heartbeat)
        for each, outcome in zip(requests, outcomes, strict=True):
            if isinstance(outcome, OutOfTimeError):
                late[each.collection] = outcome
            elif isinstance(outcome, SnapshotTooLargeError):
                too_large[each.collection] = outcome
            else:
                phases.include(outcome.seconds, of="fold")
                shape = shapes[each.collection]
                folded.append(FoldedCollection(outcome, shape, each.directory, each.settings, each.dropped_before))
    for name, error in too_large.items():
        log.error("the deltas of %s stay pending: %s", name, error)
        mark_collections([name], error, request.execution, services.objects)
    if late:
        error = next(iter(late.values()))
        log.error("the deltas of %s stay pending: %s", ", ".join(late), error)
        if not folded:
            mark_collections(late, error, request.execution, services.objects)
    return FoldedPass(folded, too_large, late)


def _is_wanted(part: RunPart, request: FoldInput) -> bool:
    return request.units is None or FoldUnit(part.collection) in request.units


def _download(  # noqa: PLR0917 - a part of fold_pass
    request: FoldInput,
    parts: list[list[RunPart]],
    changes: Mapping[str, CollectionChange],
    services: Services,
    base: Manifest | None,
    scratch: Path,
    phases: Phases,
    heartbeat: Heartbeat,
) -> tuple[Mapping[str, Path], Mapping[str, list[Path]]]:
    """Return the directories with the copies of the base, and the runs of each collection."""
    with phases("download"):
        directories = take_copies(services, base, changes, scratch / COPIES)
    heartbeat.check()
    with phases("read_runs"):
        # A run of several collections is split, which needs its size once more.
        check_disk(scratch, _bytes_to_split(request, parts), "downloading the runs", next_step=MORE_COMPACTOR_DISK)
        runs = _download_runs(request, parts, services, scratch / RUNS)
    heartbeat.check()
    return directories, runs


def _run_folds(
    requests: Sequence[FoldRequest],
    request: FoldInput,
    services: Services,
    sizes: Sequence[FoldSize],
    heartbeat: Heartbeat,
) -> list[FoldOutcome]:
    process = Process(request.execution, request.pass_number, request.task)

    def marked(group: Sequence[FoldRequest]) -> AbstractContextManager[None]:
        return running(process, services.objects, collections=[each.collection for each in group])

    at_once = folds_at_once(sizes, services.settings)
    progress = _stopping_in_time(services, heartbeat.check)
    return run_folds(requests, progress=progress, at_once=at_once, marked=marked)


def _stopping_in_time(services: Services, check: Progress) -> Progress:
    """Return a check that also raises OutOfTimeError as soon as only the time for the uploads is left."""
    left = services.seconds_left
    if left is None:
        return check
    begun = services.clock()

    def check_in_time() -> None:
        check()
        taken = services.clock() - begun
        if taken > left * FOLD_SHARE:
            raise OutOfTimeError(
                f"the folds have taken {taken:.0f} s, and the function's timeout leaves {left - taken:.0f} s",
                next_step="the next pass is smaller; if that fails too, give the compactor more memory, which gives it"
                " more processor time, or divide the collection",
            )

    return check_in_time


def read_parts(runs: Sequence[MergedBatch], services: Services) -> list[list[RunPart]]:
    """Return the parts of each of these runs."""
    return in_threads(
        lambda merged: RUN_PARTS.validate_json(services.objects.get(merged.parts).body) if merged.parts else [],
        runs,
    )


def _changes(parts: list[list[RunPart]]) -> dict[str, CollectionChange]:
    """Return the changes beside rows of every collection that the pass changes, in the order of the runs."""
    changes: dict[str, CollectionChange] = {}
    for part in chain.from_iterable(parts):
        changes[part.collection] = changes.get(part.collection, CollectionChange()).merged(part.change)
    return changes


def _sizes(
    parts: list[list[RunPart]], shapes: Mapping[str, StoredShape], known: Mapping[str, CollectionSnapshot]
) -> list[FoldSize]:
    vectors: Counter[str] = Counter()
    for part in chain.from_iterable(parts):
        if part.rows:
            # A run's vectors are uncompressed, and deletes have none.
            dimension = shapes[part.collection].dimension or 0
            links = extra_links(shapes[part.collection].settings.max_neighbors)
            vectors[part.collection] += min(part.bytes, 4 * part.rows * dimension) + links * part.rows
    for name in vectors.keys() & known.keys():
        links = extra_links(shapes[name].settings.max_neighbors)
        vectors[name] += known[name].records * (4 * (known[name].dimension or 0) + links)
    return [FoldSize(name, size) for name, size in vectors.items()]


def _bytes_to_split(request: FoldInput, parts: list[list[RunPart]]) -> int:
    runs = [merged for merged, of_run in zip(request.runs, parts, strict=True) if of_run]
    return sum(merged.bytes for merged in runs) + max((each.bytes for each in runs if each.collections > 1), default=0)


def _download_runs(
    request: FoldInput, parts: list[list[RunPart]], services: Services, directory: Path
) -> dict[str, list[Path]]:
    """Download the runs that have `parts`, and split them. Return each collection's own, in the order of the batches.

    A run with rows of one collection is that collection's, so all of its parts are needed to split it.
    """
    directory.mkdir()
    stored = [
        (merged.run, directory / f"{number:04d}", of_run)
        for number, (merged, of_run, wanted) in enumerate(zip(request.runs, request.parts, parts, strict=True))
        if merged.run is not None and wanted
    ]
    in_threads(lambda each: services.objects.download(each[0], each[1].with_suffix(".parquet")), stored)
    local: dict[str, list[Path]] = defaultdict(list)
    # One after the other: each one's parts take its size again, until it is removed.
    for _, run, of_run in stored:
        for collection, file in split(run.with_suffix(".parquet"), of_run, run).items():
            local[collection].append(file)
    return local


def _shapes(request: FoldInput, services: Services) -> dict[str, StoredShape]:
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
        replaced_in_place=known.replaced_in_place if known else 0,
        dropped_before=dropped_before,
        drops=dropped_before != dropped,
    )
