"""Compute what collections too large for one machine take on Lambda.

The plans are the real ones: of batches and passes, of the directories that a pass divides, joins and folds, and of the
functions among which it shares them. The seconds of a fold are those of the cost model that these plans use
(fold.cost). The other seconds and sizes are `Rates`, which `--scale` measures on a real collection. It also
simulates that collection with the cores of its machine, and writes the simulated seconds beside the measured ones.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.on_lambda import Platform, dollars_of_functions, dollars_of_requests, span
from chromadb_compaction.fold.collections import FOLD_SHARE
from chromadb_compaction.fold.cost import FoldCost
from chromadb_compaction.fold.distribution import plan_folds
from chromadb_compaction.fold.partitioning import MOVED_SHARE, Arriving, PartitionSizes, PlannedFold, plan_folds_of
from chromadb_compaction.fold.units import FoldUnit
from chromadb_compaction.manifest import CollectionSnapshot, Conservation, PartitionSnapshot
from chromadb_compaction.manifest.collection import totals
from chromadb_compaction.manifest.stored import StoredFile
from chromadb_compaction.planning import ObjectInfo, PassLimits, plan_batches
from chromadb_compaction.rows.id_ranges import LEAST_SAMPLES, SAMPLE_ROWS, IdRange, SampledIds
from chromadb_compaction.settings import Settings
from infra import prices

NAME: Final = "docs"
GIGABYTE: Final = 10**9
RANDOM_IDS: Final = 10**12
"""Ids are numbers with thirteen digits. Random ones are below this, ascending ones begin here."""
OTHER_STATES: Final = 12
"""The state transitions of an execution beside those of its Maps: infra/cost.py."""
KEPT_DAYS: Final = 4
"""The days for which a replaced file is stored: one in a kept snapshot, three as a pruned one."""

Order = Literal["ascending", "random"]


class Rates(NamedTuple):
    """Measured seconds and sizes.

    Attributes:
        delta_bytes: The bytes of a row in a delta.
        run_bytes: The bytes of a row in a run.
        record_bytes: The bytes of a record in a snapshot.
        memory_bytes: The memory of a record in an open snapshot.
        merge: The seconds in which MergeBatch reads and merges a row, on one core.
        clean_up: The seconds in which CleanUp archives a delta.
        fixed: The seconds of a pass beside merging, folding and archiving.
    """

    delta_bytes: float
    run_bytes: float
    record_bytes: float
    memory_bytes: float
    merge: float
    clean_up: float
    fixed: float


_SETTINGS: Final = Settings(chromadb_bucket="simulated")


class _Directory(NamedTuple):
    """A directory of the collection, whose ids are spread evenly from `low` to before `high`."""

    first: str
    records: float
    low: int
    high: int

    def records_within(self, begin: int, end: int) -> float:
        common = min(end, self.high) - max(begin, self.low)
        return self.records * common / (self.high - self.low) if common > 0 else 0.0


class Passed(NamedTuple):
    """One pass, or several together.

    Attributes:
        passes: The number of passes.
        executions: The number of executions.
        seconds: From the beginning to the end.
        folding: The seconds of these in which anything is folded.
        functions: The most functions that folded for one pass, beside UploadSnapshot.
        folds: The number of folds.
        longest: The longest time that one function folded.
        written: The bytes written to snapshot/.
        dollars: The price of functions, requests and transitions.
    """

    passes: int = 0
    executions: int = 0
    seconds: float = 0.0
    folding: float = 0.0
    functions: int = 0
    folds: int = 0
    longest: float = 0.0
    written: float = 0.0
    dollars: float = 0.0

    def then(self, following: Passed) -> Passed:
        """Return this and what follows together."""
        together = Passed(*(cast("Any", one + other) for one, other in zip(self, following, strict=True)))
        return together._replace(
            functions=max(self.functions, following.functions), longest=max(self.longest, following.longest)
        )

    @property
    def storing(self) -> float:
        """The price of storing what it has written, as long as that is kept after it was replaced."""
        return self.written / GIGABYTE * prices.S3_GB_MONTH * KEPT_DAYS * 24 / prices.HOURS_A_MONTH


class Simulation:
    """A simulated collection of vectors of one dimension, without tombstones.

    Args:
        rates: The measured rates.
        platform: The machine.
        records: The records that it has at the beginning, in directories of the target size.
    """

    def __init__(self, rates: Rates, platform: Platform, *, records: int = 0) -> None:
        self._rates, self._platform = rates, platform
        self._sizes = PartitionSizes.of(_SETTINGS)
        self._next = RANDOM_IDS
        count = -(-records // self._sizes.target)
        borders = np.linspace(0, RANDOM_IDS, count + 1).astype(np.int64).tolist()
        self._directories = [
            _Directory(_id(low) if number else "", records / count, low, high)
            for number, (low, high) in enumerate(pairwise(borders))
        ]
        self._rng = np.random.default_rng(1)

    @property
    def directories(self) -> int:
        """The number of its directories."""
        return len(self._directories)

    @property
    def records(self) -> float:
        """The number of its records."""
        return sum(each.records for each in self._directories)

    def write(self, rows: int, rows_of_delta: int, order: Order) -> Passed:
        """Write so many rows, and run executions until all are merged."""
        done = Passed()
        deltas = -(-rows // rows_of_delta)
        while deltas:
            execution = Passed(executions=1, dollars=OTHER_STATES * prices.STATE_TRANSITION)
            passes = 0
            while deltas and passes < _SETTINGS.max_passes:
                merged, one = self._pass(deltas, rows_of_delta, order)
                deltas -= merged
                passes += 2 if one.functions else 1
                execution = execution.then(one)
            done = done.then(execution)
        return done

    def _pass(self, deltas: int, rows: int, order: Order) -> tuple[int, Passed]:
        """Return the number of deltas that the pass merges, and the pass."""
        rates, platform = self._rates, self._platform
        batches = _batches(deltas, round(rows * rates.delta_bytes))
        arrived = [np.sort(self._numbers(batch * rows, order)) for batch in batches]
        folds = self._plan([_sampled(numbers) for numbers in arrived])
        numbers = np.sort(np.concatenate(arrived))
        costs = [self._cost(fold, numbers) for fold in folds]
        plan = plan_folds(costs, platform.limits)
        seconds_of = {cost.unit: cost.seconds for cost in costs}
        merges = [batch * rows * rates.merge for batch in batches]
        here = sum(seconds_of[unit] for unit in plan.here)
        items = [sum(seconds_of[unit] for unit in item) for item in plan.items]
        merged = sum(batches)
        written = self._apply(folds, numbers)
        clean_up = merged * rates.clean_up
        folding = here + span(items, platform.folds_at_once)
        return merged, Passed(
            passes=1,
            seconds=rates.fixed + span(merges, platform.merges_at_once) + folding + clean_up,
            folding=folding,
            functions=len(items),
            folds=len(costs),
            longest=max([here, *items]),
            written=written,
            dollars=dollars_of_functions(merges, items, here + rates.fixed, clean_up)
            + dollars_of_requests(merged, written),
        )

    def _numbers(self, rows: int, order: Order) -> NDArray[np.int64]:
        """Return the ids of new rows."""
        if order == "random":
            return self._rng.integers(RANDOM_IDS, size=rows)
        self._next += rows
        return np.arange(self._next - rows, self._next)

    def _plan(self, arrived: list[SampledIds]) -> list[PlannedFold]:
        """Return the folds of a pass, as UploadSnapshot plans them."""
        known = {each.first: each for each in self._directories}

        def read_ids(directory: PartitionSnapshot) -> list[str]:
            of = known[directory.first]
            return [_id(number) for number in np.linspace(of.low, of.high, round(of.records), dtype=np.int64).tolist()]

        return plan_folds_of(Arriving(arrived), self._described(), self._sizes, read_ids)

    def _described(self) -> CollectionSnapshot | None:
        """Return what the manifest says of the collection. None: it is new."""
        if not self._directories:
            return None
        directories = [self._stored(each) for each in self._directories]
        shape = {"dimension": 1, "space": "l2", "embedding_function": None}
        if len(directories) > 1:
            return CollectionSnapshot.model_validate(
                shape | totals(directories) | {"files": {}, "partitions": directories}
            )
        return CollectionSnapshot.model_validate(shape | directories[0].model_dump(exclude={"first"}))

    def _stored(self, directory: _Directory) -> PartitionSnapshot:
        """Return what the manifest says of a directory, as if it had one file and its rows were nothing."""
        size = round(directory.records * self._rates.record_bytes)
        return PartitionSnapshot(
            first=directory.first,
            records=round(directory.records),
            tombstones=0,
            conservation=Conservation.unchanged(f"{0:032x}"),
            files={"chroma.sqlite3": StoredFile(key="simulated", bytes=size, sha256=f"{0:064x}")},
        )

    def _cost(self, fold: PlannedFold, numbers: NDArray[np.int64]) -> FoldCost:
        begin, end = np.searchsorted(numbers, _numbers_of(fold.ids))
        run_bytes = (end - begin) * self._rates.run_bytes + MOVED_SHARE * fold.moved_bytes
        return FoldCost(FoldUnit(NAME, *fold.ids), fold.base_bytes, int(run_bytes))

    def _apply(self, folds: Sequence[PlannedFold], numbers: NDArray[np.int64]) -> float:
        """Replace the directories that the folds change, and return the bytes of the new ones."""
        firsts = [each.first for each in self._directories]
        new: list[_Directory] = []
        replaced: set[str] = set()
        for fold in folds:
            begin, end = _numbers_of(fold.ids)
            after = len(firsts) if fold.ids.end is None else bisect_left(firsts, fold.ids.end)
            sources = self._directories[max(0, bisect_right(firsts, fold.ids.first) - 1) : after]
            replaced |= {each.first for each in sources}
            arrived = numbers[slice(*np.searchsorted(numbers, (begin, end)))]
            records = sum(each.records_within(begin, end) for each in sources) + len(arrived)
            low = min([*(max(begin, each.low) for each in sources), *arrived[:1].tolist()])
            high = max([*(min(end, each.high) for each in sources), *(arrived[-1:] + 1).tolist()])
            new.append(_Directory(fold.ids.first, records, low, high))
        kept = [each for each in self._directories if each.first not in replaced]
        self._directories = sorted([*kept, *new], key=lambda each: each.first)
        return sum(each.records for each in new) * self._rates.record_bytes


def _id(number: int) -> str:
    return f"{number:013d}"


def _numbers_of(ids: IdRange) -> tuple[int, int]:
    return int(ids.first or 0), 2 * RANDOM_IDS if ids.end is None else int(ids.end)


def _sampled(numbers: NDArray[np.int64]) -> SampledIds:
    """Return the ids that MergeBatch samples of a run: rows.id_ranges.sample_ids."""
    rows = len(numbers)
    count = min(rows, max(LEAST_SAMPLES, -(-rows // SAMPLE_ROWS) + 1))
    return SampledIds([_id(numbers[at]) for at in np.linspace(0, rows - 1, count).round().astype(int)], rows)


def _batches(deltas: int, size: int) -> list[int]:
    """Return the number of deltas of each batch of the next pass, given the bytes of a delta."""
    limits = PassLimits(
        size=_SETTINGS.compaction_batch_size,
        max_batches=_SETTINGS.max_batches_per_pass,
        max_bytes=_SETTINGS.max_pass_bytes,
        max_batch_bytes=_SETTINGS.max_batch_bytes,
        max_collections=1,
    )
    seen = min(deltas, limits.size * (limits.max_batches + 1))
    keys = (f"{_SETTINGS.delta_prefix}{NAME}/{number:09d}.parquet" for number in range(seen))
    pending = (ObjectInfo(key=key, bytes=size, etag="", modified=number) for number, key in enumerate(keys))
    return [len(batch.deltas) for batch in plan_batches(pending, limits).batches]


def largest(rates: Rates, platform: Platform, rows: int) -> int:
    """Return the records of the largest collection into which a pass of `rows` rows with random ids can be folded."""
    target = _SETTINGS.partition_target_records

    def is_late(directories: int) -> bool:
        done = Simulation(rates, platform, records=directories * target).write(rows, rows, "random")
        return done.longest > FOLD_SHARE * platform.seconds

    most = 1
    while not is_late(most):
        most *= 2
    return target * (bisect_left(range(most), x=True, lo=most // 2, key=is_late) - 1)
