"""What the command line tells of an execution, from the histories that real interpreters write."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from chromadb_compaction.cli.executions.states_table import states_table
from chromadb_compaction.cli.executions.summary import summarise
from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline, read_timeline
from tests.statemachine.answers import a_listing, a_run
from tests.statemachine.conftest import RunMachine
from tests.statemachine.engines import Finished
from tests.statemachine.script import Raises, Script


def told(finished: Finished) -> Timeline:
    return read_timeline(finished.history)


def visit_of(timeline: Timeline, state: str) -> StateVisit:
    [visit] = [visit for visit in timeline.visits if visit.name == state]
    return visit


def drawn(timeline: Timeline) -> str:
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(states_table(timeline))
    return capture.get()


def test_a_finished_execution_has_left_every_state_and_failed_in_none(run: RunMachine) -> None:
    timeline = told(run())

    assert timeline.ended == "SUCCEEDED"
    assert all(visit.left is not None and not visit.failed for visit in timeline.visits)
    assert timeline.last_failure() is None


def test_all_passes_are_added_up(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(1, batches=2, more=True), a_listing(2, batches=3))

    summary = summarise(told(run()))

    assert (summary.passes, summary.batches, summary.merged) == (2, 5, 500)
    assert summary.snapshot_id == "0000000002-3f2a9c1b"
    assert summary.collections[0].added == 600


def test_batches_are_counted_while_they_are_merged(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=4))

    text = drawn(told(run()))

    assert "4 of 4 batches" in text or "4 batches" in text


def test_a_retried_batch_is_told_but_has_not_failed(run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=1))
    script.tell("MergeBatch", Raises("TransientStorageError", "503 Slow Down"), a_run)

    timeline = told(run())

    assert "1 failed attempt, the last: TransientStorageError: 503 Slow Down" in drawn(timeline)
    assert not visit_of(timeline, "MergeBatches").failed
    assert timeline.ended == "SUCCEEDED"


@pytest.mark.parametrize(("task", "state"), [("DownloadSnapshot", "DownloadSnapshot"), ("MergeBatch", "MergeBatches")])
def test_the_state_that_failed_and_its_error_are_told(task: str, state: str, run: RunMachine, script: Script) -> None:
    script.tell("ListDeltas", a_listing(batches=1))
    script.tell(task, Raises("SnapshotCorruptError", "manifest.json is missing"))

    timeline = told(run())
    failed = timeline.last_failure()

    assert timeline.ended == "FAILED"
    assert timeline.failure is not None
    assert (timeline.failure.error, timeline.failure.message) == ("SnapshotCorruptError", "manifest.json is missing")
    assert visit_of(timeline, state).failed
    assert failed is not None
    assert failed.name in {task, state}


def test_who_held_the_lock_is_told(run: RunMachine, script: Script) -> None:
    script.tell("AcquireLock", Raises("LockHeldError", "held by the first"))

    assert summarise(told(run())).held == "held by the first"
