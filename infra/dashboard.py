"""The dashboard: three rows for health, throughput and cost."""

from __future__ import annotations

from typing import Any

from chromadb_compaction import metrics
from chromadb_compaction.metrics import Measure
from infra import prices
from infra.alarms import DAY, MINUTE, NEAR_LIMIT_PERCENT, alarm_specs
from infra.config import CompactionConfig
from infra.metric_stats import MetricStat, of_executions, of_function, of_queue, of_tasks
from infra.names import StackNames
from infra.task_lambdas import TaskSpec, task_specs

Widget = dict[str, Any]

WIDTH = 24
HEIGHT = 6


def dashboard_body(names: StackNames, config: CompactionConfig) -> dict[str, Any]:
    """Return the dashboard's body. CloudWatch hardly checks it, so a test does."""
    rows = [
        ("Is it healthy?", _health(names, config)),
        ("Is it keeping up?", _pace(names, config)),
        ("What does it cost? (list prices; docs/cost.md has the whole bill)", _cost(names, config)),
    ]
    positioned: list[Widget] = []
    top = 0
    for heading, widgets in rows:
        positioned.append(_at({"type": "text", "properties": {"markdown": f"## {heading}"}}, 0, top, WIDTH, 1))
        width = WIDTH // len(widgets)
        positioned += [_at(widget, n * width, top + 1, width, HEIGHT) for n, widget in enumerate(widgets)]
        top += 1 + HEIGHT
    return {"widgets": positioned}


def _at(widget: Widget, left: int, top: int, width: int, height: int) -> Widget:
    return {**widget, "x": left, "y": top, "width": width, "height": height}


def _health(names: StackNames, config: CompactionConfig) -> list[Widget]:
    alarms = [names.alarm_arn(spec.name) for spec in alarm_specs(names, config)]
    return [
        {"type": "alarm", "properties": {"title": "Alarms", "alarms": alarms}},
        _graph(
            names,
            "Executions",
            [
                _line(of_executions(names, f"Executions{end}"), end.lower())
                for end in ("Started", "Succeeded", "Failed", "TimedOut", "Aborted")
            ],
        ),
        _graph(
            names,
            "Lock held, quarantined and dead-lettered",
            [
                _line(of_tasks(names, Measure.LOCK_CONTENTION, "Sum"), "lock held"),
                _line(of_tasks(names, Measure.DELTAS_QUARANTINED, "Sum"), "deltas quarantined"),
                _line(of_queue(names.dead_letter_queue, "ApproximateNumberOfMessagesVisible"), "dead-letter messages"),
            ],
        ),
        _graph(
            names,
            "Function errors",
            [
                _line(of_function(names, spec.task, "Errors", "Sum"), spec.task)
                for spec in task_specs(config)
                # Every error of these fails an execution, which the graph beside shows.
                if spec.task not in ("acquire-lock", "list-deltas", "fold-partitions", "release-lock")
            ],
        ),
    ]


def _pace(names: StackNames, config: CompactionConfig) -> list[Widget]:
    return [
        _graph(
            names,
            "Pending",
            [
                _line(of_tasks(names, Measure.PENDING_DELTAS, "Maximum"), "pending deltas"),
                _line(of_tasks(names, Measure.DELTAS_SET_ASIDE, "Maximum"), "deltas set aside"),
                _line(of_tasks(names, Measure.OLDEST_DELTA_AGE, "Maximum"), "age of the oldest, seconds", right=True),
            ],
        ),
        _graph(
            names,
            "Merged",
            [
                _line(of_tasks(names, Measure.DELTAS_MERGED, "Sum"), "deltas merged", right=True),
                _line(of_tasks(names, Measure.RECORDS_ADDED, "Sum"), "records added"),
                _line(of_tasks(names, Measure.RECORDS_REPLACED, "Sum"), "replaced"),
                _line(of_tasks(names, Measure.RECORDS_DELETED, "Sum"), "deleted"),
                _line(of_tasks(names, Measure.UNPROVEN_COLLECTIONS, "Sum"), "collections not loaded in bulk"),
            ],
        ),
        _graph(names, "Seconds of a pass, by phase", [_phases(names)], stacked=True),
        _graph(names, "Duration of functions, % of their timeout", _shares(names, config), limit=NEAR_LIMIT_PERCENT),
        _graph(
            names,
            "Published snapshot",
            [
                _line(of_tasks(names, Measure.SNAPSHOT_RECORDS, "Maximum"), "records"),
                _line(of_tasks(names, Measure.SNAPSHOT_BYTES, "Maximum"), "bytes", right=True),
                _line(of_tasks(names, Measure.COMPACTION_SECONDS, "Maximum"), "seconds of a pass", right=True),
            ],
        ),
        _graph(
            names,
            "Fresh reads",
            [
                _line(of_tasks(names, Measure.PENDING_ROWS_APPLIED, "Maximum"), "pending rows applied"),
                _line(of_tasks(names, Measure.ANSWERS_PAST_BOUND, "Sum"), "answers past the bound"),
                _line(of_tasks(names, Measure.REFRESH_MILLISECONDS, "p95"), "refresh, milliseconds (p95)", right=True),
            ],
        ),
    ]


def _phases(names: StackNames) -> list[Any]:
    dimensions = f"{metrics.NAMESPACE},{metrics.STACK},{metrics.PHASE}"
    search = f'{{{dimensions}}} MetricName="{Measure.PHASE_SECONDS.metric}" {metrics.STACK}="{names.stack}"'
    label = f"${{PROP('Dim.{metrics.PHASE}')}}"
    return [{"expression": f"SEARCH('{search}', 'Average', {5 * MINUTE})", "label": label}]


def _shares(names: StackNames, config: CompactionConfig) -> list[list[Any]]:
    lines: list[list[Any]] = []
    for spec in task_specs(config):
        if spec.task in ("compactor", "merge-batch", "list-deltas", "clean-up"):
            name = f"d_{_identifier(spec)}"
            lines.append(_line(of_function(names, spec.task, "Duration", "Maximum"), name, name=name))
            lines.append([{"expression": f"{name} / {spec.seconds * 10}", "label": spec.task}])
    return lines


def _cost(names: StackNames, config: CompactionConfig) -> list[Widget]:
    return [
        _graph(names, "Functions, dollars a day", _compute_cost(names, config), period=DAY, stacked=True),
        _graph(names, "Storage, dollars a month", _storage_cost(names), period=DAY, stacked=True),
        _graph(names, "Requests and executions a day", _counted(names, config), period=DAY),
    ]


def _compute_cost(names: StackNames, config: CompactionConfig) -> list[list[Any]]:
    lines: list[list[Any]] = []
    for spec in task_specs(config):
        name = f"s_{_identifier(spec)}"
        lines.append(_line(of_function(names, spec.task, "Duration", "Sum"), name, name=name))
        expression = f"{name} / 1000 * {dollars_a_second(spec):.10f}"
        lines.append([{"expression": expression, "label": spec.task}])
    return lines


def dollars_a_second(spec: TaskSpec) -> float:
    """Return the price of one second of a function: its memory, and its disk beyond the free part."""
    memory = spec.memory_mb / 1024 * prices.LAMBDA_GB_SECOND
    disk = (spec.storage_mb - prices.LAMBDA_FREE_STORAGE_MB) / 1024 * prices.LAMBDA_STORAGE_GB_SECOND
    return memory + disk


def _storage_cost(names: StackNames) -> list[list[Any]]:
    kinds = {"StandardStorage": "standard", "IntelligentTieringFAStorage": "intelligent tiering"}
    lines: list[list[Any]] = []
    for number, (kind, label) in enumerate(kinds.items()):
        dimensions = {"BucketName": names.bucket, "StorageType": kind}
        stored = MetricStat("AWS/S3", "BucketSizeBytes", dimensions, "Average")
        lines.append(_line(stored, label, name=f"b{number}"))
        lines.append([{"expression": f"b{number} / 1073741824 * {prices.S3_GB_MONTH}", "label": label}])
    return lines


def _counted(names: StackNames, config: CompactionConfig) -> list[list[Any]]:
    return [
        _line(of_executions(names, "ExecutionsStarted"), "executions"),
        *(
            _line(of_function(names, spec.task, "Invocations", "Sum"), spec.task)
            for spec in task_specs(config)
            # Every execution calls the first once, and hardly any calls the second.
            if spec.task not in ("acquire-lock", "fold-partitions")
        ),
    ]


def _identifier(spec: TaskSpec) -> str:
    return spec.task.replace("-", "_")


def _line(metric: MetricStat, label: str, *, right: bool = False, name: str | None = None) -> list[Any]:
    """Return one line of a graph. A line with a `name` is hidden; expressions use it by that name."""
    dimensions = [part for dimension in metric.dimensions.items() for part in dimension]
    shown: dict[str, Any] = {"stat": metric.stat, "label": label}
    if right:
        shown["yAxis"] = "right"
    if name:
        shown |= {"id": name, "visible": False}
    return [metric.namespace, metric.name, *dimensions, shown]


def _graph(
    names: StackNames,
    title: str,
    lines: list[list[Any]],
    *,
    period: int = 5 * MINUTE,
    stacked: bool = False,
    limit: int | None = None,
) -> Widget:
    properties: dict[str, Any] = {
        "title": title,
        "region": names.region,
        "view": "timeSeries",
        "stacked": stacked,
        "period": period,
        "metrics": lines,
    }
    if limit is not None:
        properties["annotations"] = {"horizontal": [{"label": "alarm", "value": limit}]}
    return {"type": "metric", "properties": properties}
