"""The command line's reports of an execution, from the histories of real interpreters."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from chromadb_compaction.cli.executions.states_table import states_table
from chromadb_compaction.cli.executions.summary import summarise
from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline, read_timeline
from tests.statemachine.conftest import RunMachine
from tests.statemachine.engines import Finished
from tests.statemachine.fake_functions import FakeFunctions, Raises
from tests.statemachine.task_results import a_listing, a_run


def timeline_of(finished: Finished) -> Timeline:
    return read_timeline(finished.history)


def visit_of(timeline: Timeline, state: str) -> StateVisit:
    [visit] = [visit for visit in timeline.visits if visit.name == state]
    return visit


def table_text(timeline: Timeline) -> str:
    console = Console(file=io.StringIO(), width=200)
    with console.capture() as capture:
        console.print(states_table(timeline))
    return capture.get()


def test_a_successful_execution_has_left_every_state_and_failed_in_none(run: RunMachine) -> None:
    timeline = timeline_of(run())

    assert timeline.ended == "SUCCEEDED"
    assert all(visit.left is not None and not visit.failed for visit in timeline.visits)
    assert timeline.last_failure() is None


def test_all_passes_are_added_up(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(1, batches=2, more=True), a_listing(2, batches=3))

    summary = summarise(timeline_of(run()))

    assert (summary.passes, summary.batches, summary.merged) == (2, 5, 500)
    assert summary.snapshot_id == "0000000002-3f2a9c1b"
    assert summary.collections[0].added == 600


def test_the_table_counts_the_merged_batches(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=4))

    text = table_text(timeline_of(run()))

    assert "4 of 4 batches" in text or "4 batches" in text


def test_a_retried_batch_is_reported_but_has_not_failed(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=1))
    functions.set_behaviours("MergeBatch", Raises("TransientStorageError", "503 Slow Down"), a_run)

    timeline = timeline_of(run())

    assert "1 failed attempt, the last: TransientStorageError: 503 Slow Down" in table_text(timeline)
    assert not visit_of(timeline, "MergeBatches").failed
    assert timeline.ended == "SUCCEEDED"


@pytest.mark.parametrize(("task", "state"), [("DownloadSnapshot", "DownloadSnapshot"), ("MergeBatch", "MergeBatches")])
def test_the_failed_state_and_its_error_are_reported(
    task: str, state: str, run: RunMachine, functions: FakeFunctions
) -> None:
    functions.set_behaviours("ListDeltas", a_listing(batches=1))
    functions.set_behaviours(task, Raises("SnapshotCorruptError", "manifest.json is missing"))

    timeline = timeline_of(run())
    failed = timeline.last_failure()

    assert timeline.ended == "FAILED"
    assert timeline.failure is not None
    assert (timeline.failure.error, timeline.failure.message) == ("SnapshotCorruptError", "manifest.json is missing")
    assert visit_of(timeline, state).failed
    assert failed is not None
    assert failed.name in {task, state}


def test_the_holder_of_the_lock_is_reported(run: RunMachine, functions: FakeFunctions) -> None:
    functions.set_behaviours("AcquireLock", Raises("LockHeldError", "held by the first"))

    assert summarise(timeline_of(run())).held == "held by the first"
