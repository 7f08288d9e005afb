"""What an execution's history says, told by state: pure, and the same for every engine's way of telling it.

AWS links each event to the one before it; the local engine does not, and reports what happens inside a Map as
if it happened to the Map itself. So an event belongs to the state its chain leads to, or else to the last one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.layout import batch_of_report

Event = Mapping[str, Any]
"""One element of GetExecutionHistory's `events`, as boto3 returns it."""

_ATTEMPT_FAILED = ("Failed", "TimedOut")
_ATTEMPT = ("Task", "LambdaFunction", "Activity")


class Failure(BaseModel):
    """An error by name, and its message: the last thing a person wants to decode is JSON within JSON."""

    model_config = ConfigDict(frozen=True)

    error: str
    message: str
    at: datetime


class Attempt(BaseModel):
    """One invocation of a task. `ended` None: it runs still. `failure` None: it succeeded, if it has ended.

    `batch` is the key of the batch it merged, as far as the engine tells.
    """

    model_config = ConfigDict(frozen=True)

    began: datetime
    ended: datetime | None
    failure: Failure | None
    batch: str | None


class StateVisit(BaseModel):
    """One stay in one state. `left` None: still there. `inside` names the Map whose iteration this is part of.

    `attempts` counts the tasks begun (for a Map on an engine that hides its iterations: those of all of them),
    `failures` are those that failed, `failed` says that the last one did; `tries` tells each with its times.
    `iterations` is None where the engine does not tell; `iteration` is which one of its Map this visit is part
    of, from 0; `function` is the Lambda function's name, as far as it is told.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    inside: str | None
    entered: datetime
    left: datetime | None
    attempts: int
    succeeded: int
    failures: tuple[Failure, ...]
    failed: bool
    iterations: int | None
    iterations_done: int
    iteration: int | None
    function: str | None
    tries: tuple[Attempt, ...]

    @property
    def failed_batch(self) -> str | None:
        """The key of the batch whose merge failed last, as far as the engine tells."""
        return next((each.batch for each in reversed(self.tries) if each.failure), None)

    def seconds(self, now: datetime) -> float:
        """How long the stay has lasted, at `now` if it lasts still."""
        return max(((self.left or now) - self.entered).total_seconds(), 0.0)


class Timeline(BaseModel):
    """An execution as far as its history goes. `outputs` holds, by state, what each visit left behind, in order."""

    model_config = ConfigDict(frozen=True)

    visits: tuple[StateVisit, ...]
    outputs: dict[str, tuple[dict[str, Any], ...]]
    ended: str | None
    failure: Failure | None

    def went_through(self, state: str) -> bool:
        """Say whether the execution ever entered `state`."""
        return any(visit.name == state for visit in self.visits)

    def last_failure(self) -> StateVisit | None:
        """Return the visit whose failure ended the execution, or else the one that failed last."""
        ended_by = self.failure.error if self.failure else None

        def weight(visit: StateVisit) -> tuple[bool, bool, datetime]:
            last = visit.failures[-1]
            return last.error == ended_by, visit.failed, last.at

        return max((visit for visit in self.visits if visit.failures), key=weight, default=None)


def read_timeline(events: Iterable[Event]) -> Timeline:
    """Return the story that `events` (in order, from the first) tell."""
    reader = _Reader()
    for event in events:
        reader.read(event)
    return reader.timeline()


def failure_of(details: Mapping[str, Any], at: datetime) -> Failure:
    """Return what an event's details say of an error; a Lambda's cause is JSON with the message inside."""
    cause = str(details.get("cause") or "")
    try:
        parsed = json.loads(cause)
    except ValueError:
        parsed = None
    message = parsed.get("errorMessage", cause) if isinstance(parsed, dict) else cause
    return Failure(error=str(details.get("error") or "unnamed"), message=str(message), at=at)


@dataclass
class _Try:
    began: datetime
    batch: str | None
    ended: datetime | None = None
    failure: Failure | None = None


@dataclass
class _Visit:
    name: str
    kind: str
    inside: str | None
    entered: datetime
    left: datetime | None = None
    attempts: int = 0
    succeeded: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed: bool = False
    iterations: int | None = None
    iterations_done: int = 0
    iteration: int | None = None
    function: str | None = None
    tries: list[_Try] = field(default_factory=list)

    def freeze(self) -> StateVisit:
        tries = tuple(Attempt.model_validate(vars(each)) for each in self.tries)
        return StateVisit.model_validate({**vars(self), "failures": tuple(self.failures), "tries": tries})

    def end_try(self, at: datetime, *, failure: Failure | None = None, batch: str | None = None) -> None:
        """End the oldest attempt that runs: where iterations are hidden, nobody can tell more exactly."""
        running = next((each for each in self.tries if each.ended is None), None)
        if running is not None:
            running.ended, running.failure, running.batch = at, failure, running.batch or batch


class _Reader:
    def __init__(self) -> None:
        self._visits: list[_Visit] = []
        self._owner: dict[int, _Visit] = {}
        self._iterating: dict[int, tuple[str, int | None]] = {}
        self._outputs: dict[str, list[dict[str, Any]]] = {}
        self._ended: str | None = None
        self._failure: Failure | None = None

    def timeline(self) -> Timeline:
        return Timeline(
            visits=tuple(visit.freeze() for visit in self._visits),
            outputs={name: tuple(outputs) for name, outputs in self._outputs.items()},
            ended=self._ended,
            failure=self._failure,
        )

    def read(self, event: Event) -> None:
        kind: str = event["type"]
        details = _details(event)
        if kind.endswith("StateEntered"):
            self._enter(event, kind.removesuffix("StateEntered"), details["name"])
        elif kind.startswith("Execution"):
            self._execution(kind.removeprefix("Execution").upper(), details, event["timestamp"])
        elif visit := self._owner.get(event.get("previousEventId", 0)) or (self._visits[-1] if self._visits else None):
            self._happen(visit, event, kind, details)

    def _enter(self, event: Event, kind: str, name: str) -> None:
        before = event.get("previousEventId", 0)
        inside, iteration = self._iterating.get(before, (None, None))
        if inside is None and (previous := self._owner.get(before)) is not None and previous.kind != "Map":
            inside, iteration = previous.inside, previous.iteration
        visit = _Visit(name, kind, inside, event["timestamp"], iteration=iteration)
        self._visits.append(visit)
        self._owner[event["id"]] = visit

    def _happen(self, visit: _Visit, event: Event, kind: str, details: Mapping[str, Any]) -> None:
        if kind.startswith(("MapIteration", "MapState")) and (found := self._last(details.get("name"))):
            visit = found
        self._owner[event["id"]] = visit
        if kind == "MapIterationStarted":
            self._iterating[event["id"]] = (visit.name, details.get("index"))
        elif kind == "MapIterationSucceeded":
            visit.iterations_done += 1
        elif kind == "MapStateStarted":
            visit.iterations = int(details.get("length", 0))
        elif kind.endswith("StateExited"):
            self._leave(visit, event, details)
        elif kind.startswith(_ATTEMPT):
            self._attempt(visit, event, kind, details)

    def _leave(self, visit: _Visit, event: Event, details: Mapping[str, Any]) -> None:
        if visit.name != details.get("name"):
            visit = self._last(details.get("name")) or visit
        visit.left = event["timestamp"]
        self._owner[event["id"]] = visit
        output = _json_object(details.get("output"))
        if output is not None:
            self._outputs.setdefault(visit.name, []).append(output)
            if visit.kind == "Map":
                # Its iterations' last word says nothing: another may have failed before. The workflow's Catch does.
                visit.failed = "failure" in output

    @staticmethod
    def _attempt(visit: _Visit, event: Event, kind: str, details: Mapping[str, Any]) -> None:
        if kind.endswith("Scheduled"):
            visit.attempts += 1
            visit.function = _function_name(details) or visit.function
            visit.tries.append(_Try(event["timestamp"], _batch_asked(details)))
        elif kind.endswith("Succeeded"):
            visit.succeeded += 1
            visit.failed = False
            visit.end_try(event["timestamp"], batch=_batch_answered(details))
        elif kind.endswith(_ATTEMPT_FAILED):
            visit.failures.append(failure_of(details, event["timestamp"]))
            visit.failed = True
            visit.end_try(event["timestamp"], failure=visit.failures[-1])

    def _execution(self, how: str, details: Mapping[str, Any], at: datetime) -> None:
        if how == "STARTED":
            return
        self._ended = {"TIMEDOUT": "TIMED_OUT"}.get(how, how)
        if how != "SUCCEEDED":
            self._failure = failure_of(details, at)
        for visit in self._visits:
            if visit.left is None:
                visit.left = at
                visit.failed = how != "SUCCEEDED"

    def _last(self, name: object) -> _Visit | None:
        return next((visit for visit in reversed(self._visits) if visit.name == name), None)


def _details(event: Event) -> Mapping[str, Any]:
    return next((value for key, value in event.items() if key.endswith("EventDetails")), {})


def _json_object(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _function_name(scheduled: Mapping[str, Any]) -> str | None:
    parameters = _json_object(scheduled.get("parameters")) or {}
    name = parameters.get("FunctionName") or scheduled.get("resource", "")
    return str(name).partition(":function:")[2].partition(":")[0] or None


def _batch_asked(scheduled: Mapping[str, Any]) -> str | None:
    payload = (_json_object(scheduled.get("parameters")) or {}).get("Payload")
    batch = payload.get("batch") if isinstance(payload, dict) else None
    return str(batch["key"]) if isinstance(batch, dict) and "key" in batch else None


def _batch_answered(succeeded: Mapping[str, Any]) -> str | None:
    payload = (_json_object(succeeded.get("output")) or {}).get("Payload")
    report = payload.get("report") if isinstance(payload, dict) else None
    return batch_of_report(report) if isinstance(report, str) else None
