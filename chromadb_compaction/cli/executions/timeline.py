"""The timeline of an execution, read from its history by state. It is the same for every engine.

AWS links each event to the previous one. The local engine does not, and it reports the events inside a Map as events
of the Map. So an event belongs to the state to which its links lead, or without links to the last state entered.
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
    """An error's name, and its message taken out of the JSON of the cause."""

    model_config = ConfigDict(frozen=True)

    error: str
    message: str
    at: datetime


class Attempt(BaseModel):
    """One invocation of a task.

    Attributes:
        ended: When it ended. None while it runs.
        failure: Its error. None if it succeeded, or while it runs.
        batch: The key of the batch it merged. None if the history does not say.
    """

    model_config = ConfigDict(frozen=True)

    began: datetime
    ended: datetime | None
    failure: Failure | None
    batch: str | None


class StateVisit(BaseModel):
    """One visit of one state.

    Attributes:
        inside: The Map that this visit is an iteration of. None outside a Map.
        left: When the state was left. None while the execution is in it.
        attempts: Tasks started. An engine that hides the iterations of a Map counts them all for the Map.
        failures: The errors of the failed attempts, in order.
        failed: True if the last attempt failed.
        iterations: Iterations of this Map. None if the history does not say.
        iteration: The index of the Map's iteration, from 0. None outside a Map.
        function: The Lambda function's name. None if the history does not say.
        tries: The attempts with their times.
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
        """The key of the batch whose merge failed last. None if the history does not say."""
        return next((each.batch for each in reversed(self.tries) if each.failure), None)

    def seconds(self, now: datetime) -> float:
        """Return the seconds in the state, up to `now` if it was not left."""
        return max(((self.left or now) - self.entered).total_seconds(), 0.0)


class Timeline(BaseModel):
    """An execution as far as its history goes. `outputs` holds the outputs of each state's visits, in order."""

    model_config = ConfigDict(frozen=True)

    visits: tuple[StateVisit, ...]
    outputs: dict[str, tuple[dict[str, Any], ...]]
    ended: str | None
    failure: Failure | None

    def iterations_of(self, visit: StateVisit) -> list[StateVisit]:
        """Return the visits inside one visit of a Map."""
        return [
            each
            for each in self.visits
            if each.inside == visit.name
            and visit.entered <= each.entered
            and (visit.left is None or each.entered <= visit.left)
        ]

    def last_failure(self) -> StateVisit | None:
        """Return the visit whose failure ended the execution, or otherwise the one that failed last."""
        ended_by = self.failure.error if self.failure else None

        def rank(visit: StateVisit) -> tuple[bool, bool, datetime]:
            last = visit.failures[-1]
            return last.error == ended_by, visit.failed, last.at

        return max((visit for visit in self.visits if visit.failures), key=rank, default=None)


def read_timeline(events: Iterable[Event]) -> Timeline:
    """Return the timeline of `events`, which start with the first event of the execution."""
    reader = _Reader()
    for event in events:
        reader.read(event)
    return reader.timeline()


def failure_of(details: Mapping[str, Any], at: datetime) -> Failure:
    """Return the error in an event's details. The cause of a Lambda error is JSON that holds the message."""
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
        """End the oldest running attempt. With hidden iterations the history does not say which one ended."""
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
            self._read_execution_event(kind.removeprefix("Execution").upper(), details, event["timestamp"])
        elif visit := self._owner.get(event.get("previousEventId", 0)) or (self._visits[-1] if self._visits else None):
            self._read_state_event(visit, event, kind, details)

    def _enter(self, event: Event, kind: str, name: str) -> None:
        before = event.get("previousEventId", 0)
        inside, iteration = self._iterating.get(before, (None, None))
        if inside is None and (previous := self._owner.get(before)) is not None and previous.kind != "Map":
            inside, iteration = previous.inside, previous.iteration
        visit = _Visit(name, kind, inside, event["timestamp"], iteration=iteration)
        self._visits.append(visit)
        self._owner[event["id"]] = visit

    def _read_state_event(self, visit: _Visit, event: Event, kind: str, details: Mapping[str, Any]) -> None:
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
            self._read_attempt_event(visit, event, kind, details)

    def _leave(self, visit: _Visit, event: Event, details: Mapping[str, Any]) -> None:
        if visit.name != details.get("name"):
            visit = self._last(details.get("name")) or visit
        visit.left = event["timestamp"]
        self._owner[event["id"]] = visit
        output = _json_object(details.get("output"))
        if output is not None:
            self._outputs.setdefault(visit.name, []).append(output)
            if visit.kind == "Map":
                # An earlier iteration may have failed, so only the workflow's Catch shows that the Map failed.
                visit.failed = "failure" in output

    @staticmethod
    def _read_attempt_event(visit: _Visit, event: Event, kind: str, details: Mapping[str, Any]) -> None:
        if kind.endswith("Scheduled"):
            visit.attempts += 1
            visit.function = _function_name(details) or visit.function
            visit.tries.append(_Try(event["timestamp"], _requested_batch(details)))
        elif kind.endswith("Succeeded"):
            visit.succeeded += 1
            visit.failed = False
            visit.end_try(event["timestamp"], batch=_merged_batch(details))
        elif kind.endswith(_ATTEMPT_FAILED):
            visit.failures.append(failure_of(details, event["timestamp"]))
            visit.failed = True
            visit.end_try(event["timestamp"], failure=visit.failures[-1])

    def _read_execution_event(self, outcome: str, details: Mapping[str, Any], at: datetime) -> None:
        if outcome == "STARTED":
            return
        self._ended = {"TIMEDOUT": "TIMED_OUT"}.get(outcome, outcome)
        if outcome != "SUCCEEDED":
            self._failure = failure_of(details, at)
        for visit in self._visits:
            if visit.left is None:
                visit.left = at
                visit.failed = outcome != "SUCCEEDED"

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


def _requested_batch(scheduled: Mapping[str, Any]) -> str | None:
    payload = (_json_object(scheduled.get("parameters")) or {}).get("Payload")
    batch = payload.get("batch") if isinstance(payload, dict) else None
    return str(batch["key"]) if isinstance(batch, dict) and "key" in batch else None


def _merged_batch(succeeded: Mapping[str, Any]) -> str | None:
    payload = (_json_object(succeeded.get("output")) or {}).get("Payload")
    report = payload.get("report") if isinstance(payload, dict) else None
    return batch_of_report(report) if isinstance(report, str) else None
