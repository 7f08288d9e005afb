"""The ways through the state machine that end well, on every interpreter."""

from __future__ import annotations

import json

from tests.statemachine.answers import a_listing
from tests.statemachine.conftest import RunMachine
from tests.statemachine.script import Raises, Script


def test_three_batches_are_merged_and_published_under_a_lease_that_is_released(run: RunMachine, script: Script) -> None:
    finished = run()

    assert finished.status == "SUCCEEDED", (finished.error, finished.cause)
    assert script.called() == [
        "AcquireLock",
        "ListDeltas",
        "DownloadSnapshot",
        *["MergeBatch"] * 3,
        "UploadSnapshot",
        "CleanUp",
        "ReleaseLock",
    ]


def test_each_state_is_entered_once_in_the_order_of_the_diagram(run: RunMachine) -> None:
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


def test_every_task_is_told_the_same_execution(run: RunMachine, script: Script) -> None:
    run()

    owners = {event["execution"] for task in set(script.called()) for event in script.events(task)}
    assert len(owners) == 1
    assert ":execution:" in owners.pop()


def test_runs_reach_the_fold_in_the_order_of_the_batches(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=12))

    run()

    [upload] = script.events("UploadSnapshot")
    assert [merged["run"] for merged in upload["runs"]] == [f"work/x/1/runs/{n:04d}.json" for n in range(12)]


def test_clean_up_is_told_what_was_published(run: RunMachine, script: Script) -> None:
    run()

    [request] = script.events("CleanUp")
    assert request["snapshot_id"] == "0000000001-3f2a9c1b"
    assert request["outcome"] == "snapshot/0000000001-3f2a9c1b/deltas.json.gz"


def test_with_nothing_to_do_the_lease_is_released_at_once(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=0))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert script.called() == ["AcquireLock", "ListDeltas", "ReleaseLock"]


def test_a_backlog_drains_over_passes_of_one_execution(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(1, more=True), a_listing(2, more=True), a_listing(3))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert [event["previous_pass"] for event in script.events("ListDeltas")] == [0, 1, 2]
    assert [event["pass"] for event in script.events("CleanUp")] == [1, 2, 3]
    assert script.called().count("AcquireLock") == script.called().count("ReleaseLock") == 1


def test_deltas_gone_before_the_second_pass_end_the_execution_well(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(1, more=True), a_listing(2, batches=0))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert script.called().count("UploadSnapshot") == 1
    assert script.called()[-1] == "ReleaseLock"


def test_a_held_lock_ends_well_naming_the_holder_and_touches_nothing(run: RunMachine, script: Script) -> None:
    script.tell("AcquireLock", Raises("LockHeldError", "held by arn:aws:states:::execution:first until 12:15"))

    finished = run()

    assert finished.status == "SUCCEEDED"
    assert finished.states[-1] == "AlreadyRunning"
    assert finished.output["held"]["Error"] == "LockHeldError"
    assert "execution:first" in json.loads(finished.output["held"]["Cause"])["errorMessage"]
    assert script.called() == ["AcquireLock"]


def test_the_execution_input_never_reaches_the_workflows_state(run: RunMachine, script: Script) -> None:
    finished = run({"failure": {"Error": "Forged"}, "work": {"pass": 7}})

    assert finished.status == "SUCCEEDED"
    assert script.events("ListDeltas")[0]["previous_pass"] == 0


def test_the_output_tells_what_was_done(run: RunMachine) -> None:
    output = run().output

    assert set(output) == {"lease", "work", "base_copy", "runs", "snapshot", "clean_up", "release"}
    assert output["snapshot"]["snapshot_id"] == "0000000001-3f2a9c1b"
    assert output["release"] == {"released": True, "holder": None}
