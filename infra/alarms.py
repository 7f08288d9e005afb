"""The alarms for operators, and the alarm that starts a compaction early: pure definitions."""

from __future__ import annotations

from typing import Literal, NamedTuple

from chromadb_compaction.metrics import Measure
from infra.config import CompactionConfig
from infra.config_values import interval_minutes
from infra.metric_stats import MetricStat, of_executions, of_function, of_queue, of_rule, of_tasks
from infra.names import REPLICATED, StackNames
from infra.task_lambdas import task_specs

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html: an alarm evaluates seven
# days at most, and one day if its period is below an hour.
LONGEST_WINDOW = 7 * DAY
LONGEST_WINDOW_OF_SHORT_PERIODS = DAY
LONGEST_WARM_UP_MINUTES = 2 * 24 * 60
NEAR_LIMIT_PERCENT = 80
EARLY_START = "backlog"
LONG_TASKS = ("compactor", "fold-partitions", "merge-batch")


class AlarmSpec(NamedTuple):
    """One alarm. It goes off when `expression` is 1 in each of `periods` periods of `period` seconds.

    Args:
        name: The last part of the alarm's name.
        description: What happened and what to do. Operators read it.
        metrics: The metrics that the expression uses, by id.
        expression: CloudWatch metric math that gives 1 for an alarm and 0 otherwise.
        missing: The meaning of a period without data.
        period: Seconds of one period.
        periods: Periods in a row that must give 1.
        warm_up_minutes: Minutes after the alarm is made in which it does not go off.
    """

    name: str
    description: str
    metrics: dict[str, MetricStat]
    expression: str
    # Services write most metrics only when something happens, and the tasks write theirs only in an execution.
    missing: Literal["breaching", "notBreaching"] = "notBreaching"
    period: int = 5 * MINUTE
    periods: int = 1
    warm_up_minutes: int | None = None


def alarm_specs(names: StackNames, config: CompactionConfig) -> tuple[AlarmSpec, ...]:
    """Return the alarms that notify the topic."""
    stalled = _stalled(names, config)
    return (
        *([stalled] if stalled else []),
        _undelivered(names, config),
        _throttled(names, config),
        _query_errors(names),
        _lock_contention(names),
        _backlog_age(names, config),
        _dead_letters(names),
        _quarantine(names),
        _set_aside(names),
        _failed(names),
        _near_limit(names, config),
        *([_replication_failed(names)] if config.replica_region else []),
    )


def starts_early(config: CompactionConfig) -> bool:
    """Return whether a threshold for early starts is set."""
    return bool(config.backlog_start or config.backlog_start_minutes)


def early_start_spec(names: StackNames, config: CompactionConfig) -> AlarmSpec | None:
    """Return the alarm that starts a compaction and notifies nobody. Return None if no threshold is set."""
    if not starts_early(config):
        return None
    watched, conditions = {}, []
    if config.backlog_start:
        watched["notifications"] = of_queue(names.queue, "ApproximateNumberOfMessagesVisible")
        conditions.append(f"notifications >= {config.backlog_start}")
    if config.backlog_start_minutes:
        watched["age"] = of_queue(names.queue, "ApproximateAgeOfOldestMessage")
        conditions.append(f"age >= {config.backlog_start_minutes * MINUTE}")
    return AlarmSpec(
        EARLY_START,
        "A backlog of deltas is building up. No action is needed: this alarm starts a compaction early.",
        watched,
        f"IF({' OR '.join(conditions)}, 1, 0)",
        period=MINUTE,
    )


def _replication_failed(names: StackNames) -> AlarmSpec:
    # This metric is in the region of the source. The replica's lag, ReplicationLatency, is in that of the replica:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html
    failed = {
        f"failed_{rule}": MetricStat(
            "AWS/S3",
            "OperationsFailedReplication",
            {"SourceBucket": names.bucket, "DestinationBucket": names.replica_bucket, "RuleId": rule},
            "Sum",
        )
        for rule in REPLICATED
    }
    return AlarmSpec(
        "replication-failed",
        "S3 could not copy objects to the replica, and does not try again: a permission or a key is wrong, or the"
        f" replica's bucket is gone. Correct it, then run `chromadb-compaction replica copy {names.replica_bucket}`.",
        failed,
        f"IF({' OR '.join(f'{each} > 0' for each in failed)}, 1, 0)",
    )


def _lock_contention(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "lock-contention",
        "More than half of the executions of the last hour found the lock held. Either a compaction takes longer than"
        " the schedule's interval, or a lock is stuck. Run `chromadb-compaction lock show` and"
        " `chromadb-compaction history`.",
        # Every start counts 0 or 1, so the mean is the share of starts that found the lock held.
        {"held": of_tasks(names, Measure.LOCK_CONTENTION, "Average")},
        "IF(held > 0.5, 1, 0)",
        period=HOUR,
    )


def _backlog_age(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    interval = interval_minutes(config.compaction_schedule) * MINUTE
    # A delta that waits on purpose is not a backlog.
    limit = max(HOUR, 2 * interval) + config.compaction_max_age_minutes * MINUTE
    return AlarmSpec(
        "backlog-age",
        f"A delta has been pending for over {limit // MINUTE} minutes: compaction does not keep up."
        " Run `chromadb-compaction status`. Then start compactions more often (chromadb:compactionSchedule), or give"
        " the compactor more memory (chromadb:memory).",
        {"age": of_tasks(names, Measure.OLDEST_DELTA_AGE, "Maximum")},
        f"IF(age > {limit}, 1, 0)",
        # Each execution reports the age once. A shorter period would end the alarm between two executions.
        period=min(DAY, max(5 * MINUTE, interval)),
    )


def _dead_letters(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "dead-letters",
        "The dead-letter queue holds messages: quarantined deltas with their reasons, or messages that are not"
        " notifications. Run `chromadb-compaction deltas quarantined`. Purge the queue when they are dealt with.",
        {"messages": of_queue(names.dead_letter_queue, "ApproximateNumberOfMessagesVisible")},
        "IF(messages > 0, 1, 0)",
    )


def _quarantine(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "quarantine",
        "A delta was quarantined; the others were merged. Run `chromadb-compaction deltas quarantined` to see the delta"
        " and the reason.",
        {"quarantined": of_tasks(names, Measure.DELTAS_QUARANTINED, "Sum")},
        "IF(quarantined > 0, 1, 0)",
    )


def _set_aside(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "set-aside",
        "A delta cannot be read, or made several executions fail, or its collection is too large to be folded. It stays"
        " pending, and the others are merged."
        " `chromadb-compaction status` names it, with the reason and what to do.",
        {"set_aside": of_tasks(names, Measure.DELTAS_SET_ASIDE, "Maximum")},
        "IF(set_aside > 0, 1, 0)",
    )


def _failed(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "executions-failed",
        "An execution failed or timed out. Nothing is lost: its deltas are still pending."
        " Run `chromadb-compaction history` to see the error.",
        {
            "failed": of_executions(names, "ExecutionsFailed"),
            "timed_out": of_executions(names, "ExecutionsTimedOut"),
        },
        "IF(FILL(failed, 0) + FILL(timed_out, 0) > 0, 1, 0)",
    )


def _near_limit(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    limits = {spec.task: spec.seconds for spec in task_specs(config) if spec.task in LONG_TASKS}
    watched = {task.replace("-", "_"): of_function(names, task, "Duration", "Maximum") for task in limits}
    shares = [f"FILL({task.replace('-', '_')}, 0) / {seconds * 10}" for task, seconds in limits.items()]
    return AlarmSpec(
        "time-near-limit",
        f"A compaction function ran for over {NEAR_LIMIT_PERCENT}% of its timeout. Before it times out, give it more"
        " memory (chromadb:memory), or smaller passes (chromadb:maxPassBytes).",
        watched,
        f"IF(MAX([{', '.join(shares)}]) > {NEAR_LIMIT_PERCENT}, 1, 0)",
    )


def _stalled(names: StackNames, config: CompactionConfig) -> AlarmSpec | None:
    """Return the alarm on the absence of successes, or None if no execution is due within the longest window.

    An execution that finds nothing to do counts as a success, so the alarm needs neither notifications nor executions.
    """
    interval = interval_minutes(config.compaction_schedule) * MINUTE
    if not config.enable_compaction or interval >= LONGEST_WINDOW:
        return None
    window = min(LONGEST_WINDOW, max(HOUR, 2 * interval))
    period = 5 * MINUTE if window <= LONGEST_WINDOW_OF_SHORT_PERIODS else HOUR
    return AlarmSpec(
        "stalled",
        f"No compaction has succeeded for {window // MINUTE} minutes, not even one with nothing to do."
        " Run `chromadb-compaction history`. If it shows no execution in that time, the schedule does not start any."
        " New deltas stay pending, and nothing is lost.",
        {"succeeded": of_tasks(names, Measure.COMPACTION_SUCCEEDED, "Sum")},
        # FILL: the periods between two executions have no data, and CloudWatch would look for older data instead.
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
        "IF(FILL(succeeded, 0) < 1, 1, 0)",
        missing="breaching",
        period=period,
        periods=window // period,
        # A new stack, and one whose compaction is switched on again, has no success yet.
        # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-warm-up.html
        warm_up_minutes=min(LONGEST_WARM_UP_MINUTES, window // MINUTE),
    )


def _undelivered(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    rules = {"schedule": names.schedule_rule, "unfinished": names.unfinished_rule}
    if starts_early(config):
        rules["early"] = names.early_rule
    if config.prefetches:
        rules["prefetch"] = names.prefetch_rule
    watched = {name: of_rule(rule, "FailedInvocations") for name, rule in rules.items()}
    watched["kept"] = of_queue(names.undelivered_queue, "ApproximateNumberOfMessagesVisible")
    return AlarmSpec(
        "undelivered",
        "EventBridge or Lambda gave up an event: a start of a compaction, a call of ReleaseLock after a failed one, or"
        f" an asynchronous call of a function. The queue {names.undelivered_queue} keeps it. Usually a role or a rule"
        " was changed by hand: run `pulumi preview --refresh`. Start a compaction with `chromadb-compaction compact`; a"
        " lock that was left behind expires by itself. Purge the queue when its messages are dealt with.",
        watched,
        f"IF({' + '.join(f'FILL({name}, 0)' for name in watched)} > 0, 1, 0)",
    )


def _throttled(names: StackNames, config: CompactionConfig) -> AlarmSpec:
    # Not fold-partitions: only a large pass calls it, the workflow repeats the calls, and a graph costs every month.
    called = [spec.task for spec in task_specs(config) if spec.task != "fold-partitions"]
    watched = {task.replace("-", "_"): task for task in called}
    throttles = " + ".join(f"FILL({name}, 0)" for name in watched)
    return AlarmSpec(
        "throttled",
        "Lambda refused to call a function, because too many calls run at once. The workflow tries again; readers and"
        " producers get an error. Ask AWS for more concurrent executions, or let fewer callers call at once."
        " The alarm's graph shows which function it is.",
        {name: of_function(names, task, "Throttles", "Sum") for name, task in watched.items()},
        f"IF({throttles} > 0, 1, 0)",
    )


def _query_errors(names: StackNames) -> AlarmSpec:
    return AlarmSpec(
        "query-errors",
        "The query function failed, so readers get no answer: it timed out, ran out of memory, or could not read the"
        " bucket. A wrong request does not count. Run `chromadb-compaction doctor`, and read the function's log"
        f" /aws/lambda/{names.function('query')}.",
        {"errors": of_function(names, "query", "Errors", "Sum")},
        "IF(errors > 0, 1, 0)",
    )
