"""Errors are named for the remedy, and the state machine names only errors that exist."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromadb_compaction import errors

OURS = [error for _, error in inspect.getmembers(errors, inspect.isclass) if error.__module__ == errors.__name__]
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
def test_every_error_is_one_of_ours_and_says_its_remedy(error: type[Exception]) -> None:
    assert issubclass(error, errors.CompactionError)
    assert error.__doc__


def test_the_state_machine_names_only_errors_that_exist() -> None:
    named = set(named_errors(json.loads(DEFINITION.read_text(encoding="utf-8"))))

    foreign = {name for name in named if not name.startswith(("States.", "Lambda."))}

    assert foreign <= {error.__name__ for error in OURS}
    assert {"LockHeldError", "TransientStorageError"} <= foreign
