"""Finished executions, as the command line reads them: `a_failed_execution(error="<b>")`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.executions.timeline import Timeline, read_timeline

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
ARN = "arn:aws:states:eu-west-1:123456789012:execution:chromadb-compaction-dev:"
BATCH = "work/the-one/1/batches/{:04d}.json"


class RecordedExecution(NamedTuple):
    """An execution and the timeline of its history."""

    execution: Execution
    timeline: Timeline


def a_failed_execution(
    *, name: str = "the-one", error: str = "TransientStorageError", message: str = "503 Slow Down", batches: int = 3
) -> RecordedExecution:
    """Return an execution in which batch 0000 failed, was retried and failed again, with events as AWS returns them."""
    history = _HistoryBuilder()
    history.task("AcquireLock", {"lease": {}})
    history.task("ListDeltas", {"work": {"batches": [_batch(number) for number in range(batches)]}})
    failure: dict[str, Any] = {"error": error, "cause": json.dumps({"errorMessage": message})}
    entered = history.add("MapStateEntered", name="MergeBatches")
    started = history.add("MapStateStarted", after=entered, length=batches)
    for number in range(batches):
        history.add("MapIterationStarted", after=started, name="MergeBatches", index=number)
        history.add("TaskStateEntered", name="MergeBatch")
        history.add("TaskScheduled", parameters=_parameters(number))
        if number == 0:
            history.add("TaskFailed", **failure)
            history.add("TaskScheduled", parameters=_parameters(number))
            history.add("TaskFailed", **failure)
            continue
        history.add("TaskSucceeded")
        history.add("TaskStateExited", name="MergeBatch", output="{}")
        history.add("MapIterationSucceeded", name="MergeBatches", index=number)
    history.add("MapStateExited", name="MergeBatches", output=json.dumps({"failure": {"Error": error}}))
    history.task("ReleaseLock", {"release": {}})
    history.add("FailStateEntered", name="CompactionFailed")
    history.add("ExecutionFailed", **failure)
    execution = Execution(
        arn=ARN + name,
        name=name,
        status="FAILED",
        started=STARTED,
        stopped=history.now,
        error=error,
        message=message,
    )
    return RecordedExecution(execution, read_timeline(history.events))


class _HistoryBuilder:
    """The events of an execution, one second apart."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.now = STARTED

    def add(self, kind: str, *, after: int | None = None, **details: object) -> int:
        number = len(self.events) + 1
        self.now += timedelta(seconds=1)
        event = {"id": number, "previousEventId": after or number - 1, "type": kind, "timestamp": self.now}
        self.events.append({**event, "someEventDetails": details})
        return number

    def task(self, name: str, output: dict[str, Any]) -> None:
        self.add("TaskStateEntered", name=name)
        self.add("TaskScheduled")
        self.add("TaskSucceeded")
        self.add("TaskStateExited", name=name, output=json.dumps(output))


def _batch(number: int) -> dict[str, object]:
    return {"key": BATCH.format(number), "collection": "docs", "deltas": 100, "bytes": 9}


def _parameters(number: int) -> str:
    function = "arn:aws:lambda:eu-west-1:123456789012:function:chromadb-merge-batch-dev"
    return json.dumps({"FunctionName": function, "Payload": {"batch": _batch(number)}})
