"""One page in three rows: is it healthy, is it keeping up, what does it cost."""

from __future__ import annotations

from typing import Any

from infra import metric_names, prices
from infra.alarms import (
    HOUR,
    MINUTE,
    NEAR_LIMIT_PERCENT,
    Metric,
    alarm_specs,
    of_executions,
    of_function,
    of_queue,
    of_tasks,
)
from infra.config import CompactionConfig
from infra.names import StackNames
from infra.task_lambdas import TaskSpec, task_specs

Widget = dict[str, Any]

WIDTH = 24
HEIGHT = 6
DAY = 24 * HOUR


def dashboard_body(names: StackNames, config: CompactionConfig) -> dict[str, Any]:
    """Return the dashboard. CloudWatch checks little of it: a test does."""
    rows = [
        ("Is it healthy?", _health(names, config)),
        ("Is it keeping up?", _pace(names, config)),
        ("What does it cost? (list prices; docs/cost.md has the whole bill)", _cost(names, config)),
    ]
    placed: list[Widget] = []
    top = 0
    for heading, widgets in rows:
        placed.append(_at({"type": "text", "properties": {"markdown": f"## {heading}"}}, 0, top, WIDTH, 1))
        width = WIDTH // len(widgets)
        placed += [_at(widget, n * width, top + 1, width, HEIGHT) for n, widget in enumerate(widgets)]
        top += 1 + HEIGHT
    return {"widgets": placed}


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
            "Turned away and refused",
            [
                _line(of_tasks(names, metric_names.LOCK_CONTENTION, "Sum"), "lock held"),
                _line(of_tasks(names, metric_names.DELTAS_QUARANTINED, "Sum"), "deltas quarantined"),
                _line(of_queue(names.dead_letter_queue, "ApproximateNumberOfMessagesVisible"), "dead letters"),
            ],
        ),
        _graph(
            names,
            "Errors of functions",
            [_line(of_function(names, spec.task, "Errors", "Sum"), spec.task) for spec in task_specs(config)],
        ),
    ]


def _pace(names: StackNames, config: CompactionConfig) -> list[Widget]:
    return [
        _graph(
            names,
            "Waiting",
            [
                _line(of_tasks(names, metric_names.PENDING_DELTAS, "Maximum"), "pending deltas"),
                _line(of_queue(names.queue, "ApproximateNumberOfMessagesVisible"), "notices"),
                _line(of_tasks(names, metric_names.OLDEST_DELTA_AGE, "Maximum"), "oldest, seconds", right=True),
            ],
        ),
        _graph(
            names,
            "Done",
            [
                _line(of_tasks(names, metric_names.DELTAS_MERGED, "Sum"), "deltas merged", right=True),
                _line(of_tasks(names, metric_names.RECORDS_ADDED, "Sum"), "records added"),
                _line(of_tasks(names, metric_names.RECORDS_REPLACED, "Sum"), "replaced"),
                _line(of_tasks(names, metric_names.RECORDS_DELETED, "Sum"), "deleted"),
                _line(of_tasks(names, metric_names.UNPROVEN_COLLECTIONS, "Sum"), "collections not loaded in bulk"),
            ],
        ),
        _graph(names, "Seconds of a pass, by phase", [_phases(names)], stacked=True),
        _graph(names, "Share of the time a function may take, %", _shares(names, config), limit=NEAR_LIMIT_PERCENT),
        _graph(
            names,
            "Published",
            [
                _line(of_tasks(names, metric_names.SNAPSHOT_RECORDS, "Maximum"), "records"),
                _line(of_tasks(names, metric_names.SNAPSHOT_BYTES, "Maximum"), "bytes", right=True),
                _line(of_tasks(names, metric_names.COMPACTION_SECONDS, "Maximum"), "seconds of a pass", right=True),
            ],
        ),
    ]


def _phases(names: StackNames) -> list[Any]:
    dimensions = f"{metric_names.NAMESPACE},{metric_names.STACK},{metric_names.PHASE}"
    search = f'{{{dimensions}}} MetricName="{metric_names.PHASE_SECONDS}" {metric_names.STACK}="{names.stack}"'
    label = f"${{PROP('Dim.{metric_names.PHASE}')}}"
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
    """Return the price of one second of a function: its memory, and its disk beyond what is free."""
    memory = spec.memory_mb / 1024 * prices.LAMBDA_GB_SECOND
    disk = (spec.storage_mb - prices.LAMBDA_FREE_STORAGE_MB) / 1024 * prices.LAMBDA_STORAGE_GB_SECOND
    return memory + disk


def _storage_cost(names: StackNames) -> list[list[Any]]:
    kinds = {"StandardStorage": "standard", "IntelligentTieringFAStorage": "intelligent tiering"}
    lines: list[list[Any]] = []
    for number, (kind, label) in enumerate(kinds.items()):
        dimensions = {"BucketName": names.bucket, "StorageType": kind}
        stored = Metric("AWS/S3", "BucketSizeBytes", dimensions, "Average")
        lines.append(_line(stored, label, name=f"b{number}"))
        lines.append([{"expression": f"b{number} / 1073741824 * {prices.S3_GB_MONTH}", "label": label}])
    return lines


def _counted(names: StackNames, config: CompactionConfig) -> list[list[Any]]:
    return [
        _line(of_executions(names, "ExecutionsStarted"), "executions"),
        *(_line(of_function(names, spec.task, "Invocations", "Sum"), spec.task) for spec in task_specs(config)),
    ]


def _identifier(spec: TaskSpec) -> str:
    return spec.task.replace("-", "_")


def _line(metric: Metric, label: str, *, right: bool = False, name: str | None = None) -> list[Any]:
    """Return one line of a graph. One with a `name` is only calculated with, and stays invisible."""
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
