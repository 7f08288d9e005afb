"""Executions of the workflow, as the commands show them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.aws import workflow
from chromadb_compaction.cli.common.exits import NothingFoundError
from chromadb_compaction.cli.executions.timeline import Timeline, failure_of, read_timeline
from chromadb_compaction.operations.typed_ids import LATEST, find_id
from chromadb_compaction.settings import Settings, required

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

MIN_POLL_SECONDS = 0.3
MAX_POLL_SECONDS = 3.0
SEARCHED = 1000
"""The most executions that Step Functions lists in one call."""


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
        """Seconds from its start to its end, or to now while it runs."""
        stopped = self.stopped or datetime.now(self.started.tzinfo)
        return max((stopped - self.started).total_seconds(), 0.0)


def state_machine(settings: Settings) -> str:
    """Return the state machine's ARN. Raises ConfigurationError if STATE_MACHINE_ARN is not set."""
    return required(settings.state_machine_arn, "STATE_MACHINE_ARN")


def latest(client: SFNClient, machine: str, count: int) -> list[Execution]:
    """Return the last `count` executions, newest first. None of them has its error and message."""
    executions = [_execution(each["executionArn"], each) for each in workflow.list_executions(client, machine, count)]
    return sorted(executions, key=lambda each: each.started, reverse=True)[:count]


def describe(client: SFNClient, arn: str) -> Execution:
    """Return one execution. Raises NothingFoundError."""
    found = workflow.describe(client, arn)
    if found is None:
        raise NothingFoundError(
            f"there is no execution {arn}", next_step="see the latest executions: chromadb-compaction status"
        )
    return _execution(arn, found)


def find(client: SFNClient, machine: str, name: str | None) -> Execution:
    """Return the execution with that name or ARN, or whose name begins so. None and `latest`: the last one.

    The beginning of a name is looked for among the last SEARCHED executions. Raises NothingFoundError and
    AmbiguousIdError.
    """
    if name is None or name == LATEST:
        executions = latest(client, machine, 1)
        if not executions:
            next_step = "start one: chromadb-compaction compact --wait"
            raise NothingFoundError("there is no execution yet", next_step=next_step)
        return describe(client, executions[0].arn)
    arn = name if name.startswith("arn:") else f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
    try:
        return describe(client, arn)
    except NothingFoundError:
        arns = {each.name: each.arn for each in latest(client, machine, SEARCHED)}
        found = find_id(name, arns)
        if found is None:
            raise
        return describe(client, arns[found])


def read_history(client: SFNClient, arn: str) -> Timeline:
    """Return the execution's timeline so far."""
    return read_timeline(workflow.history(client, arn))


def follow(client: SFNClient, arn: str, watch: Callable[[Timeline], None]) -> Timeline:
    """Call `watch` with each new timeline until the execution ends, and return the last one.

    The longer the history, the longer the pauses, so that a long execution stays within the account's API quota.
    """
    while True:
        timeline = read_history(client, arn)
        watch(timeline)
        if timeline.ended:
            return timeline
        time.sleep(min(MAX_POLL_SECONDS, MIN_POLL_SECONDS + len(timeline.visits) / 100))


def _execution(arn: str, description: Mapping[str, Any]) -> Execution:
    failure = failure_of(description, description["startDate"]) if description.get("error") else None
    return Execution(
        arn=arn,
        name=description.get("name") or arn.rpartition(":")[2],
        status=description["status"],
        started=description["startDate"],
        stopped=description.get("stopDate"),
        error=failure.error if failure else None,
        message=failure.message if failure else None,
    )
