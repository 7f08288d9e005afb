"""The CloudWatch metrics of a stack, for alarms and for the dashboard."""

from __future__ import annotations

from typing import NamedTuple

from chromadb_compaction import metrics
from chromadb_compaction.metrics import Measure
from infra.names import StackNames


class MetricStat(NamedTuple):
    """One CloudWatch metric, and the statistic that combines the values of a period."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    stat: str


def of_tasks(names: StackNames, measure: Measure, stat: str) -> MetricStat:
    """Return a metric that the tasks of this stack write."""
    return MetricStat(metrics.NAMESPACE, measure.metric, {metrics.STACK: names.stack}, stat)


def of_queue(queue: str, metric: str, stat: str = "Maximum") -> MetricStat:
    """Return a metric of a queue."""
    return MetricStat("AWS/SQS", metric, {"QueueName": queue}, stat)


def of_executions(names: StackNames, metric: str, stat: str = "Sum") -> MetricStat:
    """Return a metric of the workflow."""
    return MetricStat("AWS/States", metric, {"StateMachineArn": names.state_machine_arn}, stat)


def of_function(names: StackNames, task: str, metric: str, stat: str) -> MetricStat:
    """Return a metric of a function."""
    return MetricStat("AWS/Lambda", metric, {"FunctionName": names.function(task)}, stat)


def of_rule(rule: str, metric: str) -> MetricStat:
    """Return a metric of an EventBridge rule."""
    return MetricStat("AWS/Events", metric, {"RuleName": rule}, "Sum")
