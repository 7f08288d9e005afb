"""Executions of the workflow, through the Step Functions API."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.executions.timeline import Timeline, failure_of, read_timeline
from chromadb_compaction.errors import ConfigurationError
from chromadb_compaction.settings import Settings, required

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import HistoryEventTypeDef

RUNNING = "RUNNING"
_FASTEST_POLL = 0.3
_SLOWEST_POLL = 3.0


class Execution(BaseModel):
    """One execution as Step Functions describes it. `status` is RUNNING, SUCCEEDED, FAILED, TIMED_OUT or ABORTED."""

    model_config = ConfigDict(frozen=True)

    arn: str
    name: str
    status: str
    started: datetime
    stopped: datetime | None
    error: str | None = None
    message: str | None = None

    @property
    def seconds(self) -> float:
        """How long it ran, or has been running."""
        stopped = self.stopped or datetime.now(self.started.tzinfo)
        return max((stopped - self.started).total_seconds(), 0.0)


def state_machine(settings: Settings) -> str:
    """Return the state machine's ARN. Raises ConfigurationError naming the variable that should hold it."""
    return required(settings.state_machine_arn, "STATE_MACHINE_ARN")


def start(client: SFNClient, machine: str) -> str:
    """Start an execution and return its ARN."""
    try:
        return client.start_execution(stateMachineArn=machine)["executionArn"]
    except client.exceptions.StateMachineDoesNotExist as error:
        raise ConfigurationError(f"there is no state machine {machine}; set STATE_MACHINE_ARN right") from error


def latest(client: SFNClient, machine: str, count: int) -> list[Execution]:
    """Return the last `count` executions, newest first."""
    found = client.list_executions(stateMachineArn=machine, maxResults=count)["executions"]
    executions = [
        Execution(
            arn=each["executionArn"],
            name=each["name"],
            status=each["status"],
            started=each["startDate"],
            stopped=each.get("stopDate"),
        )
        for each in found
    ]
    return sorted(executions, key=lambda each: each.started, reverse=True)[:count]


def describe(client: SFNClient, arn: str) -> Execution:
    """Return one execution. Raises NothingFoundError."""
    try:
        found = client.describe_execution(executionArn=arn)
    except (client.exceptions.ExecutionDoesNotExist, client.exceptions.InvalidArn) as error:
        message = f"there is no execution {arn}; see the last ones: chromadb-compaction status"
        raise NothingFoundError(message) from error
    failed = failure_of(found, found["startDate"]) if found.get("error") else None
    return Execution(
        arn=arn,
        name=found.get("name") or arn.rpartition(":")[2],
        status=found["status"],
        started=found["startDate"],
        stopped=found.get("stopDate"),
        error=failed.error if failed else None,
        message=failed.message if failed else None,
    )


def find(client: SFNClient, machine: str, name: str | None) -> Execution:
    """Return the execution of that name or ARN; None: the last one. Raises NothingFoundError."""
    if name is not None:
        arn = name if name.startswith("arn:") else f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        return describe(client, arn)
    last = latest(client, machine, 1)
    if not last:
        raise NothingFoundError("nothing has been executed yet; start an execution: chromadb-compaction compact --wait")
    return describe(client, last[0].arn)


def read_history(client: SFNClient, arn: str) -> Timeline:
    """Return what has happened so far."""
    events: list[HistoryEventTypeDef] = []
    for page in client.get_paginator("get_execution_history").paginate(executionArn=arn):
        events += page["events"]
    return read_timeline(events)


def follow(client: SFNClient, arn: str, watch: Callable[[Timeline], None]) -> Timeline:
    """Call `watch` with the growing timeline until the execution has ended, and return the whole of it.

    Asks less often the longer the history, so that a long execution does not exhaust the account's API quota.
    """
    while True:
        timeline = read_history(client, arn)
        watch(timeline)
        if timeline.ended:
            return timeline
        time.sleep(min(_SLOWEST_POLL, _FASTEST_POLL + len(timeline.visits) / 100))
