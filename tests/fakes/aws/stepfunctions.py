"""The Step Functions operations that the product's tasks use. No state machine runs: tests call the tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.aws.protocol import Answer, Refusal, answer_json


@dataclass
class Executions:
    """The started executions by ARN, as DescribeExecution returns them."""

    started: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def copy(self) -> Executions:
        """Return a copy that later starts do not change."""
        return Executions(dict(self.started))


class StepFunctions:
    """A fake Step Functions. `clock` gives the start time of every execution."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.executions = Executions()
        self._clock = clock

    def answer(self, operation: str, asked: Mapping[str, Any]) -> Answer:
        """Carry out one request. Raises Refusal."""
        if operation == "StartExecution":
            return self._start(asked)
        if operation == "DescribeExecution":
            found = self.executions.started.get(asked["executionArn"])
            if found is None:
                raise Refusal(400, "ExecutionDoesNotExist")
            return answer_json(found)
        raise NotImplementedError(operation)

    def _start(self, asked: Mapping[str, Any]) -> Answer:
        machine = asked["stateMachineArn"]
        name = asked.get("name") or f"execution-{len(self.executions.started) + 1:04d}"
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        if arn in self.executions.started:
            raise Refusal(400, "ExecutionAlreadyExists")
        described = {"executionArn": arn, "stateMachineArn": machine, "name": name, "input": asked.get("input", "{}")}
        self.executions.started[arn] = {**described, "status": "RUNNING", "startDate": self._clock()}
        return answer_json({"executionArn": arn, "startDate": self._clock()})
