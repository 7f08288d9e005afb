"""What is worth waking somebody for, and the alarm that starts a compaction early: pure definitions."""

from __future__ import annotations

from typing import NamedTuple

from infra import metric_names
from infra.config import CompactionConfig
from infra.config_values import interval_minutes
from infra.names import StackNames
from infra.task_lambdas import task_specs

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NEAR_LIMIT_PERCENT = 80
EARLY_START = "backlog"


class Metric(NamedTuple):
    """One metric of CloudWatch, and how the values of a period become one."""

    namespace: str
    name: str
    dimensions: dict[str, str]
    stat: str


class AlarmSpec(NamedTuple):
    """Raised when `expression` over `metrics` has held in each of `periods` periods of `period` seconds.

    An expression is 1 where it holds and 0 elsewhere. `description` says what it means and what to do.
    """

    name: str
    description: str
    metrics: dict[str, Metric]
    expression: str
    period: int = 5 * MINUTE
    periods: int = 1


def of_tasks(names: StackNames, metric: str, stat: str) -> Metric:
    """Return a metric that the tasks of this stack write."""
    return Metric(metric_names.NAMESPACE, metric, {metric_names.STACK: names.stack}, stat)


def of_queue(queue: str, metric: str, stat: str = "Maximum") -> Metric:
    """Return a metric of a queue."""
    return Metric("AWS/SQS", metric, {"QueueName": queue}, stat)


def of_executions(names: StackNames, metric: str, stat: str = "Sum") -> Metric:
    """Return a metric of the workflow."""
    return Metric("AWS/States", metric, {"StateMachineArn": names.state_machine_arn}, stat)


def of_function(names: StackNames, task: str, metric: str, stat: str) -> Metric:
    """Return a metric of a function."""
    return Metric("AWS/Lambda", metric, {"FunctionName": names.function(task)}, stat)


def alarm_specs(names: StackNames, config: CompactionConfig) -> tuple[AlarmSpec, ...]:
    """Return the alarms that a person hears of."""
    return (
        _lock_contention(names),
        _backlog_age(names, config),
        _dead_letters(names),
        _quarantine(names),
        _failed(names),
        _near_limit(names, config),
        _stalled(names, config),
    )


def early_start_spec(names: StackNames, config: CompactionConfig) -> AlarmSpec | None:
    """Return the alarm that starts a compaction and tells nobody, unless neither threshold is set."""
    metrics, conditions = {}, []
    if config.backlog_start:
        metrics["notices"] = of_queue(names.queue, "ApproximateNumberOfMessagesVisible")
        conditions.append(f"notices >= {config.backlog_start}")
    if config.backlog_start_minutes:
        metrics["age"] = of_queue(names.queue, "ApproximateAgeOfOldestMessage")
        conditions.append(f"age >= {config.backlog_start_minutes * MINUTE}")
    if not conditions:
        return None
    return AlarmSpec(
        EARLY_START,
        "A backlog builds. No action is needed: this alarm starts a compaction before its time.",
        metrics,
        f"IF({' OR '.join(conditions)}, 1, 0)",
        period=MINUTE,
    )


def _lock_contention(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "lock-contention",
        "More than half of an hour's executions found the lock held: a compaction takes longer than the schedule's"
        " interval, or a lock is stuck. See `chromadb-compaction lock show` and `chromadb-compaction history`.",
        # Every start counts 0 or 1, so that the mean is the share of those that were turned away.
        {"held": of_tasks(names, metric_names.LOCK_CONTENTION, "Average")},
        "IF(held > 0.5, 1, 0)",
        period=HOUR,
    )


def _backlog_age(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    interval = interval_minutes(config.compaction_schedule) * MINUTE
    limit = max(HOUR, 2 * interval)
    return AlarmSpec(
        "backlog-age",
        f"A delta has waited for over {limit // MINUTE} minutes: compaction does not keep up."
        " See `chromadb-compaction status`; start more often, or give the compactor more memory.",
        {"age": of_tasks(names, metric_names.OLDEST_DELTA_AGE, "Maximum")},
        f"IF(age > {limit}, 1, 0)",
        # The age is known once an execution: a shorter period would end the alarm between two of them.
        period=min(DAY, max(5 * MINUTE, interval)),
    )


def _dead_letters(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "dead-letters",
        "The dead-letter queue holds messages: refused deltas, each with its reason, or notices of nothing."
        " See `chromadb-compaction deltas quarantined`; purge the queue once they are dealt with.",
        {"letters": of_queue(names.dead_letter_queue, "ApproximateNumberOfMessagesVisible")},
        "IF(letters > 0, 1, 0)",
    )


def _quarantine(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "quarantine",
        "A delta was refused; the others were merged. `chromadb-compaction deltas quarantined` says which and why.",
        {"refused": of_tasks(names, metric_names.DELTAS_QUARANTINED, "Sum")},
        "IF(refused > 0, 1, 0)",
    )


def _failed(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "executions-failed",
        "An execution failed or timed out. Nothing is lost: its deltas stay pending."
        " `chromadb-compaction history` shows the error.",
        {
            "failed": of_executions(names, "ExecutionsFailed"),
            "timed_out": of_executions(names, "ExecutionsTimedOut"),
        },
        "IF(FILL(failed, 0) + FILL(timed_out, 0) > 0, 1, 0)",
    )


def _near_limit(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    limits = {spec.task: spec.seconds for spec in task_specs(config) if spec.task in ("compactor", "merge-batch")}
    metrics = {task.replace("-", "_"): of_function(names, task, "Duration", "Maximum") for task in limits}
    shares = [f"FILL({task.replace('-', '_')}, 0) / {seconds * 10}" for task, seconds in limits.items()]
    return AlarmSpec(
        "time-near-limit",
        f"A compaction function ran for over {NEAR_LIMIT_PERCENT}% of the time it may take. Give it more memory"
        " (chromadb:memory), or less to do at once (chromadb:maxPassBytes), before it times out.",
        metrics,
        f"IF(MAX([{', '.join(shares)}]) > {NEAR_LIMIT_PERCENT}, 1, 0)",
    )


def _stalled(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    # A schedule that starts more seldom than every half hour is given two of its intervals, a day at the most:
    # CloudWatch looks no further back with periods this short.
    window = min(DAY, max(HOUR, 2 * interval_minutes(config.compaction_schedule) * MINUTE))
    period = 5 * MINUTE
    return AlarmSpec(
        "stalled",
        f"Deltas have waited for {window // MINUTE} minutes in which no compaction succeeded. See"
        " `chromadb-compaction status` and `chromadb-compaction history`; is chromadb:enableCompaction on?",
        {
            "succeeded": of_tasks(names, metric_names.COMPACTION_SUCCEEDED, "Sum"),
            "waiting": of_queue(names.queue, "ApproximateNumberOfMessagesVisible"),
            "in_flight": of_queue(names.queue, "ApproximateNumberOfMessagesNotVisible"),
        },
        "IF(FILL(succeeded, 0) < 1 AND FILL(waiting, 0) + FILL(in_flight, 0) > 0, 1, 0)",
        period=period,
        periods=window // period,
    )
