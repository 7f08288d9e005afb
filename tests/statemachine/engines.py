"""A Step Functions engine of any kind: run a definition on it and return the finished execution."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.statemachine.definition import Json

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient
    from mypy_boto3_stepfunctions.type_defs import HistoryEventTypeDef, StateEnteredEventDetailsTypeDef

ACCOUNT = "000000000000"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/state-machine"
LONGEST_RUN_SECONDS = 60


class Finished(NamedTuple):
    """An execution that has ended."""

    status: str
    output: Json
    error: str | None
    cause: str | None
    history: list[HistoryEventTypeDef]

    @property
    def states(self) -> list[str]:
        """The states entered, in order. States inside a Map are in any order."""
        return [entered["name"] for entered in self._entered()]

    def input_of(self, state: str) -> Json:
        """Return the first input of a state."""
        first: Json = json.loads(next(entered["input"] for entered in self._entered() if entered["name"] == state))
        return first

    def _entered(self) -> list[StateEnteredEventDetailsTypeDef]:
        return [event["stateEnteredEventDetails"] for event in self.history if "stateEnteredEventDetails" in event]


class Engine(NamedTuple):
    """`shortest_retry` is the least IntervalSeconds that the engine accepts."""

    name: str
    client: SFNClient
    shortest_retry: int

    @staticmethod
    def function_arn(name: str) -> str:
        """Return the ARN under which the engine finds a fake function."""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"

    def run(self, definition: Json, payload: Any = None) -> Finished:
        """Create the machine, run it once and delete it."""
        with self.machine(definition) as arn:
            started = self.client.start_execution(stateMachineArn=arn, name=_unique(), input=json.dumps(payload or {}))
            return self.finish(started["executionArn"])

    @contextmanager
    def machine(self, definition: Json) -> Iterator[str]:
        """Create a machine, yield its ARN and delete it afterwards."""
        text = json.dumps(definition)
        created = self.client.create_state_machine(name=_unique(), definition=text, roleArn=ROLE)
        try:
            yield created["stateMachineArn"]
        finally:
            self.client.delete_state_machine(stateMachineArn=created["stateMachineArn"])

    def finish(self, execution: str, seconds: float = LONGEST_RUN_SECONDS) -> Finished:
        """Wait until an execution ends, and return it. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while (described := self.client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{execution} is still running on {self.name} after {seconds} s")
            time.sleep(0.03)
        pages = self.client.get_paginator("get_execution_history").paginate(executionArn=execution)
        return Finished(
            status=described["status"],
            output=json.loads(described.get("output") or "{}"),
            error=described.get("error"),
            cause=described.get("cause"),
            history=[event for page in pages for event in page["events"]],
        )


def _unique() -> str:
    return f"test-{uuid.uuid4().hex}"
