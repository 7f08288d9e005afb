"""The interpreter of the committed state machine handles results and errors as Step Functions does."""

import json
from typing import Any

import pytest

from tests.crash.state_machine import DEFINITION, Ended, StateMachine, Step, TaskFailed

RESULTS: dict[str, Any] = {
    "AcquireLock": {"owner": "me"},
    "ListDeltas": {
        "pass": 1,
        "batches": [{"key": "one"}, {"key": "two"}],
        "deltas": 2,
        "more": False,
        "base": None,
        "pending": 2,
        "oldest_seconds": 0,
        "finished_clean_up_of": None,
        "queue_error": None,
        "set_aside": 0,
        "large_passes": 0,
        "deferred": 0,
        "deferred_until": None,
    },
    "DownloadSnapshot": {"collections": [], "others": 0, "bytes": 0, "seconds": 0, "cached": True},
    "MergeBatch": {"rows": 1},
    "UploadSnapshot": dict.fromkeys(
        (
            "published",
            "snapshot_id",
            "outcome",
            "collections",
            "deltas_merged",
            "deltas_quarantined",
            "records",
            "bytes",
            "bytes_uploaded",
            "seconds",
            "deltas_unreadable",
            "deltas_left",
            "too_large",
            "folds",
        )
    )
    | {"folds_left": 0},
    "CleanUp": dict.fromkeys(
        ("archived", "quarantined", "messages_deleted", "snapshots_pruned", "objects_pruned", "skipped", "queue_error")
    ),
    "ReleaseLock": {"released": True, "holder": None},
}


class Functions:
    """Return the results of the tasks, after raising the errors given for a task."""

    def __init__(self, **errors: list[str]) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._errors = errors

    def __call__(self, function: str, payload: Any) -> Any:
        task = payload.get("task") or function.removeprefix("${").removesuffix("FunctionArn}")
        self.calls.append((task, payload))
        if self._errors.get(task):
            raise TaskFailed(self._errors[task].pop(0), "why")
        return RESULTS[task]

    @property
    def tasks(self) -> list[str]:
        return [task for task, _ in self.calls]


def run(functions: Functions) -> Ended:
    machine = StateMachine(functions)
    step: Step | Ended = machine.start()
    while isinstance(step, Step):
        step = machine.advance(step, "arn:me")
    return step


def test_all_tasks_are_called_in_order_with_the_results_of_earlier_ones() -> None:
    functions = Functions()

    assert run(functions) == Ended("SUCCEEDED")
    assert functions.tasks == [
        "AcquireLock",
        "ListDeltas",
        "DownloadSnapshot",
        "MergeBatch",
        "MergeBatch",
        "UploadSnapshot",
        "CleanUp",
        "ReleaseLock",
    ]
    assert functions.calls[4][1] == {"execution": "arn:me", "pass": 1, "batch": {"key": "two"}}
    assert functions.calls[5][1]["runs"] == [{"rows": 1}, {"rows": 1}]


def test_a_transient_error_is_retried_five_times() -> None:
    functions = Functions(MergeBatch=["TransientStorageError"] * 5)

    assert run(functions) == Ended("SUCCEEDED")
    assert functions.tasks.count("MergeBatch") == 7


def test_the_sixth_failure_is_caught_and_the_lease_released() -> None:
    functions = Functions(MergeBatch=["TransientStorageError"] * 6)

    assert run(functions) == Ended("FAILED", "TransientStorageError")
    assert functions.tasks[-1] == "ReleaseLock"


def test_an_error_that_no_retry_names_is_caught_at_once() -> None:
    functions = Functions(UploadSnapshot=["Runtime.ExitError"])

    assert run(functions) == Ended("FAILED", "Runtime.ExitError")
    assert functions.tasks.count("UploadSnapshot") == 1


def test_a_held_lock_ends_the_execution_successfully() -> None:
    functions = Functions(AcquireLock=["LockHeldError"])

    assert run(functions) == Ended("SUCCEEDED")
    assert functions.tasks == ["AcquireLock"]


def test_a_definition_with_an_unknown_field_is_refused() -> None:
    definition = json.loads(DEFINITION.read_text())
    definition["States"]["ListDeltas"]["HeartbeatSeconds"] = 60

    with pytest.raises(NotImplementedError, match="HeartbeatSeconds"):
        StateMachine(Functions(), definition)
