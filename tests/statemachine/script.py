"""Scripted functions: they stand in for the seven tasks, check what they are sent, and answer as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import ValidationError

from chromadb_compaction import messages
from tests.statemachine import answers
from tests.statemachine.lambda_endpoint import Answer

REQUESTS: dict[str, type[messages.Message]] = {
    "AcquireLock": messages.AcquireLockRequest,
    "ListDeltas": messages.ListDeltasRequest,
    "DownloadSnapshot": messages.DownloadSnapshotRequest,
    "MergeBatch": messages.MergeBatchRequest,
    "UploadSnapshot": messages.UploadSnapshotRequest,
    "CleanUp": messages.CleanUpRequest,
    "ReleaseLock": messages.ReleaseLockRequest,
}


class Raises(NamedTuple):
    """The function raises an error of this name."""

    error: str
    message: str = "as the test says"


class Sleeps(NamedTuple):
    """The function answers with `then` after so many seconds."""

    seconds: float
    then: Any


class Call(NamedTuple):
    """One invocation."""

    task: str
    event: dict[str, Any]


Outcome = dict[str, Any] | Raises | Sleeps
Behaviour = Outcome | Callable[[dict[str, Any]], Outcome]


class Script:
    """What each task does, call by call. The last behaviour of a task repeats; untold tasks do what is usual."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._behaviours: dict[str, list[Behaviour]] = {}
        self._calls: list[Call] = []
        self._execution: str | None = None

    def tell(self, task: str, *behaviours: Behaviour) -> None:
        """Say what a task does on its first call, its second, and so on."""
        self._behaviours[task] = list(behaviours)

    def events(self, task: str) -> list[dict[str, Any]]:
        """Return what a task has been called with."""
        return [call.event for call in self._calls if call.task == task]

    def called(self) -> list[str]:
        """Return the tasks in the order of their calls."""
        return [call.task for call in self._calls]

    def invoke(self, function: str, event: dict[str, Any]) -> Answer:
        """Answer one call; a request that the task's model refuses is answered as the real task would."""
        task = event.get("task", function)
        request = {name: value for name, value in event.items() if name != "task"}
        with self._lock:
            if not self._is_ours(task, event["execution"]):
                return _failure(Raises("StrayCall", "from a Map that an earlier test's engine has given up"))
            self._calls.append(Call(task, request))
            behaviour = self._next(task)
        try:
            REQUESTS[task].model_validate(request)
        except ValidationError as error:
            return _failure(Raises("InvalidRequestError", f"{task}: {error}"))
        return _carry_out(behaviour(request) if callable(behaviour) else behaviour)

    def _is_ours(self, task: str, execution: str) -> bool:
        if task == "AcquireLock":
            self._execution = execution
        return execution == self._execution

    def _next(self, task: str) -> Behaviour:
        told = self._behaviours.get(task, [answers.USUAL[task]])
        return told.pop(0) if len(told) > 1 else told[0]


def _carry_out(outcome: Outcome) -> Answer:
    if isinstance(outcome, Sleeps):
        time.sleep(outcome.seconds)
        return _carry_out(outcome.then)
    return _failure(outcome) if isinstance(outcome, Raises) else Answer(outcome)


def _failure(raised: Raises) -> Answer:
    return Answer({"errorType": raised.error, "errorMessage": raised.message, "stackTrace": []}, failed=True)
