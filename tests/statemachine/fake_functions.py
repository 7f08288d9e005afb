"""Fake functions for the eight tasks. They validate their requests and respond as a test sets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import messages
from tests.statemachine.lambda_endpoint import LambdaResponse
from tests.statemachine.task_results import USUAL_RESULTS

REQUESTS: dict[str, type[messages.Message]] = {
    "AcquireLock": messages.AcquireLockRequest,
    "ListDeltas": messages.ListDeltasRequest,
    "DownloadSnapshot": messages.DownloadSnapshotRequest,
    "MergeBatch": messages.MergeBatchRequest,
    "UploadSnapshot": messages.UploadSnapshotRequest,
    "FoldPartition": messages.FoldPartitionRequest,
    "CleanUp": messages.CleanUpRequest,
    "ReleaseLock": messages.ReleaseLockRequest,
}


class Raises(NamedTuple):
    """The function raises an error with this name."""

    error: str
    message: str = "the message of the test"


class Sleeps(NamedTuple):
    """The function has the outcome `then` after so many seconds."""

    seconds: float
    then: Any


class Call(NamedTuple):
    """One invocation."""

    task: str
    event: dict[str, Any]


Outcome = dict[str, Any] | Raises | Sleeps
Behaviour = Outcome | Callable[[dict[str, Any]], Outcome]


class FakeFunctions:
    """The functions of all tasks, and the calls that they received. They outlive a test, which resets them first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all behaviours and calls."""
        with self._lock:
            self._behaviours: dict[str, list[Behaviour]] = {}
            self._calls: list[Call] = []
            self._execution: str | None = None

    def set_behaviours(self, task: str, *behaviours: Behaviour) -> None:
        """Set the behaviours of a task's calls, in order. The last one repeats. By default a task succeeds."""
        self._behaviours[task] = list(behaviours)

    def events(self, task: str) -> list[dict[str, Any]]:
        """Return the events that a task was called with."""
        return [call.event for call in self._calls if call.task == task]

    def called(self) -> list[str]:
        """Return the tasks in the order of their calls."""
        return [call.task for call in self._calls]

    def invoke(self, function: str, event: dict[str, Any]) -> LambdaResponse:
        """Respond to one call. An invalid request fails as in the real task."""
        task = event.get("task", function)
        request = {name: value for name, value in event.items() if name != "task"}
        with self._lock:
            if not self._is_current(task, event["execution"]):
                return _failure(Raises("StrayCall", "from a Map of an earlier test that its engine abandoned"))
            self._calls.append(Call(task, request))
            behaviour = self._next_behaviour(task)
        try:
            REQUESTS[task].model_validate(request)
        except ValidationError as error:
            return _failure(Raises("InvalidRequestError", f"{task}: {error}"))
        return _respond(behaviour(request) if callable(behaviour) else behaviour)

    def _is_current(self, task: str, execution: str) -> bool:
        if task == "AcquireLock":
            self._execution = execution
        return execution == self._execution

    def _next_behaviour(self, task: str) -> Behaviour:
        behaviours = self._behaviours.get(task, [USUAL_RESULTS[task]])
        return behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]


def _respond(outcome: Outcome) -> LambdaResponse:
    if isinstance(outcome, Sleeps):
        time.sleep(outcome.seconds)
        return _respond(outcome.then)
    return _failure(outcome) if isinstance(outcome, Raises) else LambdaResponse(outcome)


def _failure(raised: Raises) -> LambdaResponse:
    return LambdaResponse({"errorType": raised.error, "errorMessage": raised.message, "stackTrace": []}, failed=True)
