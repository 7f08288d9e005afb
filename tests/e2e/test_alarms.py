"""Alarms of a deployed stack: which go off, and what an operator then reads."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

import pytest

from tests.e2e.alarm_states import Datapoints, alarms_of, raised
from tests.e2e.conftest import DeployStack
from tests.e2e.emitted_metrics import emitted
from tests.e2e.model import Delta, Row
from tests.stack import Stack

pytestmark = pytest.mark.e2e

SCHEDULED = {"enableCompaction": "true", "compactionSchedule": "rate(15 minutes)"}
INTERVAL = 15 * 60
DELTA = Delta("docs", (Row("a", (1.0, 0.0)),))
MUTED: Datapoints = {}
"""No metric has data: no execution runs, and SQS reports nothing about a queue that nobody uses."""


@pytest.fixture
def scheduled(deploy: DeployStack) -> Stack:
    """An empty stack whose schedule is on, and starts nothing during a test."""
    return deploy(config=SCHEDULED)


def raised_in(stack: Stack, data: Datapoints, config: Mapping[str, str] = SCHEDULED) -> set[str]:
    return {name for name, alarm in alarms_of(stack, config).items() if raised(alarm, data)}


def written(stack: Stack) -> dict[str, float]:
    """Return the sum of each metric that the functions have just written."""
    sums: dict[str, float] = {}
    for metric in emitted(stack):
        sums[metric.name] = sums.get(metric.name, 0) + sum(metric.values)
    return sums


def every_interval(stack: Stack) -> Datapoints:
    """Return the metrics that the functions have just written, as if each interval had written them."""
    return {name: partial(_at_each_end, value) for name, value in written(stack).items()}


def every_period(stack: Stack) -> Datapoints:
    """Return the same metrics, as if each period of an alarm had them."""
    return {name: partial(_always, value) for name, value in written(stack).items()}


def _always(value: float, _ago: int) -> float:
    return value


def _at_each_end(value: float, ago: int) -> float | None:
    return None if ago % INTERVAL else value


def advised(stack: Stack, alarm: str) -> str:
    """Run the commands that an alarm's description names, and return what they print."""
    commands = re.findall(r"`chromadb-compaction ([^`]+)`", alarms_of(stack, SCHEDULED)[alarm].description)
    assert commands, alarm
    return "".join(command(stack, *shlex.split(words)) for words in commands)


def command(stack: Stack, *words: str) -> str:
    program = [sys.executable, "-m", "chromadb_compaction", *words]
    done = subprocess.run(
        program, env={**stack.env}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_a_dead_schedule_with_a_muted_queue_alarms_and_the_operator_finds_the_cause(scheduled: Stack) -> None:
    rule = f"chromadb-compaction-{scheduled.deployed.name}-schedule"
    events = scheduled.deployed.client("events")
    events.disable_rule(Name=rule)
    scheduled.put_objects({DELTA.key: DELTA.body()})

    assert raised_in(scheduled, MUTED) == {"stalled"}

    assert "no execution" in advised(scheduled, "stalled")
    assert "Pending        1 delta" in command(scheduled, "status")
    assert events.describe_rule(Name=rule)["State"] == "DISABLED"

    events.enable_rule(Name=rule)
    assert scheduled.compact().status == "SUCCEEDED"
    assert raised_in(scheduled, every_interval(scheduled)) == set()
    assert "Pending        none" in command(scheduled, "status")


def test_a_muted_queue_alone_delays_nothing_and_alarms_nobody(scheduled: Stack) -> None:
    scheduled.put_objects({DELTA.key: DELTA.body()})
    scheduled.compact()

    assert scheduled.keys("delta/") == []
    assert raised_in(scheduled, every_interval(scheduled)) == set()


def test_a_schedule_that_finds_nothing_to_do_alarms_nobody(scheduled: Stack) -> None:
    scheduled.compact()

    assert raised_in(scheduled, every_interval(scheduled)) == set()


def test_executions_that_all_fail_alarm_as_failed_and_as_stalled(scheduled: Stack) -> None:
    scheduled.put_objects({DELTA.key: DELTA.body(), "snapshot/CURRENT": b"{"})
    assert scheduled.compact().status == "FAILED"

    failures: Datapoints = {"ExecutionsFailed": lambda _ago: 1}
    assert raised_in(scheduled, {**every_interval(scheduled), **failures}) == {
        "executions-failed",
        "stalled",
    }
    assert "SnapshotCorruptError" in advised(scheduled, "executions-failed")


def test_a_delta_whose_key_was_taken_away_alarms_as_set_aside_and_is_named(scheduled: Stack) -> None:
    """The functions lack its key, as after a key of KMS was revoked: the contract tests have S3's answers to both."""
    unreadable = Delta("docs", (Row("b", (0.0, 1.0)),))
    scheduled.deployed.client("s3").put_object(
        Bucket=scheduled.bucket,
        Key=unreadable.key,
        Body=unreadable.body(),
        SSECustomerAlgorithm="AES256",
        SSECustomerKey="k" * 32,
    )
    scheduled.put_objects({DELTA.key: DELTA.body()})

    for _ in range(2):
        assert scheduled.compact().status == "SUCCEEDED"

    assert scheduled.keys("delta/") == [unreadable.key]
    assert raised_in(scheduled, every_period(scheduled)) == {"set-aside"}
    assert unreadable.key in advised(scheduled, "set-aside")


def test_nobody_is_alarmed_while_compaction_is_switched_off(stack: Stack) -> None:
    stack.put_objects({DELTA.key: DELTA.body()})

    assert raised_in(stack, MUTED, {"enableCompaction": "false"}) == set()
