"""The monthly cost of a load, line by line, as docs/cost.md shows it. `python -m infra.cost` rewrites that page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from chromadb_compaction.metrics import Measure
from chromadb_compaction.settings import MEBIBYTE, UPLOAD_PART_BYTES
from infra import prices
from infra.alarms import alarm_specs, early_start_spec
from infra.config import CompactionConfig
from infra.config_values import Task, interval_minutes
from infra.dashboard import dollars_a_second
from infra.names import StackNames
from infra.s3_buckets import WORK_DAYS
from infra.task_lambdas import task_specs

PAGE = Path(__file__).parent.parent / "docs" / "cost.md"
NAMES = StackNames("dev", "123456789012", "us-east-1")
DEFAULTS = CompactionConfig.model_construct(image_uri="any")

EXPIRED_VERSION_DAYS = 1  # versions of expired objects in compacted/ and work/


class Load(NamedTuple):
    """The load on the stack.

    Seconds are those of one execution, with the memory set in task_lambdas.py. Lambda bills every started millisecond,
    which adds nothing here. `phases` is the number of PhaseSeconds metrics; an end-to-end test counts them.
    """

    snapshot_gb: float = 1
    deltas: int = 20
    delta_mb: float = 1
    # Download, copy and hash 1 GB, fold 10,000 records, verify, upload 1 GB: 80 MB/s to and from S3.
    compactor_seconds: float = 45
    merge_seconds: float = 4
    list_seconds: float = 1
    clean_up_seconds: float = 3
    lock_seconds: float = 0.4
    logs_mb: float = 0.2
    phases: int = 6
    image_gb: float = 1


class Line(NamedTuple):
    """One line of the bill: the product of its factors, each with its unit. The last factor is a price."""

    what: str
    factors: tuple[tuple[float, str], ...]

    @property
    def dollars(self) -> float:
        """The cost of a month."""
        return math.prod(value for value, _unit in self.factors)

    @property
    def formula(self) -> str:
        """The factors as text. A test calculates with it."""
        *amounts, (price, of) = self.factors
        return " x ".join([*(f"{_number(value)} {unit}" for value, unit in amounts), f"${_number(price)} per {of}"])


def bill(load: Load, config: CompactionConfig) -> list[Line]:
    """Return every line of a month of 730 hours, at list prices without the free tier."""
    runs = prices.HOURS_A_MONTH * 60 / interval_minutes(config.compaction_schedule)
    return [
        *_compute(load, config, runs),
        *_requests(load, runs),
        *_storage(load, config, runs),
        *_watching(load, config, runs),
    ]


def total(lines: Iterable[Line]) -> float:
    """Return the sum."""
    return sum(line.dollars for line in lines)


def _compute(load: Load, config: CompactionConfig, runs: float) -> list[Line]:
    second = {spec.task: dollars_a_second(spec) for spec in task_specs(config)}
    batches = math.ceil(load.deltas / config.compaction_batch_size)
    seconds: list[tuple[Task, float]] = [
        ("compactor", load.compactor_seconds),
        ("merge-batch", load.merge_seconds * batches),
        ("list-deltas", load.list_seconds),
        ("clean-up", load.clean_up_seconds),
        ("acquire-lock", load.lock_seconds),
        ("release-lock", load.lock_seconds),
    ]
    calls = 6 + batches
    return [
        *(Line(task, ((runs, "runs"), (long, "s"), (second[task], "second"))) for task, long in seconds),
        Line("calls of functions", ((runs, "runs"), (calls, "calls"), (prices.LAMBDA_REQUEST, "call"))),
        # Eleven states, one more per batch, and the transition into the first.
        Line(
            "state transitions",
            ((runs, "runs"), (12 + batches, "transitions"), (prices.STATE_TRANSITION, "transition")),
        ),
    ]


def _requests(load: Load, runs: float) -> list[Line]:
    writes, reads = _objects(load)
    return [
        Line("S3 writes and listings", ((runs, "runs"), (writes, "requests"), (prices.S3_WRITE, "request"))),
        Line("S3 reads", ((runs, "runs"), (reads, "requests"), (prices.S3_READ, "request"))),
        Line("SQS", ((runs, "runs"), (3 * load.deltas, "requests"), (prices.SQS_REQUEST, "request"))),
        Line("the lock", ((runs, "runs"), (10, "writes"), (prices.DYNAMODB_WRITE, "write"))),
    ]


def _objects(load: Load) -> tuple[int, int]:
    """Return the writes and the reads of one run."""
    parts = math.ceil(load.snapshot_gb * 1024 * MEBIBYTE / UPLOAD_PART_BYTES)
    # Each delta is written and copied to compacted/. Batches, runs, reports, manifests and listings are about 30.
    writes = 2 * load.deltas + parts + 30
    # Each delta and each file of the snapshot is read once; the tasks' own messages are the rest.
    return writes, load.deltas + 50


def _storage(load: Load, config: CompactionConfig, runs: float) -> list[Line]:
    runs_a_day = runs * 24 / prices.HOURS_A_MONTH
    kept = max(config.snapshot_retention.count, runs_a_day * config.snapshot_retention.days)
    gone = runs_a_day * config.snapshot_version_days
    deltas_gb = load.deltas * load.delta_mb / 1024 * runs_a_day
    merged_days = config.compacted_retention_days + WORK_DAYS + 2 * EXPIRED_VERSION_DAYS
    gigabyte = (prices.S3_GB_MONTH, "GB")
    return [
        Line("snapshots kept", ((kept, "snapshots"), (load.snapshot_gb, "GB"), gigabyte)),
        Line("pruned snapshots that can be brought back", ((gone, "snapshots"), (load.snapshot_gb, "GB"), gigabyte)),
        Line("merged deltas and their runs", ((deltas_gb, "GB a day"), (merged_days, "days"), gigabyte)),
        Line("the image", ((load.image_gb, "GB"), (prices.IMAGE_GB_MONTH, "GB"))),
    ]


def options(load: Load, config: CompactionConfig) -> list[Line]:
    """Return the cost of the options that are off by default."""
    runs = prices.HOURS_A_MONTH * 60 / interval_minutes(config.compaction_schedule)
    hours = (prices.HOURS_A_MONTH, "hours")
    copies = [line for line in _storage(load, config, runs) if "snapshots" in line.what]
    return [
        Line("`vpcId`, a zone", ((2, "endpoints"), hours, (prices.ENDPOINT_HOUR, "hour"))),
        Line("`replicaRegion`, copying", ((runs, "runs"), (load.snapshot_gb, "GB"), (prices.REPLICATED_GB, "GB"))),
        *(line._replace(what=f"`replicaRegion`, {line.what}") for line in copies),
        Line("`auditTrail`", ((runs, "runs"), (sum(_objects(load)), "events"), (prices.AUDIT_EVENT, "event"))),
        Line("`kmsKeyArn`", ((1, "key"), (prices.KEY_MONTH, "key"))),
    ]


def _watching(load: Load, config: CompactionConfig, runs: float) -> list[Line]:
    early = early_start_spec(NAMES, config)
    specs = [*alarm_specs(NAMES, config), *([early] if early else [])]
    watched = sum(len(spec.metrics) for spec in specs)
    # PhaseSeconds is one metric per phase.
    metrics = len(Measure) - 1 + load.phases
    return [
        Line("metrics", ((metrics, "metrics"), (prices.METRIC_MONTH, "metric"))),
        Line("alarms", ((watched, "metrics watched"), (prices.ALARM_METRIC_MONTH, "metric"))),
        Line("dashboard", ((1, "dashboard"), (prices.DASHBOARD_MONTH, "dashboard"))),
        Line("logs", ((runs, "runs"), (load.logs_mb / 1024, "GB"), (prices.LOG_GB, "GB"))),
        Line("traces", ((runs, "runs"), (8, "traces"), (prices.TRACE, "trace"))),
    ]


# Settings to change, and the load that follows.
VARIATIONS: tuple[tuple[str, dict[str, object], Load], ...] = (
    ("nothing: the reference load", {}, Load()),
    ("`compactionSchedule rate(5 minutes)`", {"compaction_schedule": "rate(5 minutes)"}, Load(deltas=7)),
    (
        "`compactionSchedule rate(1 hour)`",
        {"compaction_schedule": "rate(1 hour)"},
        Load(deltas=80, compactor_seconds=65),
    ),
    ("`snapshotVersionDays 1`", {"snapshot_version_days": 1}, Load()),
    ("a 5 GB snapshot", {}, Load(snapshot_gb=5, compactor_seconds=190)),
    (
        "a 5 GB snapshot, `rate(1 hour)`, `snapshotVersionDays 1`",
        {"compaction_schedule": "rate(1 hour)", "snapshot_version_days": 1},
        Load(snapshot_gb=5, deltas=80, compactor_seconds=210),
    ),
)


def changed_config(changes: dict[str, object]) -> CompactionConfig:
    """Return the default configuration with `changes`."""
    return DEFAULTS.model_copy(update=changes)


def tables() -> dict[str, str]:
    """Return the tables of the page, by the name in their markers."""
    lines = bill(Load(), DEFAULTS)
    heading = ["| a month | formula | |", "|---|---|---:|"]
    reference = [*heading, *_rows(lines), f"| **total** | | **${total(lines):.2f}** |"]
    variations = [
        f"| {what} | ${total(bill(load, changed_config(changes))):.0f} |" for what, changes, load in VARIATIONS
    ]
    return {
        "reference": "\n".join(reference),
        "turns": "\n".join(["| what differs | a month |", "|---|---:|", *variations]),
        "options": "\n".join([*heading, *_rows(options(Load(), DEFAULTS))]),
    }


def _rows(lines: Iterable[Line]) -> list[str]:
    return [f"| {line.what} | {line.formula} | ${line.dollars:.2f} |" for line in lines]


def rewritten(page: str) -> str:
    """Return the page with its tables recalculated."""
    for name, table in tables().items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = page.partition(start)
        page = f"{before}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def _number(value: float) -> str:
    if value >= 1 and value == int(value):
        return f"{int(value):,}"
    if value >= 0.01:
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return f"{value:.10f}".rstrip("0")


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
