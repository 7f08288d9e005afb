"""The definition of the state machine: load it, fill its placeholders, shorten its retries, list its transitions."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ASL_FILE = Path(__file__).parents[2] / "statemachine" / "compaction.asl.json"
FUNCTIONS = ("AcquireLock", "ListDeltas", "Compactor", "MergeBatch", "FoldPartition", "CleanUp", "ReleaseLock")

Json = dict[str, Any]
"""A state machine definition, a state, or a payload."""


class Transition(NamedTuple):
    """One transition. `why` is the caught error or the condition, or empty."""

    source: str
    target: str
    why: str = ""


def load() -> Json:
    """Return the committed definition with its placeholders."""
    definition: Json = json.loads(ASL_FILE.read_text(encoding="utf-8"))
    return definition


def filled(function_arn: Callable[[str], str]) -> Json:
    """Return the definition with each placeholder replaced by its function's ARN."""
    text = ASL_FILE.read_text(encoding="utf-8")
    for name in FUNCTIONS:
        text = text.replace(f"${{{name}FunctionArn}}", function_arn(name))
    definition: Json = json.loads(text)
    return definition


def with_quick_retries(definition: Json, seconds: int) -> Json:
    """Return a copy in which every retry waits `seconds`, without backoff."""
    quick = copy.deepcopy(definition)
    for _, state in every_state(quick):
        for retrier in state.get("Retry", []):
            retrier |= {"IntervalSeconds": seconds, "BackoffRate": 1.0}
    return quick


def every_state(definition: Json) -> Iterator[tuple[str, Json]]:
    """Yield the name and definition of every state, including those inside a Map."""
    for name, state in definition["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from every_state(state["ItemProcessor"])


def tasks(definition: Json) -> dict[str, Json]:
    """Return the states that call a function, by name."""
    return {name: state for name, state in every_state(definition) if state["Type"] == "Task"}


def transitions(definition: Json) -> set[Transition]:
    """Return every transition between the states outside the Map."""
    return {transition for name, state in definition["States"].items() for transition in _transitions(name, state)}


def _transitions(name: str, state: Json) -> Iterator[Transition]:
    if "Next" in state:
        yield Transition(name, state["Next"])
    for choice in state.get("Choices", []):
        yield Transition(name, choice["Next"], choice["Variable"])
    if "Default" in state:
        yield Transition(name, state["Default"], "otherwise")
    for catcher in state.get("Catch", []):
        yield Transition(name, catcher["Next"], ", ".join(catcher["ErrorEquals"]))
