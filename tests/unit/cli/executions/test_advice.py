from __future__ import annotations

import inspect

import pytest

from chromadb_compaction import errors
from chromadb_compaction.cli.executions.advice import advise, foreseen

OURS = [name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.CompactionError)]


@pytest.mark.parametrize("name", [name for name in OURS if name not in {"CompactionError", "_ObjectError"}])
def test_every_error_of_ours_has_advice_of_its_own(name: str) -> None:
    assert name in foreseen()


@pytest.mark.parametrize("name", [*sorted(foreseen()), "Lambda.Unknown", "KeyError", None])
def test_advice_is_a_meaning_and_something_to_type(name: str | None) -> None:
    advice = advise(name)

    assert advice.meaning
    assert advice.command.startswith(("chromadb-compaction ", "pulumi "))


def test_an_execution_that_was_stopped_without_an_error_is_run_again() -> None:
    assert "stopped" in advise(None, "ABORTED").meaning
    assert advise("unnamed", "TIMED_OUT") == advise("States.Timeout")


def test_an_unknown_failure_of_lambda_is_told_from_an_unknown_error() -> None:
    assert advise("Lambda.Unknown") != advise("KeyError")
