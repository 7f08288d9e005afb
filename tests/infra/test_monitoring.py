"""Somebody hears of whatever needs a person, and a backlog starts a compaction without one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from infra import metric_names
from infra.config_values import interval_minutes
from tests.infra.declared import declared

TOPIC = "arn:aws:sns:eu-west-1:123456789012:ops"
FOR_PEOPLE = [
    "lock-contention",
    "backlog-age",
    "dead-letters",
    "quarantine",
    "executions-failed",
    "time-near-limit",
    "stalled",
]
EVERY = [*FOR_PEOPLE, "backlog"]
HOUR = 3600


def alarm(name: str, **config: str) -> dict[str, Any]:
    stack = declared(**config)
    return stack.one("MetricAlarm", f"chromadb-compaction-dev-{name}")


def asked(name: str, **config: str) -> dict[str, Any]:
    """Return the metrics of an alarm, by id."""
    return {q["id"]: q["metric"] for q in alarm(name, **config)["metricQueries"] if "metric" in q}


def expression(name: str, **config: str) -> str:
    (found,) = (q["expression"] for q in alarm(name, **config)["metricQueries"] if "expression" in q)
    return str(found)


def raised(name: str, values: Mapping[str, float], **config: str) -> bool:
    """Say whether an alarm's expression holds for these values: CloudWatch's arithmetic, in Python's words."""
    condition, yes, no = expression(name, **config).removeprefix("IF(").removesuffix(")").rsplit(", ", 2)
    assert (yes, no) == ("1", "0")
    python = condition.replace(" AND ", " and ").replace(" OR ", " or ")
    functions = {"MAX": max, "FILL": lambda value, _otherwise: value}
    return bool(eval(python, functions, dict(values)))  # our own expression


def window(name: str, **config: str) -> int:
    periods = {metric["period"] for metric in asked(name, **config).values()}
    return int(alarm(name, **config)["evaluationPeriods"]) * int(periods.pop())


def test_there_is_an_alarm_for_each_thing_that_goes_wrong_and_one_for_the_backlog() -> None:
    found = {a.inputs["name"].removeprefix("chromadb-compaction-dev-") for a in declared().of_type("MetricAlarm")}
    assert found == set(EVERY)


@pytest.mark.parametrize("name", FOR_PEOPLE)
def test_an_alarm_tells_the_topic_when_it_goes_off_and_when_it_ends(name: str) -> None:
    inputs = alarm(name, alarmTopicArn=TOPIC)
    assert (inputs["alarmActions"], inputs["okActions"]) == ([TOPIC], [TOPIC])


@pytest.mark.parametrize("name", EVERY)
def test_without_a_topic_an_alarm_tells_nobody(name: str) -> None:
    assert (alarm(name)["alarmActions"], alarm(name)["okActions"]) == ([], [])


def test_nobody_is_woken_by_a_backlog_that_starts_its_own_compaction() -> None:
    assert alarm("backlog", alarmTopicArn=TOPIC)["alarmActions"] == []


@pytest.mark.parametrize("name", EVERY)
def test_an_alarm_says_what_it_means_within_what_cloudwatch_keeps(name: str) -> None:
    assert 20 < len(alarm(name)["alarmDescription"]) <= 1024


@pytest.mark.parametrize("name", EVERY)
def test_a_quiet_stack_is_a_healthy_one(name: str) -> None:
    assert alarm(name)["treatMissingData"] == "notBreaching"


@pytest.mark.parametrize("name", EVERY)
def test_an_expression_uses_the_metrics_that_are_asked_for_and_returns_itself_alone(name: str) -> None:
    words = set(re.findall(r"[a-z_]\w*", expression(name)))
    assert words == set(asked(name))
    assert [q["returnData"] for q in alarm(name)["metricQueries"]] == [*[False] * len(words), True]


@pytest.mark.parametrize("name", EVERY)
def test_an_alarm_looks_back_no_further_than_cloudwatch_can(name: str) -> None:
    assert window(name, compactionSchedule="rate(7 days)") <= 24 * HOUR


@pytest.mark.parametrize(
    ("name", "quiet", "loud"),
    [
        ("lock-contention", {"held": 0.5}, {"held": 0.75}),
        ("backlog-age", {"age": HOUR}, {"age": HOUR + 1}),
        ("dead-letters", {"letters": 0}, {"letters": 1}),
        ("quarantine", {"refused": 0}, {"refused": 1}),
        ("executions-failed", {"failed": 0, "timed_out": 0}, {"failed": 1, "timed_out": 0}),
        ("executions-failed", {"failed": 0, "timed_out": 0}, {"failed": 0, "timed_out": 1}),
        ("time-near-limit", {"compactor": 672_000, "merge_batch": 0}, {"compactor": 672_001, "merge_batch": 0}),
        ("time-near-limit", {"compactor": 0, "merge_batch": 672_000}, {"compactor": 0, "merge_batch": 672_001}),
        (
            "stalled",
            {"succeeded": 1, "waiting": 9, "in_flight": 0},
            {"succeeded": 0, "waiting": 1, "in_flight": 0},
        ),
        (
            "stalled",
            {"succeeded": 0, "waiting": 0, "in_flight": 0},
            {"succeeded": 0, "waiting": 0, "in_flight": 1},
        ),
        ("backlog", {"notices": 999}, {"notices": 1000}),
    ],
)
def test_an_alarm_goes_off_just_past_its_limit(name: str, quiet: dict[str, float], loud: dict[str, float]) -> None:
    assert (raised(name, quiet), raised(name, loud)) == (False, True)


def test_the_time_that_a_function_may_take_moves_the_alarm() -> None:
    values = {"compactor": 300_000, "merge_batch": 0}
    assert not raised("time-near-limit", values)
    assert raised("time-near-limit", values, timeout='{"compactor": 360}')


def test_nothing_has_succeeded_for_an_hour_before_compaction_counts_as_stalled() -> None:
    assert window("stalled") == HOUR


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [("rate(1 minute)", 1), ("rate(2 hours)", 4), ("rate(2 days)", 24), ("cron(0 3 * * ? *)", 24)],
)
def test_a_slower_schedule_is_given_two_of_its_intervals(schedule: str, hours: int) -> None:
    assert window("stalled", compactionSchedule=schedule) == hours * HOUR


def test_a_delta_may_wait_for_two_intervals_of_a_slow_schedule() -> None:
    assert raised("backlog-age", {"age": 4 * HOUR + 1}, compactionSchedule="rate(2 hours)")
    assert not raised("backlog-age", {"age": 4 * HOUR}, compactionSchedule="rate(2 hours)")


@pytest.mark.parametrize(
    ("schedule", "minutes"),
    [("rate(1 minute)", 1), ("rate(15 minutes)", 15), ("rate(1 hour)", 60), ("rate(2 days)", 2880), ("cron(x)", 1440)],
)
def test_a_schedules_interval_is_read_from_its_words(schedule: str, minutes: int) -> None:
    assert interval_minutes(schedule) == minutes


def early_start(**config: str) -> dict[str, Any]:
    stack = declared(**config)
    return stack.one("EventRule", "chromadb-compaction-dev-early")


def test_the_backlogs_alarm_starts_the_workflow_when_it_goes_off() -> None:
    assert json.loads(early_start()["eventPattern"]) == {
        "source": ["aws.cloudwatch"],
        "detail-type": ["CloudWatch Alarm State Change"],
        "resources": ["arn:aws:cloudwatch:eu-west-1:123456789012:alarm:chromadb-compaction-dev-backlog"],
        "detail": {"state": {"value": ["ALARM"]}},
    }
    (target,) = (t.inputs for t in declared().of_type("EventTarget") if t.inputs["rule"] == early_start()["name"])
    assert target["arn"] == "arn:aws:states:eu-west-1:123456789012:stateMachine:chromadb-compaction-dev"


@pytest.mark.parametrize(
    ("config", "quiet", "loud"),
    [
        ({"backlogStart": "50"}, {"notices": 49}, {"notices": 50}),
        ({"backlogStart": "0", "backlogStartMinutes": "5"}, {"age": 299}, {"age": 300}),
        ({"backlogStart": "50", "backlogStartMinutes": "5"}, {"notices": 49, "age": 299}, {"notices": 1, "age": 300}),
    ],
)
def test_a_backlog_is_many_notices_or_an_old_one_as_configured(
    config: dict[str, str], quiet: dict[str, float], loud: dict[str, float]
) -> None:
    assert asked("backlog", **config).keys() == quiet.keys()
    assert (raised("backlog", quiet, **config), raised("backlog", loud, **config)) == (False, True)


def test_without_a_threshold_nothing_starts_early() -> None:
    stack = declared(backlogStart="0")
    names = [r.inputs.get("name") for r in stack.resources]
    assert not {"chromadb-compaction-dev-backlog", "chromadb-compaction-dev-early"} & set(names)


def test_switched_off_a_backlog_starts_nothing_either() -> None:
    assert early_start(enableCompaction="false")["state"] == "DISABLED"


@pytest.mark.parametrize("name", EVERY)
def test_an_alarm_asks_for_no_metric_of_ours_that_nobody_writes(name: str) -> None:
    ours = [m for m in asked(name).values() if m["namespace"] == metric_names.NAMESPACE]
    assert {m["metricName"] for m in ours} <= metric_names.UNITS.keys()
    assert all(m["dimensions"] == {"stack": "dev"} for m in ours)
