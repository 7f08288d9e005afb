"""The plan of a pass's folds: those that one function does, and those that other functions do at the same time.

The folds of a function are planned to end within a minute, as long as there are functions left, and never take more
than half of its timeout and half of its disk. A function that has folds for more disk does them in rounds: it uploads
and removes the directories of a round before the next one.
"""

from __future__ import annotations

import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction.chroma.index_build import index_threads
from chromadb_compaction.manifest import CollectionSnapshot, PartitionSnapshot
from chromadb_compaction.messages import MergedBatch
from chromadb_compaction.ports import Services
from chromadb_compaction.rows.batch_run import RunPart
from chromadb_compaction.rows.id_ranges import ALL_IDS, IdRange, ranges
from chromadb_compaction.snapshots.cache import DirectoryName

FOLDS: Final = "fold"
"""The name of the process in its marks of work in progress."""
FOLD_SECONDS: Final = 0.1
"""The seconds of any fold, with its calls of S3: docs/performance.md measures an execution over many small ones."""
BASE_BYTES_A_SECOND: Final = 40_000_000
"""The bytes of a base that are downloaded, checked, written again, verified and uploaded in a second.

An estimate: S3 gives one connection some 90 MB a second for each of the two transfers
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html). The rest is ten times as
fast.
"""
RUN_SECONDS_A_BYTE: Final = 6e-8
"""The seconds of a byte of runs for reading, writing and verifying it."""
INDEX_SECONDS_A_BYTE: Final = 2.6e-11
"""The seconds in which one thread indexes a byte of runs, for the square root of the bytes of base and runs.

`python -m benchmarks.cost_model` measured this and the constant before on 2 cores of x86-64 that other work shared. The
time of a record grew with the square root of the records around it, from 75 us at 2,000 to 600 us at 50,000 of 384
dimensions. The constant fits 384; with 128 dimensions the index takes 1.7 times as long, with 1,536 0.65 times.
"""
DISK_FACTOR: Final = 3
"""The disk of a fold, as a multiple of its base and runs: the copy, what it becomes, and SQLite's journal."""
SHARE: Final = 0.5
"""The share of a function's time and disk that its folds are planned to take."""
SOON_SECONDS: Final = 60.0
"""The seconds in which one function does its folds if others can do the rest.

A new function starts in some five seconds, and fetches its base itself. So shorter ones would gain less than they cost.
"""
MOST_ITEMS: Final = 40
"""The most functions that fold for a pass. It keeps the state and the history within their limits."""


class FoldUnit(NamedTuple):
    """One fold: it writes the ids of a collection from `first` to before `end` as one directory.

    An `end` of None has no limit. Without a limit on either side it is the whole collection.
    """

    collection: str
    first: str = ""
    end: str | None = None

    @property
    def ids(self) -> IdRange:
        """The ids."""
        return IdRange(self.first, self.end)

    @property
    def is_whole(self) -> bool:
        """True if it is the whole collection."""
        return self.ids == ALL_IDS

    @property
    def directory(self) -> DirectoryName:
        """The name of the directory that it writes."""
        return DirectoryName(self.collection, self.first)

    def sources(self, described: CollectionSnapshot | None) -> list[PartitionSnapshot]:
        """Return the directories of the base's collection that may have its ids, in their order."""
        return [each for each, ids in directories_of(described) if ids.overlaps(self.ids)]

    def in_place(self, described: CollectionSnapshot | None) -> PartitionSnapshot | None:
        """Return the directory that has exactly its ids: the fold changes a copy of it. None: it writes another."""
        return next((each for each, ids in directories_of(described) if ids == self.ids), None)


def directories_of(described: CollectionSnapshot | None) -> list[tuple[PartitionSnapshot, IdRange]]:
    """Return the directories of a collection with their ids. None: it has none."""
    if described is None:
        return []
    directories = described.directories
    return list(zip(directories, ranges([each.first for each in directories]), strict=True))


class FoldCost(NamedTuple):
    """The estimated cost of one fold.

    Attributes:
        unit: The fold.
        base_bytes: The size of the base's files.
        run_bytes: The size of the runs.
        rest_bytes: The size of the rest of the directories that rows are moved out of. It is on the disk too.
    """

    unit: FoldUnit
    base_bytes: int
    run_bytes: int
    rest_bytes: int = 0

    @property
    def seconds(self) -> float:
        """The time in this function, with all transfers."""
        return self.seconds_on(index_threads())

    def seconds_on(self, threads: int) -> float:
        """Return the time with so many threads for the index."""
        index = INDEX_SECONDS_A_BYTE * math.sqrt(self.base_bytes + self.run_bytes)
        of_run = RUN_SECONDS_A_BYTE + index / threads
        return FOLD_SECONDS + self.base_bytes / BASE_BYTES_A_SECOND + self.run_bytes * of_run

    @property
    def disk(self) -> int:
        """The bytes of disk."""
        return DISK_FACTOR * (self.base_bytes + self.run_bytes) + self.rest_bytes


class FoldLimits(NamedTuple):
    """The most that the folds of one function may take. One fold alone may take more.

    Attributes:
        seconds: The time of all.
        disk: The bytes of disk of those that are there at once.
        soon: The time of all, as long as other functions are left.
    """

    seconds: float
    disk: float
    soon: float = math.inf

    def hold(self, costs: Sequence[FoldCost]) -> bool:
        """Return whether one function can do these folds in one round, and soon."""
        is_soon = sum(cost.seconds for cost in costs) <= self.soon
        return is_soon and sum(cost.disk for cost in costs) <= self.disk and self.hold_in_rounds(costs)

    def hold_in_rounds(self, costs: Sequence[FoldCost]) -> bool:
        """Return whether one function can do these folds if it removes what it has uploaded before it goes on."""
        # The runs of all rounds are read once, and stay.
        most = max((cost.disk - cost.run_bytes for cost in costs), default=0)
        disk = most + sum(cost.run_bytes for cost in costs)
        return disk <= self.disk and sum(cost.seconds for cost in costs) <= self.seconds

    def halved(self) -> FoldLimits:
        """Return half of these limits."""
        return FoldLimits(self.seconds / 2, self.disk / 2, self.soon / 2)


class FoldInput(NamedTuple):
    """The folds that one function does.

    Attributes:
        execution: The execution.
        pass_number: The pass.
        runs: The merged batches of the whole pass.
        parts: The parts of each of these runs.
        units: The folds.
        task: The name of the process in its marks of work in progress.
    """

    execution: str
    pass_number: int
    runs: list[MergedBatch]
    parts: list[list[RunPart]]
    units: Sequence[FoldUnit]
    task: str = FOLDS


class FoldPlan(NamedTuple):
    """The folds of a pass.

    Attributes:
        here: Those that UploadSnapshot does.
        items: Those that other functions do, one function for each item.
        left: Those for which no function is left. A later pass does them.
    """

    here: tuple[FoldUnit, ...]
    items: tuple[tuple[FoldUnit, ...], ...] = ()
    left: tuple[FoldUnit, ...] = ()


def limits_of(services: Services) -> FoldLimits | None:
    """Return the limits of this function. None: it has no timeout, as on a person's machine, so nothing is divided."""
    seconds = services.seconds_left
    if seconds is None:
        return None
    directory = Path(services.settings.chromadb_cache_dir)
    directory.mkdir(parents=True, exist_ok=True)
    return FoldLimits(SHARE * seconds, SHARE * shutil.disk_usage(directory).free, SOON_SECONDS)


def plan_folds(costs: Sequence[FoldCost], limits: FoldLimits | None) -> FoldPlan:
    """Return the plan. If one function can do all folds soon and in one round, or there is only one, it has no items.

    Otherwise UploadSnapshot keeps the smallest, as many as half of the limits hold: it also publishes. The others are
    packed into as few items as possible that end soon and in one round, the largest first. Only beyond MOST_ITEMS items
    take longer, or have more rounds. A fold that exceeds the limits alone has its own item. The folds of one collection
    are all planned or all left.
    """
    if limits is None or len(costs) < 2 or limits.hold(costs):
        return FoldPlan(tuple(cost.unit for cost in costs))
    smallest_first = sorted(costs, key=lambda cost: (cost.seconds, cost.disk))
    kept = 0
    while limits.halved().hold(smallest_first[: kept + 1]):
        kept += 1
    here, others = smallest_first[:kept], smallest_first[kept:]
    items: list[list[FoldCost]] = []
    left: list[FoldCost] = []
    for group in _by_collection(reversed(others)):
        packed = _packed(group, items, limits)
        if packed is None and not any(items):
            # It alone needs more functions than there are, and would be left for ever.
            packed = [group[number::MOST_ITEMS] for number in range(MOST_ITEMS)]
        if packed is None:
            name = group[0].unit.collection
            left += [*(cost for cost in here if cost.unit.collection == name), *group]
            here = [cost for cost in here if cost.unit.collection != name]
        else:
            items = packed
    return FoldPlan(
        tuple(cost.unit for cost in here),
        tuple(tuple(cost.unit for cost in item) for item in items),
        tuple(cost.unit for cost in left),
    )


def _by_collection(costs: Iterable[FoldCost]) -> list[list[FoldCost]]:
    """Return the folds of each collection together, in the order of their first ones.

    A collection that needs more items than there are comes first.
    """
    groups: dict[str, list[FoldCost]] = defaultdict(list)
    for cost in costs:
        groups[cost.unit.collection].append(cost)
    return sorted(groups.values(), key=lambda group: len(group) <= MOST_ITEMS)


def _packed(
    group: Sequence[FoldCost], items: Sequence[list[FoldCost]], limits: FoldLimits
) -> list[list[FoldCost]] | None:
    """Return the items with the folds of `group`. None: they do not fit into MOST_ITEMS."""
    packed = [list(item) for item in items]
    for cost in group:
        fitting = next((item for item in packed if limits.hold([*item, cost])), None)
        if fitting is None and len(packed) < MOST_ITEMS:
            fitting = []
            packed.append(fitting)
        if fitting is None:
            by_seconds = sorted(packed, key=lambda item: sum(each.seconds for each in item))
            fitting = next((item for item in by_seconds if limits.hold_in_rounds([*item, cost])), None)
        if fitting is None:
            return None
        fitting.append(cost)
    return packed


def rounds(disk: Mapping[FoldUnit, int], limits: FoldLimits | None) -> list[list[FoldUnit]]:
    """Return the folds of one function in rounds, in the order of their ids.

    `disk` has the bytes of disk of each. As many as fit together make a round, and one alone may take more. None: all.
    """
    found: list[list[FoldUnit]] = []
    most = math.inf if limits is None else limits.disk
    taken = 0
    for unit in sorted(disk, key=lambda unit: (unit.collection, unit.first)):
        taken += disk[unit]
        if not found or taken > most:
            found.append([])
            taken = disk[unit]
        found[-1].append(unit)
    return found
