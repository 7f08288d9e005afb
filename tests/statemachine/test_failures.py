"""The behaviour when a task raises: retry transient errors, release the lease, report the first error."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import pytest

from tests.statemachine.conftest import RunMachine
from tests.statemachine.definition import Json
from tests.statemachine.fake_functions import REQUESTS, FakeFunctions, Outcome, Raises, Sleeps
from tests.statemachine.task_results import USUAL_RESULTS, a_listing, a_plan, a_run, a_snapshot

AFTER_ACQUIRING = ["ListDeltas", "DownloadSnapshot", "MergeBatch", "UploadSnapshot"]
LAMBDA_ERRORS = [
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    # A function that nobody has called for weeks is inactive, and then pending.
    "Lambda.ResourceNotReadyException",
    "Lambda.ResourceConflictException",
    "Lambda.CodeArtifactUserPendingException",
    "Lambda.TooManyRequestsException",
]


def message_of(cause: str | None) -> str:
    """Return the message in a cause, which is the JSON of a Lambda error."""
    message: str = json.loads(cause or "{}")["errorMessage"]
    return message


@pytest.mark.parametrize("task", ["AcquireLock", *AFTER_ACQUIRING])
def test_a_task_that_raises_releases_the_lease_and_fails_with_its_error(
    task: str, run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours(task, Raises("VerificationError", "docs: 3 ids read back wrong"))

    finished = run()

    assert finished.status == "FAILED"
    assert finished.error == "VerificationError"
    assert message_of(finished.cause) == "docs: 3 ids read back wrong"
    assert functions.called().count("ReleaseLock") == 1
    assert finished.states[-1] == "CompactionFailed"


@pytest.mark.parametrize("error", ["SnapshotConflictError", "LockLostError", "SnapshotCorruptError", "MemoryError"])
def test_a_permanent_error_is_not_retried(error: str, run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("UploadSnapshot", Raises(error))

    finished = run()

    assert finished.error == error
    assert functions.called().count("UploadSnapshot") == 1


@pytest.mark.parametrize("task", sorted(REQUESTS))
def test_an_execution_succeeds_after_a_transient_error(task: str, run: RunMachine, functions: FakeFunctions) -> None:
    results = {**USUAL_RESULTS, "ListDeltas": lambda _request: a_listing(batches=1)}
    functions.set_behaviours("ListDeltas", results["ListDeltas"])
    if task == "FoldPartition":
        functions.set_behaviours("UploadSnapshot", partial(a_plan, items=1), a_snapshot)
    functions.set_behaviours(task, Raises("TransientStorageError", "503 Slow Down"), results[task])

    finished = run()

    assert finished.status == "SUCCEEDED", finished.cause
    assert functions.called().count(task) == 2


@pytest.mark.parametrize("error", LAMBDA_ERRORS)
def test_an_error_of_lambda_itself_is_retried(error: str, run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", Raises(error), a_listing(batches=0))

    assert run().status == "SUCCEEDED"


def test_a_map_that_is_throttled_merges_every_batch(run: RunMachine, functions: FakeFunctions) -> None:
    tried: Counter[str] = Counter()

    def merge(request: Json) -> Outcome:
        key = request["batch"]["key"]
        tried[key] += 1
        if tried[key] < 6 and not key.endswith(("0000.json", "0001.json")):  # the account has two executions left
            return Raises("Lambda.TooManyRequestsException", "Rate Exceeded.")
        return a_run(request)

    functions.set_behaviours("ListDeltas", a_listing(batches=6))
    functions.set_behaviours("MergeBatch", merge)

    finished = run(change=lambda definition: definition["States"]["MergeBatches"].update(MaxConcurrency=3))

    assert finished.status == "SUCCEEDED", finished.cause
    assert sorted(tried.values()) == [1, 1, 6, 6, 6, 6]
    [upload] = functions.events("UploadSnapshot")
    assert len({merged["report"] for merged in upload["runs"]}) == 6


def test_a_persistent_transient_error_fails_after_five_retries(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("DownloadSnapshot", Raises("TransientStorageError", "503 Slow Down"))

    finished = run()

    assert finished.error == "TransientStorageError"
    assert functions.called().count("DownloadSnapshot") == 6
    assert functions.called().count("ReleaseLock") == 1


def test_one_failed_batch_fails_the_execution_which_publishes_nothing(
    run: RunMachine, functions: FakeFunctions
) -> None:
    def fail_the_second(request: Json) -> Outcome:
        is_second = request["batch"]["key"].endswith("0001.json")
        return Raises("MemoryError", "batch 1") if is_second else a_run(request)

    functions.set_behaviours("MergeBatch", fail_the_second)

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "MemoryError")
    assert "UploadSnapshot" not in functions.called()
    assert functions.called().count("ReleaseLock") == 1


def test_a_failed_clean_up_is_recorded_and_does_not_fail_the_execution(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("ListDeltas", a_listing(more=True))
    functions.set_behaviours("CleanUp", Raises("AccessDenied", "no"))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert finished.output["clean_up_failure"]["Error"] == "AccessDenied"
    assert functions.called()[-2:] == ["CleanUp", "ReleaseLock"]


def test_a_failed_release_fails_the_execution_so_that_the_rule_releases_again(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("ReleaseLock", Raises("AccessDenied", "the table does not exist"))

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "AccessDenied")
    assert message_of(finished.cause) == "the table does not exist"
    assert finished.states[-1] == "LockNotReleased"


def test_a_failed_release_does_not_hide_the_first_error(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("UploadSnapshot", Raises("VerificationError", "first"))
    functions.set_behaviours("ReleaseLock", Raises("AccessDenied", "second"))

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "VerificationError")
    assert message_of(finished.cause) == "first"


def test_a_task_that_exceeds_its_timeout_fails_the_execution_which_releases_the_lease(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("DownloadSnapshot", Sleeps(3, {}))

    def shorten_the_timeout(definition: Json) -> None:
        definition["States"]["DownloadSnapshot"]["TimeoutSeconds"] = 1

    finished = run(change=shorten_the_timeout)

    # moto's Fail state rejects error names that start with "States.", so the test reads its input.
    assert finished.status == "FAILED"
    assert finished.input_of("CompactionFailed")["failure"]["Error"] == "States.Timeout"
    assert functions.called().count("ReleaseLock") == 1


def test_a_result_without_a_required_field_fails_the_execution(run: RunMachine, functions: FakeFunctions) -> None:
    incomplete = {name: value for name, value in a_listing().items() if name != "base"}
    functions.set_behaviours("ListDeltas", incomplete)

    finished = run()

    assert finished.status == "FAILED"
    assert functions.called().count("ReleaseLock") == 1
    assert "UploadSnapshot" not in functions.called()
