"""The requests of a pass's folds, from the base, the runs and the local copies. A unit's rows are moved for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from chromadb_compaction.chroma.loader import Progress
from chromadb_compaction.configuration import KeptSettings, newer_version
from chromadb_compaction.errors import SnapshotTooLargeError
from chromadb_compaction.fold.fold import FoldRequest
from chromadb_compaction.fold.reshaping import Source, reshape
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.fold.workers import Marked, not_stopping_others
from chromadb_compaction.layout import LEDGER_FILE
from chromadb_compaction.manifest import CollectionSnapshot, Manifest
from chromadb_compaction.rows.shapes import CollectionChange, StoredShape
from chromadb_compaction.snapshots.cache import FILES, DirectoryName

FOLDED: Final = "folded"
MOVED: Final = "moved"


class FoldRequests:
    """Makes the requests of one function's folds.

    Args:
        base: The manifest of the snapshot that the pass started from. None: nothing is published yet.
        copies: The local copies of its directories.
        runs: The local runs of each collection.
        scratch: The directory for new directories and moved rows.
        progress: Called while rows are moved. An exception from it stops that.
        marked: Returns the block in which the rows of a fold are moved.
    """

    def __init__(
        self,
        base: Manifest | None,
        copies: Mapping[DirectoryName, Path],
        runs: Mapping[str, list[Path]],
        *,
        scratch: Path,
        progress: Progress,
        marked: Marked,
    ) -> None:
        self._base = base
        self._copies = copies
        self._runs = runs
        self._scratch = scratch
        self._progress = progress
        self._marked = marked
        # One source for all units that take rows from it, because it reads its ledger once.
        self._source = cache(Source)

    def make(self, unit: FoldUnit, shape: StoredShape, change: CollectionChange) -> FoldRequest | SnapshotTooLargeError:
        """Return the request of a fold: in place on the copy of a directory, or in a new one.

        If a new one gets rows of the base, they are moved first. If memory, disk or time do not suffice for that, the
        error is returned. Raises VerificationError if the base's rows are not what its ledger says.
        """
        request = self._request(unit, shape, change)
        known = self._base.collections.get(unit.collection) if self._base else None
        if known is None or unit.in_place(known):
            return request
        return not_stopping_others(lambda: self._with_moved_rows(request, known), unit.collection, self._progress)

    def _request(self, unit: FoldUnit, shape: StoredShape, change: CollectionChange) -> FoldRequest:
        known = self._base.collections.get(unit.collection) if self._base else None
        dropped = self._base.dropped_before(unit.collection) if self._base else None
        dropped_before = newer_version(dropped, change.dropped_before)
        before = known.settings_with_function if known else KeptSettings()
        after = before.merged(change.settings).since(dropped_before).with_shape_of(shape.settings)
        place = unit.in_place(known)
        directory = self._copies[unit.directory] if place else self._new_directory(unit)
        ledger = directory / LEDGER_FILE
        return FoldRequest(
            collection=unit.collection,
            # Not the shape's: its delta may have been moved since, and then the collection has no dimension yet.
            dimension=known.dimension if known else None,
            space=shape.space,
            directory=directory,
            ledger=ledger if place else None,
            base_sum=place.conservation.next if place else None,
            runs=self._runs.get(unit.collection, []),
            next_ledger=ledger,
            settings=after,
            base_settings=before if known else None,
            replaced_in_place=place.replaced_in_place if place else 0,
            dropped_before=dropped_before,
            drops=dropped_before != dropped,
            ids=unit.ids,
        )

    def _with_moved_rows(self, request: FoldRequest, known: CollectionSnapshot) -> FoldRequest:
        unit = request.unit
        sources = [
            self._source(self._copies[DirectoryName(unit.collection, each.first)], each.conservation.next)
            for each in unit.sources(known)
        ]
        with self._marked([request]):
            reshaped = reshape(
                sources,
                unit.ids,
                collection=unit.collection,
                dimension=known.dimension,
                space=known.space,
                into=self._scratch / MOVED / unit.directory.entry,
                progress=self._progress,
            )
        return request.model_copy(update=reshaped._asdict())

    def _new_directory(self, unit: FoldUnit) -> Path:
        directory = self._scratch / FOLDED / unit.directory.entry / FILES
        directory.mkdir(parents=True)
        return directory
