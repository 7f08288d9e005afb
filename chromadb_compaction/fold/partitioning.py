"""The folds of a pass: the directories that arriving rows touch, those to be divided, and those to be joined.

A directory that would have more than PARTITION_SPLIT_RECORDS is divided into equal ones of at most
PARTITION_TARGET_RECORDS. Neighbours of which one is touched are joined if they would have less than half of that
together, so that what was divided is not joined at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from math import ceil
from typing import Final, NamedTuple, cast

import numpy as np
import pyarrow.compute as pc

from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.configuration import KeptSettings
from chromadb_compaction.fold.cost import FoldCost
from chromadb_compaction.fold.units import FoldUnit, directories_of
from chromadb_compaction.layout import LEDGER_FILE
from chromadb_compaction.manifest import CollectionSnapshot, Manifest, PartitionSnapshot
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.batch_run import RunPart
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, SampledIds
from chromadb_compaction.rows.ledger import decode_ledger
from chromadb_compaction.settings import Settings
from chromadb_compaction.snapshots.packs import read_file

MOVED_SHARE: Final = 0.25
"""The bytes of moved rows in a run, as a share of those of their directory, which has texts three times."""

LiveIds = Callable[[PartitionSnapshot], Sequence[str]]
"""Returns the live ids of a directory's ledger, ascending."""


class PartitionSizes(NamedTuple):
    """The settings of partitions, in records."""

    split: int
    target: int

    @classmethod
    def of(cls, settings: Settings) -> PartitionSizes:
        """Return those of the settings."""
        return cls(settings.partition_split_records, settings.partition_target_records)


class Arriving(NamedTuple):
    """The changes of a pass to one collection.

    Attributes:
        rows: The ids of the rows of each run.
        changes_all: Whether more than rows changes, so that all directories do.
        drops: Whether the collection is dropped. Then nothing is divided or joined: most rows will be gone.
    """

    rows: Sequence[SampledIds]
    changes_all: bool = False
    drops: bool = False

    def rows_within(self, ids: IdRange) -> int:
        """Return the most rows that the range may get."""
        return sum(each.rows_within(ids) for each in self.rows)

    def additions(self, ids: IdRange, known: Sequence[str]) -> dict[str, float]:
        """Return the sampled ids of the range that are not among those `known`, each with the rows it stands for.

        An id that several runs have sampled counts once.
        """
        found: dict[str, float] = {}
        for sampled in self.rows:
            for record_id in sampled.within(ids):
                at = max(record_id, ids.first)
                found[at] = max(found.get(at, 0.0), sampled.weight)
        for record_id in found.keys() & set(known):
            del found[record_id]
        return found


class _Planned(NamedTuple):
    """A directory of the base, or all ids of a new collection, in the next snapshot.

    Attributes:
        ids: Its ids.
        records: About the records that it will have.
        bytes: The size of its files in the base.
        is_touched: Whether it changes.
        borders: The ids at which it is divided.
    """

    ids: IdRange
    records: float
    bytes: int
    is_touched: bool
    borders: Sequence[str] = ()


class PlannedFold(NamedTuple):
    """A fold of one collection.

    Attributes:
        ids: Its ids.
        base_bytes: The bytes of the base that it needs.
        moved_bytes: Those of rows that are read out of their directory and indexed again.
        rest_bytes: The rest of that directory.
    """

    ids: IdRange
    base_bytes: int = 0
    moved_bytes: int = 0
    rest_bytes: int = 0


def fold_costs(parts: list[list[RunPart]], base: Manifest | None, services: Services) -> list[FoldCost]:
    """Return the cost of every fold of a pass, in the order of the runs and of the ids."""
    of_collection: dict[str, list[RunPart]] = {}
    for part in chain.from_iterable(parts):
        of_collection.setdefault(part.collection, []).append(part)
    if base is not None:
        base.collections.fetch(of_collection)

    def read_ids(directory: PartitionSnapshot) -> list[str]:
        ledger = decode_ledger(read_file(services.objects, directory.files[LEDGER_FILE]))
        return cast("list[str]", ledger["id"].filter(pc.invert(ledger["deleted"])).to_pylist())

    def costs_of(name: str) -> list[FoldCost]:
        known = base.collections.get(name) if base else None
        dropped = base.dropped_before(name) if base else None
        arriving = _arriving(of_collection[name], dropped)
        planned = plan_folds_of(arriving, known, PartitionSizes.of(services.settings), read_ids)
        return [_cost(name, each, of_collection[name]) for each in planned]

    return list(chain.from_iterable(in_threads(costs_of, of_collection)))


def plan_folds_of(
    arriving: Arriving, known: CollectionSnapshot | None, sizes: PartitionSizes, read_ids: LiveIds
) -> list[PlannedFold]:
    """Return the folds of a collection, at least one, in the order of their ids.

    They are disjoint, and each directory of the base is covered wholly or not at all.
    """
    if arriving.drops and known is not None:
        return [PlannedFold(ids, each.bytes) for each, ids in directories_of(known)]
    directories: Sequence[tuple[PartitionSnapshot | None, IdRange]] = directories_of(known) or [(None, ALL_IDS)]
    planned = [_plan(each, ids, arriving, sizes, read_ids) for each, ids in directories]
    folds: list[PlannedFold] = []
    for group in _neighbours(planned, sizes):
        if len(group) > 1:
            size = sum(each.bytes for each in group)
            folds.append(PlannedFold(IdRange(group[0].ids.first, group[-1].ids.end), size, size))
        else:
            folds += _folds_of(group[0])
    if not folds:
        # Nothing that arrived changes it: one directory shows that.
        folds = [PlannedFold(planned[0].ids, planned[0].bytes)]
    return folds


def _plan(
    directory: PartitionSnapshot | None, ids: IdRange, arriving: Arriving, sizes: PartitionSizes, read_ids: LiveIds
) -> _Planned:
    records = directory.records if directory else 0
    size = directory.bytes if directory else 0
    most = arriving.rows_within(ids)
    is_touched = directory is None or arriving.changes_all or most > 0
    if not is_touched or records + most <= sizes.split:
        return _Planned(ids, records + most, size, is_touched)
    known = read_ids(directory) if directory else ()
    added = arriving.additions(ids, known)
    expected = len(known) + sum(added.values())
    borders = _borders([*known, *added], [*(1.0 for _ in known), *added.values()], ids, expected, sizes)
    return _Planned(ids, expected, size, is_touched, borders)


def _borders(
    record_ids: Sequence[str], weights: Sequence[float], ids: IdRange, expected: float, sizes: PartitionSizes
) -> list[str]:
    """Return the ids, ascending and within the range, that divide the records equally. None if they are few enough."""
    if expected <= sizes.split:
        return []
    order = sorted(range(len(record_ids)), key=record_ids.__getitem__)
    before = np.cumsum([0.0, *(weights[at] for at in order)])[:-1]
    count = ceil(expected / sizes.target)
    wanted = np.searchsorted(before, [expected * number / count for number in range(1, count)])
    found = {record_ids[order[at]] for at in wanted.tolist() if at < len(order)}
    return sorted(each for each in found if each > ids.first)


def _neighbours(planned: Sequence[_Planned], sizes: PartitionSizes) -> list[list[_Planned]]:
    """Return the directories that change: neighbours to be joined together, and every other one alone."""
    groups: list[list[_Planned]] = []
    for each in planned:
        before = groups[-1] if groups else []
        together = [*before, each]
        is_small = sum(one.records for one in together) < sizes.target / 2
        if before and is_small and not any(one.borders for one in together):
            before.append(each)
        else:
            groups.append([each])
    return [group for group in groups if any(each.is_touched for each in group)]


def _folds_of(planned: _Planned) -> list[PlannedFold]:
    if not planned.borders:
        return [PlannedFold(planned.ids, planned.bytes)]
    starts = [planned.ids.first, *planned.borders, planned.ids.end]
    share = planned.bytes // (len(starts) - 1)
    rest = planned.bytes - share
    return [PlannedFold(IdRange(str(first), end), share, share, rest) for first, end in pairwise(starts)]


def _arriving(parts: Sequence[RunPart], dropped: str | None) -> Arriving:
    drops = any((part.change.dropped_before or "") > (dropped or "") for part in parts)
    states = any(part.change.settings != KeptSettings() for part in parts)
    return Arriving([part.sampled for part in parts if part.rows], changes_all=drops or states, drops=drops)


def _cost(name: str, planned: PlannedFold, arriving: Sequence[RunPart]) -> FoldCost:
    run_bytes = sum(part.bytes * part.sampled.rows_within(planned.ids) // part.rows for part in arriving if part.rows)
    moved_bytes = int(MOVED_SHARE * planned.moved_bytes)
    return FoldCost(FoldUnit(name, *planned.ids), planned.base_bytes, run_bytes + moved_bytes, planned.rest_bytes)
