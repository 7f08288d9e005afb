"""The folds of one function: FoldRounds gets base copies and runs from S3, checks sizes, and starts workers.py.

With run_files.py it is the only module here that reads S3. Its callers are UploadSnapshot and FoldPartitions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
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
from chromadb_compaction.fold.distribution import FoldInput
from chromadb_compaction.fold.fold import FoldRequest, FoldResult
from chromadb_compaction.fold.requests import FoldRequests
from chromadb_compaction.fold.run_files import download_runs
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.fold.workers import Marked, run_folds
from chromadb_compaction.heartbeat import Heartbeat
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.shapes import SHAPES, CollectionChange, StoredShape
from chromadb_compaction.snapshots.base import return_copies, take_copies
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
    """Do the folds of `request` in one round, below `scratch`. Raises what FoldRounds.fold raises."""
    if not request.units:
        return FoldedPass([], {}, {}, [])
    rounds = FoldRounds(request, services, base=base, runs=scratch / RUNS, phases=phases, heartbeat=heartbeat)
    folded = rounds.fold(request.units, scratch)
    return FoldedPass(folded, rounds.too_large, rounds.late, rounds.mark_left(is_all=not folded))


class FoldRounds:
    """Does the folds of one function, in one round or in several, for which it reads the runs once.

    Args:
        request: The folds, of which there is at least one.
        services: The services.
        base: The manifest of the snapshot that the pass started from. None: nothing is published yet.
        runs: The directory for the runs of all rounds, which does not exist.
        phases: Gets the time of the phases.
        heartbeat: Renews the lease.

    Attributes:
        too_large: The errors of the collections of which memory or disk cannot hold a fold.
        late: Those of the collections for which time did not suffice.
    """

    def __init__(
        self,
        request: FoldInput,
        services: Services,
        *,
        base: Manifest | None,
        runs: Path,
        phases: Phases,
        heartbeat: Heartbeat,
    ) -> None:
        self._request = request
        self._services = services
        self._base = base
        self._runs_directory = runs
        self._runs: Mapping[str, list[Path]] | None = None
        self._phases = phases
        self._heartbeat = heartbeat
        self._changes = _changes(request)
        if base is not None:
            base.collections.fetch(self._changes)
        self._known: Mapping[str, CollectionSnapshot] = base.collections if base else {}
        self._shapes = _shapes(request, services)
        self._sizes = fold_sizes(request, request.units, self._shapes, self._known, services.settings)
        self.too_large = folds_too_large(self._sizes, services.settings)
        self.late: dict[str, OutOfTimeError] = {}

    @property
    def left(self) -> list[FoldUnit]:
        """The folds of the collections that stay pending. A collection is folded whole or not at all."""
        return [unit for unit in self._request.units if unit.collection in self.too_large.keys() | self.late.keys()]

    def fold(
        self, units: Sequence[FoldUnit], scratch: Path, *, later: Sequence[FoldUnit] = ()
    ) -> list[FoldedDirectory]:
        """Do the folds of a round below `scratch`, and return their directories, without those of `left`.

        The local copies of the base are changed in place. Those that are not, and that the folds of `later` rounds
        need, return to the cache. Once a fold is late, nothing more is downloaded. Raises what fold_collection and the
        heartbeat raise, and SnapshotTooLargeError if the disk cannot hold the runs, or copies of several collections.
        """
        left = set(self.left)
        units = [unit for unit in _in_order(units, self._changes) if unit not in left]
        if self.late:
            self.late |= {unit.collection: next(iter(self.late.values())) for unit in units}
        if not units or self.late:
            return []
        names = list(dict.fromkeys(unit.collection for unit in units))
        try:
            with self._phases("download"):
                copies = take_copies(self._services, self._base, self._sources(units), scratch / COPIES)
        except SnapshotTooLargeError as error:
            if len(names) > 1:
                mark_collections(names, error, self._request.execution, self._services.objects)
                raise
            self.too_large[names[0]] = error
            return []
        self._heartbeat.check()
        if self._runs is None:
            self._runs = self._download_runs()
        folded = self._fold(units, copies, self._runs, scratch)
        if self._base is not None:
            needed = self._sources(later)
            unchanged = {name: copy for name, copy in copies.items() if name in needed}
            return_copies(self._services, self._base, unchanged)
        return folded

    def mark_left(self, *, is_all: bool) -> list[FoldUnit]:
        """Report the collections that stay pending, write marks about them, and return their folds.

        No mark is written about one for which no time was left, unless that `is_all`: the next pass begins with it.
        """
        execution, objects = self._request.execution, self._services.objects
        for name, error in self.too_large.items():
            log.error("the deltas of %s stay pending: %s", name, error)
            mark_collections([name], error, execution, objects)
        if self.late:
            late = next(iter(self.late.values()))
            log.error("the deltas of %s stay pending: %s", ", ".join(self.late), late)
            if is_all:
                mark_collections(self.late, late, execution, objects)
        return self.left

    def _fold(
        self,
        units: Sequence[FoldUnit],
        copies: Mapping[DirectoryName, Path],
        runs: Mapping[str, list[Path]],
        scratch: Path,
    ) -> list[FoldedDirectory]:
        progress, marked = self._progress, _marking(self._request, self._services)
        requests = FoldRequests(self._base, copies, runs, scratch=scratch, progress=progress, marked=marked)
        with self._phases("fold"):
            made = {
                unit: requests.make(unit, self._shapes[unit.collection], self._changes[unit.collection])
                for unit in units
            }
            fitting = [each for each in made.values() if isinstance(each, FoldRequest)]
            at_once = folds_at_once(self._sizes, self._services.settings)
            outcomes = iter(run_folds(fitting, progress=progress, at_once=at_once, marked=marked))
        folded: list[FoldedDirectory] = []
        for unit, each in made.items():
            outcome = next(outcomes) if isinstance(each, FoldRequest) else each
            if isinstance(outcome, OutOfTimeError):
                self.late[unit.collection] = outcome
            elif isinstance(outcome, SnapshotTooLargeError):
                self.too_large[unit.collection] = outcome
            elif isinstance(each, FoldRequest):
                self._phases.include(outcome.seconds, of="fold")
                facts = self._shapes[unit.collection], each.directory, each.settings, each.dropped_before
                folded.append(FoldedDirectory(unit, outcome, *facts))
        left = set(self.left)
        return [each for each in folded if each.unit not in left]

    def _download_runs(self) -> Mapping[str, list[Path]]:
        """Return the runs of each collection, with the rows of all rounds."""
        left = set(self.left)
        units = [unit for unit in self._request.units if unit not in left]
        names = list(dict.fromkeys(unit.collection for unit in units))
        with blaming_collections(names, self._request.execution, self._services.objects), self._phases("read_runs"):
            found = download_runs(self._request, units, self._services, self._runs_directory)
        self._heartbeat.check()
        return found

    def _sources(self, units: Iterable[FoldUnit]) -> dict[DirectoryName, None]:
        """Return the directories of the base that these folds need, in order."""
        return {
            DirectoryName(unit.collection, source.first): None
            for unit in units
            for source in unit.sources(self._known.get(unit.collection))
        }

    @cached_property
    def _progress(self) -> Progress:
        """The check of time and lease. The time of all rounds begins with its first use, after the first download."""
        return _stopping_in_time(self._services, self._heartbeat.check)


def _in_order(units: Iterable[FoldUnit], changes: Mapping[str, CollectionChange]) -> list[FoldUnit]:
    """Return the units of each collection in the order of their ids, and the collections in that of the runs."""
    place = {name: number for number, name in enumerate(changes)}
    return sorted(units, key=lambda unit: (place[unit.collection], unit.first))


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
