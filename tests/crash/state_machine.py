"""An interpreter of the committed state machine, for exactly the states and fields that it uses.

It never waits, so retries take no time. `invoke` does the part of Lambda.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

DEFINITION = Path(__file__).parents[2] / "statemachine" / "compaction.asl.json"
KNOWN_FIELDS = {
    "Task": {
        "Type", "Comment", "Resource", "TimeoutSeconds", "Parameters", "ResultSelector", "ResultPath", "OutputPath",
        "Retry", "Catch", "Next", "End",
    },
    "Map": {
        "Type", "Comment", "ItemsPath", "MaxConcurrency", "ItemSelector", "ItemProcessor", "ResultPath", "Catch",
        "Next",
    },
    "Choice": {"Type", "Comment", "Choices", "Default"},
    "Succeed": {"Type", "Comment"},
    "Fail": {"Type", "Comment", "ErrorPath", "CausePath"},
}  # fmt: skip

Json = Any


class TaskFailed(Exception):  # noqa: N818 - the name that Step Functions uses
    """A task's error, with the name that Retry and Catch match."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class Step(NamedTuple):
    """The next state of an execution, and its input as JSON text."""

    state: str
    data: str


class Ended(NamedTuple):
    """The end of an execution: SUCCEEDED, FAILED or ABORTED."""

    status: str
    error: str | None = None


Invoke = Callable[[str, Json], Json]
"""Takes a function's name as the definition spells it, and a payload. Returns the result or raises TaskFailed."""


class StateMachine:
    """The state machine. `invoke` calls its functions."""

    def __init__(self, invoke: Invoke, definition: Mapping[str, Json] | None = None) -> None:
        self._definition = definition or json.loads(DEFINITION.read_text())
        self._invoke = invoke
        self._check(self._definition["States"])

    def start(self) -> Step:
        """Return the first step of an execution."""
        return Step(self._definition["StartAt"], "{}")

    def advance(self, step: Step, execution: str) -> Step | Ended:
        """Run one state, and return the next step."""
        return self._enter(self._definition["States"], step, {"Execution": {"Id": execution, "Input": {}}})

    def _enter(self, states: Mapping[str, Json], step: Step, context: Json) -> Step | Ended:
        state, data = states[step.state], json.loads(step.data)
        kind = state["Type"]
        if kind == "Succeed":
            return Ended("SUCCEEDED")
        if kind == "Fail":
            return Ended("FAILED", _found(state["ErrorPath"], data, context))
        if kind == "Choice":
            return Step(_chosen(state, data), step.data)
        try:
            result = self._mapped(state, data, context) if kind == "Map" else self._task(state, data, context)
        except TaskFailed as failed:
            for catcher in state.get("Catch", []):
                if _matches(catcher, failed):
                    failure = {"Error": failed.error, "Cause": failed.cause}
                    return Step(catcher["Next"], json.dumps(_with_result(catcher["ResultPath"], data, failure)))
            raise
        return Step(state["Next"], json.dumps(_with_result(state.get("ResultPath", "$"), data, result)))

    def _mapped(self, state: Json, data: Json, context: Json) -> list[Json]:
        processor = state["ItemProcessor"]
        ((name, inner),) = processor["States"].items()
        if (processor["StartAt"], inner.get("End")) != (name, True):
            raise NotImplementedError("a Map of more than one state")
        results = []
        for item in _found(state["ItemsPath"], data, context):
            mine = {**context, "Map": {"Item": {"Value": item}}}
            results.append(self._task(inner, _filled(state["ItemSelector"], data, mine), mine))
        return results

    def _task(self, state: Json, data: Json, context: Json) -> Json:
        request = _filled(state["Parameters"], data, context)
        response = {"Payload": self._invoke_with_retries(state, request["FunctionName"], request["Payload"])}
        selected = _filled(state["ResultSelector"], response, context) if "ResultSelector" in state else response
        return _found(state["OutputPath"], selected, context) if "OutputPath" in state else selected

    def _invoke_with_retries(self, state: Json, function: str, payload: Json) -> Json:
        retries: Counter[int] = Counter()
        while True:
            try:
                return json.loads(json.dumps(self._invoke(function, payload)))
            except TaskFailed as failed:
                number = next((n for n, retrier in enumerate(state["Retry"]) if _matches(retrier, failed)), None)
                if number is None or retries[number] == state["Retry"][number]["MaxAttempts"]:
                    raise
                retries[number] += 1

    def _check(self, states: Mapping[str, Json]) -> None:
        for name, state in states.items():
            unknown = state.keys() - KNOWN_FIELDS[state["Type"]]
            if unknown:
                raise NotImplementedError(f"{name} has {sorted(unknown)}, which this interpreter does not implement")
            if "ItemProcessor" in state:
                self._check(state["ItemProcessor"]["States"])


def _matches(rule: Json, failed: TaskFailed) -> bool:
    return not {failed.error, "States.ALL"}.isdisjoint(rule["ErrorEquals"])


def _chosen(state: Json, data: Json) -> str:
    for choice in state["Choices"]:
        if _holds(choice, data):
            return str(choice["Next"])
    return str(state["Default"])


def _holds(choice: Json, data: Json) -> bool:
    ((operator, wanted),) = ((key, value) for key, value in choice.items() if key not in {"Variable", "Next"})
    if operator == "IsPresent":
        return _is_present(choice["Variable"], data) is bool(wanted)
    value = _found(choice["Variable"], data, {})
    if operator == "NumericGreaterThan":
        return float(value) > float(wanted)
    if operator == "BooleanEquals":
        return value is bool(wanted)
    raise NotImplementedError(operator)


def _is_present(path: str, data: Json) -> bool:
    try:
        _found(path, data, {})
    except KeyError:
        return False
    return True


def _found(path: str, data: Json, context: Json) -> Json:
    """Return the value at a path of plain names in the state's data or, after `$$`, in the context."""
    root = context if path.startswith("$$") else data
    for name in path.lstrip("$").split("."):
        root = root[name] if name else root
    return root


def _filled(template: Json, data: Json, context: Json) -> Json:
    if not isinstance(template, dict):
        return template
    return {
        name.removesuffix(".$"): _found(value, data, context) if name.endswith(".$") else _filled(value, data, context)
        for name, value in template.items()
    }


def _with_result(path: str, data: Json, result: Json) -> Json:
    if path == "$":
        return result
    name, _, rest = path.removeprefix("$.").partition(".")
    return {**data, name: _with_result(f"$.{rest}", data[name], result) if rest else result}
