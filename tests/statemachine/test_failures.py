"""What the state machine does when a task raises: retry what passes, release the lease, show the first error."""

from __future__ import annotations

import json

import pytest

from tests.statemachine.answers import USUAL, a_listing, a_run
from tests.statemachine.conftest import RunMachine
from tests.statemachine.definition import Json
from tests.statemachine.script import REQUESTS, Outcome, Raises, Script, Sleeps

AFTER_ACQUIRING = ["ListDeltas", "DownloadSnapshot", "MergeBatch", "UploadSnapshot"]
LAMBDA_FAULTS = [
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
]


def message_of(cause: str | None) -> str:
    """Return the message in a cause, which is the JSON of a Lambda error."""
    message: str = json.loads(cause or "{}")["errorMessage"]
    return message


@pytest.mark.parametrize("task", ["AcquireLock", *AFTER_ACQUIRING])
def test_a_task_that_raises_releases_the_lease_and_fails_with_its_error(
    task: str, run: RunMachine, script: Script
) -> None:
    script.tell(task, Raises("VerificationError", "docs: 3 ids read back wrong"))

    finished = run()

    assert finished.status == "FAILED"
    assert finished.error == "VerificationError"
    assert message_of(finished.cause) == "docs: 3 ids read back wrong"
    assert script.called().count("ReleaseLock") == 1
    assert finished.states[-1] == "CompactionFailed"


@pytest.mark.parametrize("error", ["SnapshotConflictError", "LockLostError", "SnapshotCorruptError", "MemoryError"])
def test_what_does_not_pass_by_itself_is_not_retried(error: str, run: RunMachine, script: Script) -> None:
    script.tell("UploadSnapshot", Raises(error))

    finished = run()

    assert finished.error == error
    assert script.called().count("UploadSnapshot") == 1


@pytest.mark.parametrize("task", sorted(REQUESTS))
def test_a_transient_error_is_retried_and_forgotten(task: str, run: RunMachine, script: Script) -> None:
    usual = {**USUAL, "ListDeltas": lambda _request: a_listing(batches=1)}
    script.tell("ListDeltas", usual["ListDeltas"])
    script.tell(task, Raises("TransientStorageError", "503 Slow Down"), usual[task])

    finished = run()

    assert finished.status == "SUCCEEDED", finished.cause
    assert script.called().count(task) == 2


@pytest.mark.parametrize("error", LAMBDA_FAULTS)
def test_a_fault_of_lambda_itself_is_retried(error: str, run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", Raises(error), a_listing(batches=0))

    assert run().status == "SUCCEEDED"


def test_a_transient_error_that_stays_fails_after_five_retries(run: RunMachine, script: Script) -> None:
    script.tell("DownloadSnapshot", Raises("TransientStorageError", "503 Slow Down"))

    finished = run()

    assert finished.error == "TransientStorageError"
    assert script.called().count("DownloadSnapshot") == 6
    assert script.called().count("ReleaseLock") == 1


def test_one_batch_that_fails_fails_the_execution_and_publishes_nothing(run: RunMachine, script: Script) -> None:
    def all_but_the_second(request: Json) -> Outcome:
        bad = request["batch"]["key"].endswith("0001.json")
        return Raises("MemoryError", "batch 1") if bad else a_run(request)

    script.tell("MergeBatch", all_but_the_second)

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "MemoryError")
    assert "UploadSnapshot" not in script.called()
    assert script.called().count("ReleaseLock") == 1


def test_a_failed_clean_up_is_recorded_and_does_not_fail_what_was_published(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(more=True))
    script.tell("CleanUp", Raises("AccessDenied", "no"))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert finished.output["clean_up_failure"]["Error"] == "AccessDenied"
    assert script.called()[-2:] == ["CleanUp", "ReleaseLock"]


def test_a_release_that_fails_after_a_success_fails_the_execution_so_that_the_rule_releases(
    run: RunMachine, script: Script
) -> None:
    script.tell("ReleaseLock", Raises("AccessDenied", "the table is gone"))

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "AccessDenied")
    assert message_of(finished.cause) == "the table is gone"
    assert finished.states[-1] == "LockNotReleased"


def test_a_release_that_fails_does_not_hide_the_first_error(run: RunMachine, script: Script) -> None:
    script.tell("UploadSnapshot", Raises("VerificationError", "first"))
    script.tell("ReleaseLock", Raises("AccessDenied", "second"))

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "VerificationError")
    assert message_of(finished.cause) == "first"


def test_a_task_past_its_time_releases_the_lease_and_fails(run: RunMachine, script: Script) -> None:
    script.tell("DownloadSnapshot", Sleeps(3, {}))

    def in_a_hurry(definition: Json) -> None:
        definition["States"]["DownloadSnapshot"]["TimeoutSeconds"] = 1

    finished = run(changed=in_a_hurry)

    # moto's Fail state refuses error names that begin with States., so look at what it was given.
    assert finished.status == "FAILED"
    assert finished.input_of("CompactionFailed")["failure"]["Error"] == "States.Timeout"
    assert script.called().count("ReleaseLock") == 1


def test_an_answer_without_a_promised_field_does_not_pass_unseen(run: RunMachine, script: Script) -> None:
    incomplete = {name: value for name, value in a_listing().items() if name != "base"}
    script.tell("ListDeltas", incomplete)

    finished = run()

    assert finished.status == "FAILED"
    assert script.called().count("ReleaseLock") == 1
    assert "UploadSnapshot" not in script.called()
