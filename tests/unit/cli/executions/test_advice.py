from __future__ import annotations

import inspect

import pytest

from chromadb_compaction import errors
from chromadb_compaction.cli.executions.advice import ADVICE, advise

COMPACTION_ERRORS = [
    name
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.CompactionError) and name not in {"CompactionError", "_ObjectError"}
]


@pytest.mark.parametrize("name", COMPACTION_ERRORS)
def test_every_error_class_has_its_own_advice(name: str) -> None:
    assert name in ADVICE


@pytest.mark.parametrize("name", [*sorted(ADVICE), "Lambda.Unknown", "KeyError", None])
def test_advice_has_a_meaning_and_a_command(name: str | None) -> None:
    advice = advise(name)

    assert advice.meaning
    assert advice.command.startswith(("chromadb-compaction ", "pulumi "))


@pytest.mark.parametrize(
    ("function", "message", "setting"),
    [
        ("merge-batch", "may need 9 bytes of disk, 1 are free", "ephemeralStorage.merge-batch"),
        ("merge-batch", "may take 9 bytes of memory", "memory.merge-batch"),
        ("compactor", "may need 9 bytes of disk, 1 are free", "ephemeralStorage.compactor"),
    ],
)
def test_the_advice_names_the_limit_of_the_function_that_failed(function: str, message: str, setting: str) -> None:
    assert f"chromadb:{setting} " in advise("SnapshotTooLargeError", function=function, message=message).command


def test_the_advice_without_an_error_depends_on_the_status() -> None:
    assert "stopped" in advise(None, "ABORTED").meaning
    assert advise("unnamed", "TIMED_OUT") == advise("States.Timeout")


def test_an_unknown_error_of_lambda_has_the_advice_for_lambda() -> None:
    assert advise("Lambda.Unknown") != advise("KeyError")


@pytest.mark.parametrize("function", ["merge-batch", "compactor", "clean-up", "list-deltas"])
def test_the_advice_for_a_limit_names_the_function_that_failed(function: str) -> None:
    disk, memory = advise("DiskFullError", function=function), advise("Runtime.OutOfMemory", function=function)

    assert f"ephemeralStorage.{function} " in disk.command
    assert "memory" not in disk.meaning
    assert f"memory.{function} " in memory.command
