"""Fit the cost model of folds to measurements, and print both: `python -m benchmarks.cost_model`.

It fits processor seconds of folds on one thread, which depend little on what else the machine does. ChromaDB's threads,
which build the index, are counted apart: only their part gets shorter with more threads. The seconds "of the plan" are
those of fold.cost for one thread. They include the transfers, which are not measured here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.folds import MeasuredFold, measure, write_run
from benchmarks.workload import records
from chromadb_compaction.fold.cost import FoldCost
from chromadb_compaction.fold.units import FoldUnit

DELTA: Final = 5000


class Case(NamedTuple):
    """A fold of new records onto a base, which may be empty."""

    dimension: int
    base: int
    new: int


class Measured(NamedTuple):
    """A measured case: the bytes that the model knows, and the fold on one thread."""

    case: Case
    base_bytes: int
    run_bytes: int
    fold: MeasuredFold


CASES: Final = (
    Case(384, 0, 2000),
    Case(384, 0, 10_000),
    Case(384, 0, 50_000),
    Case(384, 50_000, 1000),
    Case(384, 50_000, 5000),
    Case(128, 0, 50_000),
    Case(128, 50_000, 5000),
    Case(1536, 0, 10_000),
    Case(1536, 10_000, 1000),
)


def measured(cases: Sequence[Case], directory: Path) -> list[Measured]:
    """Measure the cases. A base is folded from the run of the case into empty that has its size."""
    found = []
    for case in cases:
        run = _run(directory, case.dimension, case.base, case.new)
        base = directory / f"folded-{case.dimension}-{case.base}" if case.base else None
        target = directory / f"folded-{case.dimension}-{case.base + case.new}"
        fold = measure(target, run, case.dimension, base=base, threads=1)
        size = sum(path.stat().st_size for path in base.rglob("*") if path.is_file()) if base else 0
        found.append(Measured(case, size, run.stat().st_size, fold))
    return found


def _run(directory: Path, dimension: int, first: int, count: int) -> Path:
    starts = range(first, first + count, DELTA)
    ids = ([f"row-{row:07d}" for row in range(start, min(start + DELTA, first + count))] for start in starts)
    deltas = (records(dimension, seed=start, ids=each) for start, each in zip(starts, ids, strict=True))
    return write_run(directory / f"run-{dimension}-{first}-{count}", deltas, first=first)


class Fit(NamedTuple):
    """The constants of the model, in seconds: of any fold, of a byte of base and of run, and of indexing a byte of run.

    The last is for one thread, and for the square root of the bytes of base and run.
    """

    fixed: float
    base: float
    write: float
    indexing: float

    def seconds(self, each: Measured) -> tuple[float, float]:
        """Return the estimated seconds of the index, and of the rest."""
        rest = self.fixed + each.base_bytes * self.base + each.run_bytes * self.write
        return self.indexing * each.run_bytes * math.sqrt(each.base_bytes + each.run_bytes), rest


def fit(found: Sequence[Measured]) -> Fit:
    """Return the constants: the geometric mean for the index, and the least squares for the rest."""
    ratios = [each.fold.indexing / Fit(0, 0, 0, 1).seconds(each)[0] for each in found]
    rest = np.array([each.fold.processor - each.fold.indexing for each in found])
    matrix = np.array([[1.0, each.base_bytes, each.run_bytes] for each in found])
    # The errors of long folds count more, but not in proportion to their length.
    weights = 1 / np.sqrt(rest)
    solved = np.linalg.lstsq(matrix * weights[:, None], rest * weights, rcond=None)[0]
    fixed, base, write = (float(each) for each in solved)
    return Fit(fixed, base, write, geometric_mean(ratios))


def main() -> None:
    """Measure, fit, and print."""
    with TemporaryDirectory(prefix="chromadb-benchmark-") as name:
        found = measured(CASES, Path(name))
    fitted = fit(found)
    table = Table(title="processor seconds of folds, without transfers")
    for column in ("dimension", "base", "new", "base MB", "run MB", "index", "fitted", "rest", "fitted", "of the plan"):
        table.add_column(column, justify="right")
    for each in found:
        index, rest = fitted.seconds(each)
        planned = FoldCost(FoldUnit("any"), each.base_bytes, each.run_bytes).seconds_on(1)
        sizes = f"{each.base_bytes / 1e6:.1f}", f"{each.run_bytes / 1e6:.1f}"
        seconds = each.fold.indexing, index, each.fold.processor - each.fold.indexing, rest, planned
        table.add_row(*(f"{value:,}" for value in each.case), *sizes, *(f"{value:.2f}" for value in seconds))
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    console.print(
        f"any fold: {fitted.fixed:.2f} s, base: {1e-6 / fitted.base:.0f} MB/s, run: {1e-6 / fitted.write:.1f} MB/s,"
        f" index: {fitted.indexing:.2g} s for a byte of run, by the square root of the bytes"
    )


if __name__ == "__main__":
    main()
