"""The estimated cost of folds, and the most that one function may take."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from chromadb_compaction.chroma.index_build import index_threads
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.ports import Services

FOLD_SECONDS: Final = 0.1
"""The seconds of any fold, with its calls of S3: docs/performance.md measures an execution over many small ones."""
BASE_BYTES_A_SECOND: Final = 40_000_000
"""The bytes of a base that are downloaded, checked, written again, verified and uploaded in a second.

An estimate: 80 MB a second for each of the two transfers, as in infra/cost.py. `python -m benchmarks.cost_model`
measured 311 MB a second for the rest.
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

An estimate: another function must start, import its libraries and fetch its base, which takes seconds.
"""


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


class FoldLoad(NamedTuple):
    """The folds of one function together.

    Attributes:
        seconds: The time of all.
        disk: The bytes of disk of all at once.
        run_bytes: The size of their runs, which are read once for all rounds, and stay.
        largest: The most bytes of disk of one of them beside its runs.
    """

    seconds: float = 0.0
    disk: int = 0
    run_bytes: int = 0
    largest: int = 0

    @classmethod
    def of(cls, costs: Iterable[FoldCost]) -> FoldLoad:
        """Return the load of these folds."""
        load = cls()
        for cost in costs:
            load = load.with_fold(cost)
        return load

    def with_fold(self, cost: FoldCost) -> FoldLoad:
        """Return the load with one fold more."""
        return FoldLoad(
            self.seconds + cost.seconds,
            self.disk + cost.disk,
            self.run_bytes + cost.run_bytes,
            max(self.largest, cost.disk - cost.run_bytes),
        )


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

    def hold(self, load: FoldLoad) -> bool:
        """Return whether one function can do these folds in one round, and soon."""
        return load.seconds <= min(self.soon, self.seconds) and load.disk <= self.disk

    def hold_in_rounds(self, load: FoldLoad) -> bool:
        """Return whether one function can do these folds if it removes what it has uploaded before it goes on."""
        return load.seconds <= self.seconds and load.largest + load.run_bytes <= self.disk

    def halved(self) -> FoldLimits:
        """Return half of these limits."""
        return FoldLimits(self.seconds / 2, self.disk / 2, self.soon / 2)


def limits_of(services: Services) -> FoldLimits | None:
    """Return the limits of this function. None: it has no timeout, as on a person's machine, so nothing is divided."""
    seconds = services.seconds_left
    if seconds is None:
        return None
    directory = Path(services.settings.chromadb_cache_dir)
    directory.mkdir(parents=True, exist_ok=True)
    return FoldLimits(SHARE * seconds, SHARE * shutil.disk_usage(directory).free, SOON_SECONDS)
