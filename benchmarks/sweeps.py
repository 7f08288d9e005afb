"""Measure how the phases of one compaction grow with the number of deltas, the base's size and the share of updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from benchmarks import job
from benchmarks.memory import allowed_mebibytes, watched_workers
from benchmarks.workload import Records, records
from chromadb_compaction.local.home import StackHome
from chromadb_compaction.messages import DownloadedSnapshot, PublishedSnapshot

BASE_DELTA_BYTES = 4_000_000
PHASES = ("merge batch", "download", "plan", "records", "index", "verify", "finalize", "upload", "publish")
"""The phases in the order in which they run. The fold is plan to finalize."""
_OF_UPLOAD = ("download", "upload", "publish")
_OF_FOLD = {
    "plan": "plan",
    "records": "load.records",
    "index": "load.index",
    "verify": "verify",
    "finalize": "finalize",
}


class Point(NamedTuple):
    """One measured compaction: seconds per phase and peak MiB per function.

    `x` and `label` name the value of the sweep's variable. `allowed` is the memory limit of the fold in MiB.
    """

    x: float
    label: str
    seconds: dict[str, float]
    peaks: dict[str, float]
    allowed: float


class Sweep(NamedTuple):
    """Points along one variable. `unit` names one step of `x` in words, and `axis` what the labels of points count."""

    name: str
    title: str
    axis: str
    unit: str
    points: list[Point]

    def slopes(self) -> dict[str, float]:
        """Return the seconds that one step of `x` adds to each phase: the least-squares slope over all points."""
        at = np.array([point.x for point in self.points])
        return {phase: float(np.polyfit(at, [point.seconds[phase] for point in self.points], 1)[0]) for phase in PHASES}


class Change(NamedTuple):
    """The deltas that arrive at a base of `base` records. `updates` is the share of rows that replace a record."""

    base: int
    dimension: int
    deltas: int
    rows: int
    updates: float

    @property
    def new(self) -> int:
        """The number of rows that are new records."""
        return self.deltas * self.rows - round(self.deltas * self.rows * self.updates)


def number_of_deltas(home: StackHome) -> Sweep:
    """Vary the number of deltas of 100 rows that arrive at a base of 10,000 records."""
    changes = [Change(10_000, 384, deltas, 100, 0.5) for deltas in (10, 50, 100, 200)]
    points = [measured(home, change, x=change.deltas, label=f"{change.deltas}") for change in changes]
    return Sweep(
        "deltas", "Deltas of 100 rows on 10,000 records of 384 dimensions", "deltas", "Each further delta", points
    )


def size_of_base(home: StackHome) -> Sweep:
    """Vary the size of the base. Each time 2,000 rows arrive, half of them updates."""
    changes = [Change(base, 384, 20, 100, 0.5) for base in (10_000, 100_000, 300_000)]
    points = [measured(home, each, x=each.base / 1000, label=f"{each.base:,}") for each in changes]
    title = "2,000 rows on a base of 384 dimensions"
    return Sweep("base", title, "records in the base", "Each further 1,000 records in the base", points)


def wide_vectors(home: StackHome) -> Sweep:
    """Measure one base of wide vectors."""
    change = Change(50_000, 1536, 20, 100, 0.5)
    point = measured(home, change, x=0, label="50,000")
    return Sweep("wide", "2,000 rows on 50,000 records of 1,536 dimensions", "records in the base", "", [point])


def share_of_updates(home: StackHome) -> Sweep:
    """Vary the share of 10,000 rows that replace records of a base of 20,000."""
    changes = [Change(20_000, 384, 20, 500, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    points = [measured(home, each, x=100 * each.updates, label=f"{each.updates:.0%}") for each in changes]
    title = "10,000 rows on 20,000 records of 384 dimensions"
    return Sweep("updates", title, "share of updates", "Each further per cent of updates", points)


def measured(home: StackHome, change: Change, *, x: float, label: str) -> Point:
    """Build the base in a new stack, write the deltas of the change, and measure their compaction."""
    name = f"b{change.base}x{change.dimension}-{change.deltas}-{int(100 * change.updates)}"
    services = job.deployed(home, name)
    job.produce(services, base_of(change))
    job.compact(services)
    job.produce(services, arriving(change))
    with watched_workers(f"-{name}") as peaks:
        timeline = job.compact(services)
    upload = PublishedSnapshot.model_validate(timeline.outputs["UploadSnapshot"][0]["snapshot"]).seconds
    copied = DownloadedSnapshot.model_validate(timeline.outputs["DownloadSnapshot"][0]["base_copy"]).seconds
    seconds = {phase: upload.get(phase, 0.0) for phase in _OF_UPLOAD}
    seconds["download"] += copied
    seconds |= {phase: upload.get(f"fold.{part}", 0.0) for phase, part in _OF_FOLD.items()}
    seconds["merge batch"] = job.phases(timeline)["merge batch"]
    allowed = allowed_mebibytes((change.base + change.new) * change.dimension)
    return Point(x, label, {phase: seconds[phase] for phase in PHASES}, peaks, allowed)


def base_of(change: Change) -> Iterator[Records]:
    """Yield the base's records as deltas of BASE_DELTA_BYTES."""
    rows = max(1, BASE_DELTA_BYTES // (4 * change.dimension + 400))
    for start in range(0, change.base, rows):
        ids = [_id(row) for row in range(start, min(start + rows, change.base))]
        yield records(change.dimension, seed=start, ids=ids)


def arriving(change: Change) -> Iterator[Records]:
    """Yield the deltas that arrive. Their updates are spread evenly over the base."""
    updates = change.deltas * change.rows - change.new
    old = [_id(row) for row in np.linspace(0, change.base, updates, endpoint=False, dtype=int).tolist()]
    new = [_id(change.base + row) for row in range(change.new)]
    ids = np.random.default_rng(5).permutation(old + new).tolist()
    for delta in range(change.deltas):
        part = ids[delta * change.rows : (delta + 1) * change.rows]
        yield records(change.dimension, seed=1_000_000 + delta, ids=part)


def _id(row: int) -> str:
    return f"record-{row:07d}"
