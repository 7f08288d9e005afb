"""Errors are named for the remedy, and the state machine names only errors that exist."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromadb_compaction import errors

OURS = [
    error
    for name, error in inspect.getmembers(errors, inspect.isclass)
    if error.__module__ == errors.__name__ and not name.startswith("_")
]
DEFINITION = Path(__file__).parents[2] / "statemachine" / "compaction.asl.json"


def named_errors(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node.get("ErrorEquals", [])
        for child in node.values():
            yield from named_errors(child)
    elif isinstance(node, list):
        for child in node:
            yield from named_errors(child)


@pytest.mark.parametrize("error", OURS)
def test_every_error_is_a_compaction_error_with_a_docstring(error: type[Exception]) -> None:
    assert issubclass(error, errors.CompactionError)
    assert error.__doc__


def test_the_state_machine_names_only_errors_that_exist() -> None:
    named = set(named_errors(json.loads(DEFINITION.read_text(encoding="utf-8"))))

    foreign = {name for name in named if not name.startswith(("States.", "Lambda."))}

    assert foreign <= {error.__name__ for error in OURS}
    assert {"LockHeldError", "TransientStorageError"} <= foreign


def test_an_error_carries_its_kind_and_fields_beside_one_line_of_text() -> None:
    error = errors.LockHeldError("the lock is held", next_step="wait", holder="arn:1", since=0, until=60.5)

    assert str(error) == "the lock is held; wait"
    assert error.as_dict() == {
        "kind": "LockHeld",
        "message": "the lock is held",
        "next_step": "wait",
        "holder": "arn:1",
        "since": "1970-01-01T00:00:00Z",
        "until": "1970-01-01T00:01:00.500Z",
    }


@pytest.mark.parametrize("error", OURS)
def test_an_error_reported_by_another_process_is_raised_again_as_it_was(error: type[errors.CompactionError]) -> None:
    first = error("what happened", next_step="what to do")

    for name in (error.__name__, error.kind):
        again = errors.error_named(name, first.message, next_step=first.next_step, **first.fields)
        assert (type(again), str(again)) == (error, str(first))


def test_an_unknown_error_keeps_its_name_in_the_message() -> None:
    assert str(errors.error_named("KeyError", "x")) == "KeyError: x"
