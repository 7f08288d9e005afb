"""Executions that have happened, as the command line reads them: `a_failed_execution(error="<b>")`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.executions.timeline import Timeline, read_timeline

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
ARN = "arn:aws:states:eu-west-1:123456789012:execution:chromadb-compaction-dev:"
BATCH = "work/the-one/1/batches/{:04d}.json"


class Told(NamedTuple):
    """An execution, and what its history tells."""

    execution: Execution
    timeline: Timeline


def a_failed_execution(
    *, name: str = "the-one", error: str = "TransientStorageError", message: str = "503 Slow Down", batches: int = 3
) -> Told:
    """Return an execution in which batch 0000 failed, was retried and failed again, as AWS tells it."""
    story = _Story()
    story.task("AcquireLock", {"lease": {}})
    story.task("ListDeltas", {"work": {"batches": [_batch(number) for number in range(batches)]}})
    failure: dict[str, Any] = {"error": error, "cause": json.dumps({"errorMessage": message})}
    entered = story.add("MapStateEntered", name="MergeBatches")
    started = story.add("MapStateStarted", after=entered, length=batches)
    for number in range(batches):
        story.add("MapIterationStarted", after=started, name="MergeBatches", index=number)
        story.add("TaskStateEntered", name="MergeBatch")
        story.add("TaskScheduled", parameters=_parameters(number))
        if number == 0:
            story.add("TaskFailed", **failure)
            story.add("TaskScheduled", parameters=_parameters(number))
            story.add("TaskFailed", **failure)
            continue
        story.add("TaskSucceeded")
        story.add("TaskStateExited", name="MergeBatch", output="{}")
        story.add("MapIterationSucceeded", name="MergeBatches", index=number)
    story.add("MapStateExited", name="MergeBatches", output=json.dumps({"failure": {"Error": error}}))
    story.task("ReleaseLock", {"release": {}})
    story.add("FailStateEntered", name="CompactionFailed")
    story.add("ExecutionFailed", **failure)
    execution = Execution(
        arn=ARN + name,
        name=name,
        status="FAILED",
        started=STARTED,
        stopped=story.now,
        error=error,
        message=message,
    )
    return Told(execution, read_timeline(story.events))


class _Story:
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
