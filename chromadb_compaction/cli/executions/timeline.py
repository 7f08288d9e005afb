"""The timeline of an execution, read from its history by state. It is the same for every engine.

AWS links each event to the previous one. The local engine does not, and it reports the events inside a Map as events
of the Map. So an event belongs to the state to which its links lead, or without links to the last state entered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from chromadb_compaction.layout import batch_of_report, item_of_part

Event = Mapping[str, Any]
FOLDS = "FoldPartitions"
"""The Map of the folds that other functions do. The other Map has batches."""
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
    """One invocation of a task. `ended` is None while it runs, `failure` is None unless it failed.

    `batch` is the key of the batch it merged, or None if the history does not say.
    """

    model_config = ConfigDict(frozen=True)

    began: datetime
    ended: datetime | None = None
    failure: Failure | None = None
    batch: str | None


class StateVisit(BaseModel):
    """One visit of one state.

    Attributes:
        inside: The Map that this visit is an iteration of. None outside a Map.
        left: When the state was left. None while the execution is in it.
        attempts: Tasks started. An engine that hides the iterations of a Map counts them all for the Map.
        failed: True if the last attempt failed.
        iterations: Iterations of this Map. None if the history does not say.
        iteration: The index of the Map's iteration, from 0. None outside a Map.
        function: The Lambda function's name. None if the history does not say.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    kind: str
    inside: str | None
    entered: datetime
    left: datetime | None = None
    attempts: int = 0
    succeeded: int = 0
    failures: tuple[Failure, ...] = ()
    failed: bool = False
    iterations: int | None = None
    iterations_done: int = 0
    iteration: int | None
    function: str | None = None
    tries: tuple[Attempt, ...] = ()

    @property
    def noun(self) -> tuple[str, str]:
        """The name of an iteration of this Map, singular and plural."""
        return ("item", "items") if FOLDS in (self.name, self.inside) else ("batch", "batches")

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
        end = visit.left or datetime.max.replace(tzinfo=UTC)
        return [each for each in self.visits if each.inside == visit.name and visit.entered <= each.entered <= end]

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
    message = (_json_object(cause) or {}).get("errorMessage", cause)
    return Failure(error=str(details.get("error") or "unnamed"), message=str(message), at=at)


class _Reader:
    def __init__(self) -> None:
        self._visits: list[StateVisit] = []
        self._visit_of: dict[int, int] = {}  # event id -> number of the visit that it belongs to
        self._iteration_of: dict[int, tuple[str, int | None]] = {}  # event id -> the Map and the iteration it starts
        self._outputs: dict[str, list[dict[str, Any]]] = {}
        self._ended: str | None = None
        self._failure: Failure | None = None

    def timeline(self) -> Timeline:
        return Timeline(
            visits=tuple(self._visits),
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
        elif self._visits:
            number = self._visit_of.get(event.get("previousEventId", 0), len(self._visits) - 1)
            self._read_state_event(number, event, kind, details)

    def _enter(self, event: Event, kind: str, name: str) -> None:
        before = event.get("previousEventId", 0)
        inside, iteration = self._iteration_of.get(before, (None, None))
        if inside is None and before in self._visit_of:
            previous = self._visits[self._visit_of[before]]
            if previous.kind != "Map":
                inside, iteration = previous.inside, previous.iteration
        self._visit_of[event["id"]] = len(self._visits)
        visit = StateVisit(name=name, kind=kind, inside=inside, entered=event["timestamp"], iteration=iteration)
        self._visits.append(visit)

    def _read_state_event(self, number: int, event: Event, kind: str, details: Mapping[str, Any]) -> None:
        if kind.startswith(("MapIteration", "MapState")) or (
            kind.endswith("StateExited") and self._visits[number].name != details.get("name")
        ):
            number = self._last(details.get("name"), number)
        self._visit_of[event["id"]] = number
        visit = self._visits[number]
        if kind == "MapIterationStarted":
            self._iteration_of[event["id"]] = (visit.name, details.get("index"))
        elif kind == "MapIterationSucceeded":
            self._update(number, iterations_done=visit.iterations_done + 1)
        elif kind == "MapStateStarted":
            self._update(number, iterations=int(details.get("length", 0)))
        elif kind.endswith("StateExited"):
            self._leave(number, event["timestamp"], details)
        elif kind.startswith(_ATTEMPT):
            self._read_attempt_event(number, event["timestamp"], kind, details)

    def _leave(self, number: int, at: datetime, details: Mapping[str, Any]) -> None:
        self._update(number, left=at)
        output = _json_object(details.get("output"))
        if output is not None:
            visit = self._visits[number]
            self._outputs.setdefault(visit.name, []).append(output)
            if visit.kind == "Map":
                # An earlier iteration may have failed, so only the workflow's Catch shows that the Map failed.
                self._update(number, failed="failure" in output)

    def _read_attempt_event(self, number: int, at: datetime, kind: str, details: Mapping[str, Any]) -> None:
        visit = self._visits[number]
        if kind.endswith("Scheduled"):
            attempt = Attempt(began=at, batch=_requested_batch(details))
            function = _function_name(details) or visit.function
            self._update(number, attempts=visit.attempts + 1, function=function, tries=(*visit.tries, attempt))
        elif kind.endswith("Succeeded"):
            tries = _end_oldest(visit.tries, at, batch=_merged_batch(details))
            self._update(number, succeeded=visit.succeeded + 1, failed=False, tries=tries)
        elif kind.endswith(_ATTEMPT_FAILED):
            failure = failure_of(details, at)
            tries = _end_oldest(visit.tries, at, failure=failure)
            self._update(number, failures=(*visit.failures, failure), failed=True, tries=tries)

    def _read_execution_event(self, outcome: str, details: Mapping[str, Any], at: datetime) -> None:
        if outcome == "STARTED":
            return
        self._ended = {"TIMEDOUT": "TIMED_OUT"}.get(outcome, outcome)
        if outcome != "SUCCEEDED":
            self._failure = failure_of(details, at)
        for number, visit in enumerate(self._visits):
            if visit.left is None:
                self._update(number, left=at, failed=outcome != "SUCCEEDED")

    def _update(self, number: int, **changes: object) -> None:
        self._visits[number] = self._visits[number].model_copy(update=changes)

    def _last(self, name: object, otherwise: int) -> int:
        return next((n for n in reversed(range(len(self._visits))) if self._visits[n].name == name), otherwise)


def _end_oldest(
    tries: tuple[Attempt, ...], at: datetime, *, failure: Failure | None = None, batch: str | None = None
) -> tuple[Attempt, ...]:
    """End the oldest running attempt. With hidden iterations the history does not say which one ended."""
    number = next((n for n, each in enumerate(tries) if each.ended is None), None)
    if number is None:
        return tries
    ended = tries[number].model_copy(update={"ended": at, "failure": failure, "batch": tries[number].batch or batch})
    return (*tries[:number], ended, *tries[number + 1 :])


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
    batch = (payload.get("batch") or payload.get("item")) if isinstance(payload, dict) else None
    return str(batch["key"]) if isinstance(batch, dict) and "key" in batch else None


def _merged_batch(succeeded: Mapping[str, Any]) -> str | None:
    payload = (_json_object(succeeded.get("output")) or {}).get("Payload")
    report = payload.get("report") if isinstance(payload, dict) else None
    part = payload.get("key") if isinstance(payload, dict) and "sha256" in payload else None
    if isinstance(part, str):
        return item_of_part(part)
    return batch_of_report(report) if isinstance(report, str) else None
