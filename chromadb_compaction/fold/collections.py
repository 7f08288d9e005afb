"""Fold a whole pass: `fold_pass` gets base copies and runs from S3, checks sizes, and starts the folds of workers.py.

With run_files.py it is the only module here that reads S3. Its callers are UploadSnapshot and FoldPartitions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction import layout
from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.configuration import DeltaVersion, KeptSettings
from chromadb_compaction.deltas.attempts import blaming_collections, mark_collections
from chromadb_compaction.deltas.deaths import Process, running
from chromadb_compaction.errors import OutOfTimeError, SnapshotTooLargeError
from chromadb_compaction.fold.capacity import SMALLER_PARTITIONS, fold_sizes, folds_at_once, folds_too_large
from chromadb_compaction.fold.distribution import FoldInput, FoldUnit
from chromadb_compaction.fold.fold import FoldRequest, FoldResult
from chromadb_compaction.fold.requests import FoldRequests
from chromadb_compaction.fold.run_files import download_runs
from chromadb_compaction.fold.workers import Marked, run_folds
from chromadb_compaction.heartbeat import Heartbeat
from chromadb_compaction.manifest import Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.shapes import SHAPES, CollectionChange, StoredShape
from chromadb_compaction.snapshots.base import take_copies
from chromadb_compaction.snapshots.cache import DirectoryName
from chromadb_compaction.times import Phases

log = logging.getLogger(__name__)

FOLD_SHARE: Final = 0.75
"""The share of the time left that folds may take. The rest is for uploading what was folded, and publishing it."""
COPIES = "copies"
RUNS = "runs"


class FoldedDirectory(NamedTuple):
    """A unit after its fold, with the collection's settings. `directory` has its ledger, and ChromaDB files if any."""

    unit: FoldUnit
    result: FoldResult
    shape: StoredShape
    directory: Path
    settings: KeptSettings
    dropped_before: DeltaVersion | None


class FoldedPass(NamedTuple):
    """The folds of one function.

    Attributes:
        folded: The directories after their folds, in the order of the runs and of the ids.
        too_large: The errors of the collections of which memory or disk cannot hold a fold. Their deltas stay pending.
        late: Those for which time did not suffice. Their deltas stay pending too.
        left: The units of these two. A collection is folded whole or not at all.
    """

    folded: list[FoldedDirectory]
    too_large: dict[str, SnapshotTooLargeError]
    late: dict[str, OutOfTimeError]
    left: list[FoldUnit]

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
    """Do the folds of `request`, below `scratch`.

    The local copies of the base are changed in place. A mark is written about each collection that does not fit. Raises
    what fold_collection and `heartbeat` raise. No mark is written about one for which no time was left, if others were
    folded: the next pass begins with it.
    """
    changes = _changes(request)
    units = [unit for of_collection in _by_collection(request.units, changes) for unit in of_collection]
    if not units:
        return FoldedPass([], {}, {}, [])
    if base is not None:
        base.collections.fetch(changes)
    shapes = _shapes(request, services)
    sizes = fold_sizes(request, units, shapes, base.collections if base else {}, services.settings)
    too_large = folds_too_large(sizes, services.settings)
    units = [unit for unit in units if unit.collection not in too_large]
    changes = {name: change for name, change in changes.items() if name not in too_large}
    folded: list[FoldedDirectory] = []
    late: dict[str, OutOfTimeError] = {}
    if units:
        with blaming_collections(list(changes), request.execution, services.objects):
            copies, runs = _download(
                request, units, services, base, scratch=scratch, phases=phases, heartbeat=heartbeat
            )
        progress, marked = _stopping_in_time(services, heartbeat.check), _marking(request, services)
        requests = FoldRequests(base, copies, runs, scratch=scratch, progress=progress, marked=marked)
        with phases("fold"):
            made = {unit: requests.make(unit, shapes[unit.collection], changes[unit.collection]) for unit in units}
            fitting = [each for each in made.values() if isinstance(each, FoldRequest)]
            at_once = folds_at_once(sizes, services.settings)
            outcomes = iter(run_folds(fitting, progress=progress, at_once=at_once, marked=marked))
        for unit, each in made.items():
            outcome = next(outcomes) if isinstance(each, FoldRequest) else each
            if isinstance(outcome, OutOfTimeError):
                late[unit.collection] = outcome
            elif isinstance(outcome, SnapshotTooLargeError):
                too_large[unit.collection] = outcome
            elif isinstance(each, FoldRequest):
                phases.include(outcome.seconds, of="fold")
                facts = shapes[unit.collection], each.directory, each.settings, each.dropped_before
                folded.append(FoldedDirectory(unit, outcome, *facts))
    folded = [each for each in folded if each.unit.collection not in too_large.keys() | late.keys()]
    _mark(too_large, late, request, services, is_all=not folded)
    left = [unit for unit in request.units if unit.collection in too_large.keys() | late.keys()]
    return FoldedPass(folded, too_large, late, left)


def _mark(
    too_large: Mapping[str, SnapshotTooLargeError],
    late: Mapping[str, OutOfTimeError],
    request: FoldInput,
    services: Services,
    *,
    is_all: bool,
) -> None:
    """Report the collections that stay pending, and write the marks."""
    for name, error in too_large.items():
        log.error("the deltas of %s stay pending: %s", name, error)
        mark_collections([name], error, request.execution, services.objects)
    if late:
        error = next(iter(late.values()))
        log.error("the deltas of %s stay pending: %s", ", ".join(late), error)
        if is_all:
            mark_collections(late, error, request.execution, services.objects)


def _by_collection(units: Iterable[FoldUnit], changes: Mapping[str, CollectionChange]) -> list[list[FoldUnit]]:
    """Return the units of each collection in the order of their ids, and the collections in that of the runs."""
    found: dict[str, list[FoldUnit]] = {name: [] for name in changes}
    for unit in sorted(units, key=lambda unit: unit.first):
        found[unit.collection].append(unit)
    return list(found.values())


def _download(
    request: FoldInput,
    units: Sequence[FoldUnit],
    services: Services,
    base: Manifest | None,
    *,
    scratch: Path,
    phases: Phases,
    heartbeat: Heartbeat,
) -> tuple[Mapping[DirectoryName, Path], Mapping[str, list[Path]]]:
    """Return the copies of the base's directories, and the runs of each collection."""
    known = base.collections if base else {}
    names = {
        DirectoryName(unit.collection, source.first): None
        for unit in units
        for source in unit.sources(known.get(unit.collection))
    }
    with phases("download"):
        copies = take_copies(services, base, names, scratch / COPIES)
    heartbeat.check()
    with phases("read_runs"):
        runs = download_runs(request, units, services, scratch / RUNS)
    heartbeat.check()
    return copies, runs


def _marking(request: FoldInput, services: Services) -> Marked:
    """Return the marks of work in progress for groups of folds."""
    process = Process(request.execution, request.pass_number, request.task)

    def marked(group: Sequence[FoldRequest]) -> AbstractContextManager[None]:
        names = list(dict.fromkeys(each.collection for each in group))
        firsts = "".join(each.ids.first for each in group)
        return running(process, services.objects, collections=names, part=firsts)

    return marked


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
                f" more processor time, or {SMALLER_PARTITIONS}",
            )

    return check_in_time


def _changes(request: FoldInput) -> dict[str, CollectionChange]:
    """Return the changes beside rows of every collection that is folded, in the order of the runs."""
    wanted = {unit.collection for unit in request.units}
    changes: dict[str, CollectionChange] = {}
    for part in chain.from_iterable(request.parts):
        if part.collection in wanted:
            changes[part.collection] = changes.get(part.collection, CollectionChange()).merged(part.change)
    return changes


def _shapes(request: FoldInput, services: Services) -> dict[str, StoredShape]:
    key = layout.shapes_key(request.execution, request.pass_number)
    return {shape.collection: shape for shape in SHAPES.validate_json(services.objects.get(key).body)}
