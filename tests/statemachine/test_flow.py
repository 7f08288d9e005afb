"""The executions that succeed, on every interpreter."""

from __future__ import annotations

import json

from tests.statemachine.conftest import RunMachine
from tests.statemachine.fake_functions import FakeFunctions, Raises
from tests.statemachine.task_results import a_listing, a_plan, a_snapshot


def test_an_execution_merges_and_publishes_three_batches_and_releases_the_lease(
    run: RunMachine, functions: FakeFunctions
) -> None:
    finished = run()

    assert finished.status == "SUCCEEDED", (finished.error, finished.cause)
    assert functions.called() == [
        "AcquireLock",
        "ListDeltas",
        "DownloadSnapshot",
        *["MergeBatch"] * 3,
        "UploadSnapshot",
        "CleanUp",
        "ReleaseLock",
    ]


def test_each_state_is_entered_once_in_order(run: RunMachine) -> None:
    states = [state for state in run().states if state != "MergeBatch"]

    assert states == [
        "AcquireLock",
        "ListDeltas",
        "AnyDeltas?",
        "DownloadSnapshot",
        "MergeBatches",
        "UploadSnapshot",
        "CleanUp",
        "MoreDeltas?",
        "ReleaseLock",
        "Succeeded?",
        "Done",
    ]


def test_every_task_receives_the_same_execution(run: RunMachine, functions: FakeFunctions) -> None:
    run()

    owners = {event["execution"] for task in set(functions.called()) for event in functions.events(task)}
    assert len(owners) == 1
    assert ":execution:" in owners.pop()


def test_upload_snapshot_receives_the_runs_in_the_order_of_the_batches(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=12))

    run()

    [upload] = functions.events("UploadSnapshot")
    assert [merged["run"] for merged in upload["runs"]] == [f"work/x/1/runs/{n:04d}.json" for n in range(12)]


def test_clean_up_receives_the_published_snapshot(run: RunMachine, functions: FakeFunctions) -> None:
    run()

    [request] = functions.events("CleanUp")
    assert request["snapshot_id"] == "0000000001-3f2a9c1b"
    assert request["outcome"] == "snapshot/0000000001-3f2a9c1b/deltas.json.gz"


def test_without_deltas_the_lease_is_released_at_once(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=0))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert functions.called() == ["AcquireLock", "ListDeltas", "ReleaseLock"]


def test_one_execution_merges_a_backlog_in_several_passes(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(1, more=True), a_listing(2, more=True), a_listing(3))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert [event["previous_pass"] for event in functions.events("ListDeltas")] == [0, 1, 2]
    assert [event["pass"] for event in functions.events("CleanUp")] == [1, 2, 3]
    assert functions.called().count("AcquireLock") == functions.called().count("ReleaseLock") == 1


def test_other_functions_fold_what_upload_snapshot_plans_and_then_it_publishes(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("UploadSnapshot", a_plan, a_snapshot)

    finished = run()

    assert finished.status == "SUCCEEDED", (finished.error, finished.cause)
    assert functions.called()[-7:] == [
        "UploadSnapshot",
        "CleanUp",
        *["FoldPartition"] * 2,
        "UploadSnapshot",
        "CleanUp",
        "ReleaseLock",
    ]
    assert functions.events("CleanUp")[0]["outcome"] == ""
    assert sorted(event["item"]["key"] for event in functions.events("FoldPartition")) == [
        f"work/x/1/folds/{n:04d}.json" for n in range(2)
    ]
    first, second = functions.events("UploadSnapshot")
    assert first["folded"] == []
    assert [each["key"] for each in second["folded"]] == [
        f"work/x/1/folds/{n:04d}/0000000001-3f2a9c1b.json" for n in range(2)
    ]


def test_the_next_pass_knows_of_a_large_one_and_begins_without_its_folds(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("ListDeltas", a_listing(1, more=True), a_listing(2))
    functions.set_behaviours("UploadSnapshot", a_plan, a_snapshot, a_snapshot)

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert [len(event["folded"]) for event in functions.events("ListDeltas")] == [0, 2]
    assert [len(event["folded"]) for event in functions.events("UploadSnapshot")] == [0, 2, 0]


def test_a_fold_that_fails_ends_the_execution_and_releases_the_lease(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("UploadSnapshot", a_plan)
    functions.set_behaviours("FoldPartition", Raises("VerificationError"))

    finished = run()

    assert (finished.status, finished.error) == ("FAILED", "VerificationError")
    assert functions.called()[-1] == "ReleaseLock"
    assert functions.called().count("UploadSnapshot") == 1


def test_an_execution_without_deltas_in_its_second_pass_succeeds(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(1, more=True), a_listing(2, batches=0))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert functions.called().count("UploadSnapshot") == 1
    assert functions.called()[-1] == "ReleaseLock"


def test_an_execution_that_finds_the_lock_held_succeeds_and_names_the_holder(
    run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours(
        "AcquireLock", Raises("LockHeldError", "held by arn:aws:states:::execution:first until 12:15")
    )

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert finished.states[-1] == "AlreadyRunning"
    assert finished.output["held"]["Error"] == "LockHeldError"
    assert "execution:first" in json.loads(finished.output["held"]["Cause"])["errorMessage"]
    assert functions.called() == ["AcquireLock"]


def test_the_execution_input_never_reaches_the_workflows_state(run: RunMachine, functions: FakeFunctions) -> None:
    finished = run({"failure": {"Error": "Forged"}, "work": {"pass": 7}})

    assert finished.status == "SUCCEEDED"
    assert functions.events("ListDeltas")[0]["previous_pass"] == 0


def test_the_output_has_the_results_of_all_tasks(run: RunMachine) -> None:
    output = run().output

    assert set(output) == {"lease", "work", "base_copy", "runs", "snapshot", "clean_up", "release"}
    assert output["snapshot"]["snapshot_id"] == "0000000001-3f2a9c1b"
    assert output["release"] == {"released": True, "holder": None}
