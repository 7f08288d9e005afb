"""Alarms notify operators, and a backlog starts a compaction without one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from chromadb_compaction import metrics
from infra.config_values import interval_minutes
from tests.infra.declared import TASKS, declared
from tests.metric_math import evaluate

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ops"
FOR_OPERATORS = [
    "lock-contention",
    "backlog-age",
    "dead-letters",
    "quarantine",
    "set-aside",
    "executions-failed",
    "time-near-limit",
    "stalled",
    "undelivered",
    "throttled",
    "query-errors",
]
IDS = [task.replace("-", "_") for task in TASKS if task != "fold-partitions"]
LONG = {"compactor": 0.0, "fold_partitions": 0.0, "merge_batch": 0.0}
EVERY = [*FOR_OPERATORS, "backlog"]
HOUR = 3600
DAY = 24 * HOUR


def alarm(name: str, **config: str) -> dict[str, Any]:
    stack = declared(**config)
    return stack.one("MetricAlarm", f"chromadb-compaction-dev-{name}")


def queried(name: str, **config: str) -> dict[str, Any]:
    """Return the metrics of an alarm, by id."""
    return {q["id"]: q["metric"] for q in alarm(name, **config)["metricQueries"] if "metric" in q}


def expression(name: str, **config: str) -> str:
    (found,) = (q["expression"] for q in alarm(name, **config)["metricQueries"] if "expression" in q)
    return str(found)


def raised(name: str, values: Mapping[str, float | None], **config: str) -> bool:
    """Return whether a period with these values counts towards the alarm."""
    found = evaluate(expression(name, **config), values)
    return alarm(name, **config)["treatMissingData"] == "breaching" if found is None else found


def window(name: str, **config: str) -> int:
    periods = {metric["period"] for metric in queried(name, **config).values()}
    return int(alarm(name, **config)["evaluationPeriods"]) * int(periods.pop())


def test_there_is_an_alarm_for_each_problem_and_one_for_the_backlog() -> None:
    found = {a.inputs["name"].removeprefix("chromadb-compaction-dev-") for a in declared().of_type("MetricAlarm")}
    assert found == set(EVERY)


@pytest.mark.parametrize("name", FOR_OPERATORS)
def test_an_alarm_notifies_the_topic_when_it_goes_off_and_when_it_ends(name: str) -> None:
    inputs = alarm(name, alarmTopicArn=TOPIC)
    assert (inputs["alarmActions"], inputs["okActions"]) == ([TOPIC], [TOPIC])


@pytest.mark.parametrize("name", FOR_OPERATORS)
def test_without_a_configured_topic_an_alarm_notifies_the_stacks_own(name: str) -> None:
    own = "arn:aws:sns:eu-west-1:123456789012:chromadb-compaction-dev-alarms"
    assert (alarm(name)["alarmActions"], alarm(name)["okActions"]) == ([own], [own])


def test_a_configured_topic_is_used_instead_of_an_own_one() -> None:
    assert not list(declared(alarmTopicArn=TOPIC).of_type("Topic"))


@pytest.mark.parametrize(
    ("config", "topic"),
    [({}, "arn:aws:sns:eu-west-1:123456789012:chromadb-compaction-dev-alarms"), ({"alarmTopicArn": TOPIC}, TOPIC)],
)
def test_an_address_is_subscribed_to_the_topic_that_the_alarms_notify(config: dict[str, str], topic: str) -> None:
    subscription = declared(alarmEmail="ops@example.com", **config).one("TopicSubscription")
    assert subscription == {"topic": topic, "protocol": "email", "endpoint": "ops@example.com"}


def test_without_an_address_nobody_is_subscribed() -> None:
    assert not list(declared().of_type("TopicSubscription"))


def test_only_the_stacks_own_alarms_may_notify_its_topic() -> None:
    (statement,) = json.loads(declared().one("TopicPolicy")["policy"])["Statement"]
    assert statement["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:chromadb-compaction-dev-*"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }


def test_the_backlog_alarm_notifies_nobody() -> None:
    assert alarm("backlog", alarmTopicArn=TOPIC)["alarmActions"] == []


@pytest.mark.parametrize("name", EVERY)
def test_an_alarm_has_a_description_of_at_most_1024_characters(name: str) -> None:
    assert 20 < len(alarm(name)["alarmDescription"]) <= 1024


@pytest.mark.parametrize("name", EVERY)
def test_only_missing_successes_raise_an_alarm(name: str) -> None:
    assert raised(name, dict.fromkeys(queried(name))) == (name == "stalled")


@pytest.mark.parametrize("name", EVERY)
def test_an_expression_uses_all_queried_metrics_and_is_the_only_result(name: str) -> None:
    words = set(re.findall(r"[a-z_]\w*", expression(name)))
    assert words == set(queried(name))
    assert [q["returnData"] for q in alarm(name)["metricQueries"]] == [*[False] * len(words), True]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("schedule", ["rate(1 minute)", "rate(11 hours)", "rate(13 hours)", "rate(6 days)"])
def test_an_alarm_evaluates_at_most_a_week_and_with_short_periods_a_day(name: str, schedule: str) -> None:
    (period,) = {metric["period"] for metric in queried(name, compactionSchedule=schedule).values()}
    assert window(name, compactionSchedule=schedule) <= (7 * DAY if period >= HOUR else DAY)


@pytest.mark.parametrize("name", EVERY)
def test_an_alarm_watches_at_most_ten_metrics(name: str) -> None:
    assert len(queried(name)) <= 10


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        ("lock-contention", {"held": 0.5}, {"held": 0.75}),
        ("backlog-age", {"age": HOUR}, {"age": HOUR + 1}),
        ("dead-letters", {"messages": 0}, {"messages": 1}),
        ("quarantine", {"quarantined": 0}, {"quarantined": 1}),
        ("executions-failed", {"failed": 0, "timed_out": 0}, {"failed": 1, "timed_out": 0}),
        ("executions-failed", {"failed": 0, "timed_out": 0}, {"failed": 0, "timed_out": 1}),
        ("time-near-limit", LONG | {"compactor": 672_000}, LONG | {"compactor": 672_001}),
        ("time-near-limit", LONG | {"merge_batch": 672_000}, LONG | {"merge_batch": 672_001}),
        ("time-near-limit", LONG | {"fold_partitions": 672_000}, LONG | {"fold_partitions": 672_001}),
        ("stalled", {"succeeded": 1}, {"succeeded": 0}),
        ("stalled", {"succeeded": 1}, {"succeeded": None}),
        (
            "undelivered",
            {"schedule": None, "unfinished": 0, "early": None, "kept": None},
            {"schedule": None, "unfinished": None, "early": 1, "kept": None},
        ),
        (
            "undelivered",
            {"schedule": None, "unfinished": None, "early": None, "kept": 0},
            {"schedule": None, "unfinished": None, "early": None, "kept": 1},
        ),
        ("throttled", dict.fromkeys(IDS, 0.0), dict.fromkeys(IDS, 0.0) | {"query": 1}),
        ("query-errors", {"errors": 0}, {"errors": 1}),
        ("backlog", {"notifications": 999}, {"notifications": 1000}),
    ],
)
def test_an_alarm_goes_off_just_past_its_limit(
    name: str, below: dict[str, float | None], above: dict[str, float | None]
) -> None:
    assert below.keys() == above.keys() == queried(name).keys()
    assert (raised(name, below), raised(name, above)) == (False, True)


def test_the_time_alarm_follows_the_timeout_of_the_function() -> None:
    values = LONG | {"compactor": 300_000}
    assert not raised("time-near-limit", values)
    assert raised("time-near-limit", values, timeout='{"compactor": 360}')


def test_compaction_counts_as_stalled_after_an_hour_without_success() -> None:
    assert window("stalled") == HOUR


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("rate(1 minute)", 1),
        ("rate(2 hours)", 4),
        ("rate(2 days)", 4 * 24),
        ("rate(6 days)", 7 * 24),
        ("cron(0 3 * * ? *)", 2 * 24),
        ("cron(0 3 ? * MON-FRI *)", 6 * 24),
    ],
)
def test_a_slower_schedule_gets_two_of_its_intervals(schedule: str, hours: int) -> None:
    assert window("stalled", compactionSchedule=schedule) == hours * HOUR


@pytest.mark.parametrize(
    "config",
    [
        {"enableCompaction": "false"},
        {"compactionSchedule": "rate(7 days)"},
        {"compactionSchedule": "cron(0 3 ? * MON *)"},
        {"compactionSchedule": "cron(0 3 1 * ? *)"},
    ],
)
def test_nothing_counts_as_stalled_while_no_execution_is_due(config: dict[str, str]) -> None:
    assert "chromadb-compaction-dev-stalled" not in {
        a.inputs["name"] for a in declared(**config).of_type("MetricAlarm")
    }


@pytest.mark.parametrize(("schedule", "minutes"), [("rate(15 minutes)", 60), ("rate(3 days)", 2880)])
def test_a_new_stack_gets_the_whole_window_for_its_first_success(schedule: str, minutes: int) -> None:
    assert alarm("stalled", compactionSchedule=schedule)["warmUpConfiguration"] == {
        "warmUpPeriodDurationInMinutes": minutes,
        "onlyStartEvaluatingAfterWarmUpPeriodEnds": True,
    }


def test_a_delta_may_be_pending_for_two_intervals_of_a_slow_schedule() -> None:
    assert raised("backlog-age", {"age": 4 * HOUR + 1}, compactionSchedule="rate(2 hours)")
    assert not raised("backlog-age", {"age": 4 * HOUR}, compactionSchedule="rate(2 hours)")


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [
        ("rate(1 minute)", 1),
        ("rate(15 minutes)", 15),
        ("rate(1 hour)", 60),
        ("rate(2 days)", 2 * 1440),
        ("cron(0/15 * * * ? *)", 1440),
        ("cron(0 3 ? * MON-FRI *)", 3 * 1440),
        ("cron(0 3 ? * 2,4 *)", 5 * 1440),
        ("cron(0 3 ? * SAT-MON *)", 7 * 1440),
        ("cron(0 3 ? * 6#3 *)", 7 * 1440),
        ("cron(0 3 1 * ? *)", 7 * 1440),
    ],
)
def test_the_interval_of_a_schedule_is_parsed(schedule: str, minutes: int) -> None:
    assert interval_minutes(schedule) == minutes


def early_start(**config: str) -> dict[str, Any]:
    stack = declared(**config)
    return stack.one("EventRule", "chromadb-compaction-dev-early")


def test_the_backlog_alarm_starts_the_workflow_when_it_goes_off() -> None:
    assert json.loads(early_start()["eventPattern"]) == {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "resources": ["arn:aws:cloudwatch:eu-west-1:123456789012:alarm:chromadb-compaction-dev-backlog"],
        "detail": {"state": {"value": ["ALARM"]}},
    }
    (target,) = (t.inputs for t in declared().of_type("EventTarget") if t.inputs["rule"] == early_start()["name"])
    assert target["arn"] == "arn:aws:states:eu-west-1:123456789012:stateMachine:chromadb-compaction-dev"


@pytest.mark.parametrize(
    ("config", "below", "above"),
    [
        ({"backlogStart": "50"}, {"notifications": 49}, {"notifications": 50}),
        ({"backlogStart": "0", "backlogStartMinutes": "5"}, {"age": 299}, {"age": 300}),
        (
            {"backlogStart": "50", "backlogStartMinutes": "5"},
            {"notifications": 49, "age": 299},
            {"notifications": 1, "age": 300},
        ),
    ],
)
def test_a_backlog_is_many_notifications_or_an_old_one_as_configured(
    config: dict[str, str], below: dict[str, float], above: dict[str, float]
) -> None:
    assert queried("backlog", **config).keys() == below.keys()
    assert (raised("backlog", below, **config), raised("backlog", above, **config)) == (False, True)


def test_without_a_threshold_nothing_starts_early() -> None:
    stack = declared(backlogStart="0")
    names = [r.inputs.get("name") for r in stack.resources]
    assert not {"chromadb-compaction-dev-backlog", "chromadb-compaction-dev-early"} & set(names)


def test_a_backlog_starts_nothing_when_compaction_is_switched_off() -> None:
    assert early_start(enableCompaction="false")["state"] == "DISABLED"


@pytest.mark.parametrize("name", EVERY)
def test_an_alarm_queries_the_tasks_metrics_of_this_stack(name: str) -> None:
    ours = [m for m in queried(name).values() if m["namespace"] == metrics.NAMESPACE]
    assert all(m["dimensions"] == {"stack": "dev"} for m in ours)
