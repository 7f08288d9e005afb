"""Histories as AWS writes them, and as the local engine does: without links and without iterations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chromadb_compaction.cli.commands.history import render
from chromadb_compaction.cli.executions.advice import ADVICE, advise
from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.executions.failure_report import report_failure
from chromadb_compaction.cli.executions.summary import summarise
from chromadb_compaction.cli.executions.timeline import StateVisit, Timeline, read_timeline

START = datetime(2026, 1, 1, tzinfo=UTC)
CAUSE = json.dumps({"errorType": "LockLostError", "errorMessage": "the lease was lost", "stackTrace": ["..."]})


class History:
    """A history under construction, with events a second apart. `linked`: each has its previous event, as on AWS."""

    def __init__(self, *, linked: bool) -> None:
        self.events: list[dict[str, Any]] = []
        self.linked = linked

    def add(self, kind: str, *, after: int | None = None, **details: object) -> int:
        number = len(self.events) + 1
        event: dict[str, Any] = {"id": number, "type": kind, "timestamp": START + timedelta(seconds=number)}
        if self.linked:
            event["previousEventId"] = number - 1 if after is None else after
        if details:
            event["someEventDetails"] = details
        self.events.append(event)
        return number

    def task(self, name: str, *, output: Mapping[str, Any] | None = None, after: int | None = None) -> int:
        self.add("TaskStateEntered", after=after, name=name)
        self.add("TaskScheduled", parameters=json.dumps({"FunctionName": f"arn:aws:lambda:x:1:function:{name}:live"}))
        self.add("TaskSucceeded")
        return self.add("TaskStateExited", name=name, output=json.dumps(output or {}))

    def read(self) -> Timeline:
        return read_timeline(self.events)


def only_visit(timeline: Timeline, name: str) -> StateVisit:
    (visit,) = [visit for visit in timeline.visits if visit.name == name]
    return visit


def test_a_visit_has_its_duration_and_its_function() -> None:
    history = History(linked=True)
    history.add("ExecutionStarted", input="{}")
    history.task("ListDeltas")

    visit = only_visit(history.read(), "ListDeltas")

    assert visit.seconds(START) == 3
    assert (visit.attempts, visit.succeeded, visit.failed, visit.function) == (1, 1, False, "ListDeltas")


def test_the_duration_of_a_state_that_was_not_left_ends_now() -> None:
    history = History(linked=True)
    history.add("TaskStateEntered", name="CleanUp")

    visit = only_visit(history.read(), "CleanUp")

    assert visit.left is None
    assert visit.seconds(START + timedelta(seconds=11)) == 10


def test_a_task_that_succeeded_after_a_retry_has_failures_but_has_not_failed() -> None:
    history = History(linked=True)
    history.add("TaskStateEntered", name="CleanUp")
    history.add("TaskScheduled")
    history.add("TaskFailed", error="TransientStorageError", cause="slow down")
    history.add("TaskScheduled")
    history.add("TaskSucceeded")
    history.add("TaskStateExited", name="CleanUp", output="{}")

    visit = only_visit(history.read(), "CleanUp")

    assert [failure.error for failure in visit.failures] == ["TransientStorageError"]
    assert (visit.attempts, visit.failed) == (2, False)


def test_the_message_of_an_error_is_read_from_its_cause() -> None:
    history = History(linked=True)
    history.add("FailStateEntered", name="CompactionFailed")
    history.add("ExecutionFailed", error="LockLostError", cause=CAUSE)

    timeline = history.read()

    assert timeline.ended == "FAILED"
    assert timeline.failure is not None
    assert (timeline.failure.error, timeline.failure.message) == ("LockLostError", "the lease was lost")
    assert only_visit(timeline, "CompactionFailed").failed


def test_an_abort_ends_the_current_state() -> None:
    history = History(linked=False)
    history.add("TaskStateEntered", name="UploadSnapshot")
    history.add("ExecutionAborted", cause="by hand")

    timeline = history.read()

    assert timeline.ended == "ABORTED"
    assert only_visit(timeline, "UploadSnapshot").left == START + timedelta(seconds=2)


def test_interleaved_iterations_of_a_map_are_separated_by_their_links() -> None:
    history = History(linked=True)
    entered = history.add("MapStateEntered", name="MergeBatches")
    started = history.add("MapStateStarted", after=entered, length=2)
    one = history.add("MapIterationStarted", after=started, name="MergeBatches", index=0)
    two = history.add("MapIterationStarted", after=started, name="MergeBatches", index=1)
    one = history.add("TaskStateEntered", after=one, name="MergeBatch")
    two = history.add("TaskStateEntered", after=two, name="MergeBatch")
    one = history.add("TaskFailed", after=one, error="TransientStorageError", cause="")
    two = history.add("TaskStateExited", after=two, name="MergeBatch", output="{}")
    two = history.add("MapIterationSucceeded", after=two, name="MergeBatches", index=1)
    history.add("TaskStateExited", after=one, name="MergeBatch", output="{}")
    history.add("MapStateExited", after=two, name="MergeBatches", output="{}")
    history.task("UploadSnapshot")

    timeline = history.read()
    first, second = (visit for visit in timeline.visits if visit.name == "MergeBatch")

    assert (len(first.failures), len(second.failures)) == (1, 0)
    assert first.inside == second.inside == "MergeBatches"
    assert only_visit(timeline, "MergeBatches").iterations == 2
    assert only_visit(timeline, "MergeBatches").iterations_done == 1
    assert only_visit(timeline, "UploadSnapshot").inside is None


def test_without_iterations_the_attempts_belong_to_the_map() -> None:
    history = History(linked=False)
    history.add("MapStateEntered", name="MergeBatches")
    history.add("TaskScheduled")
    history.add("TaskScheduled")
    history.add("TaskFailed", error="TransientStorageError", cause="")
    history.add("TaskSucceeded")
    history.add("TaskScheduled")
    history.add("TaskSucceeded")
    history.add("MapStateExited", name="MergeBatches", output='{"runs": []}')

    visit = only_visit(history.read(), "MergeBatches")

    assert (visit.attempts, visit.succeeded, len(visit.failures), visit.failed) == (3, 2, 1, False)
    assert visit.iterations is None


def test_a_map_whose_error_was_caught_has_failed() -> None:
    history = History(linked=False)
    history.add("MapStateEntered", name="MergeBatches")
    history.add("MapStateExited", name="MergeBatches", output='{"failure": {"Error": "X"}}')

    assert only_visit(history.read(), "MergeBatches").failed


def upload(number: int, added: int, records: int) -> dict[str, Any]:
    counts = {
        "collection": "docs",
        "added": added,
        "replaced": 1,
        "deleted": 0,
        "unchanged": 0,
        "records": records,
    }
    snapshot = {
        "published": True,
        "snapshot_id": f"{number:010d}-00000000",
        "outcome": "snapshot/deltas.json.gz",
        "collections": [counts],
        "deltas_merged": 1,
        "deltas_quarantined": 0,
        "records": records,
        "bytes": 10,
        "bytes_uploaded": 10,
        "seconds": {},
    }
    return {"snapshot": snapshot}


def runs(*merged: int) -> str:
    entries = [
        {
            "collection": "docs",
            "run": None,
            "report": "r",
            "merged": count,
            "quarantined": 1,
            "missing": 0,
            "rows": 0,
            "bytes": 0,
        }
        for count in merged
    ]
    return json.dumps({"runs": entries})


def test_a_summary_adds_up_all_passes_and_has_the_last_snapshot() -> None:
    history = History(linked=False)
    for number, merged in ((1, (100, 40)), (2, (7,))):
        history.add("MapStateEntered", name="MergeBatches")
        history.add("MapStateExited", name="MergeBatches", output=runs(*merged))
        history.task("UploadSnapshot", output=upload(number, added=5, records=5 * number))
    history.add("ExecutionSucceeded", output="{}")

    summary = summarise(history.read())

    assert (summary.status, summary.passes, summary.batches) == ("SUCCEEDED", 2, 3)
    assert (summary.merged, summary.quarantined, summary.bytes_uploaded) == (147, 3, 20)
    assert summary.snapshot_id == "0000000002-00000000"
    assert [(each.added, each.replaced, each.records) for each in summary.collections] == [(10, 2, 10)]


def test_a_pass_that_failed_to_publish_is_not_counted() -> None:
    history = History(linked=False)
    history.task("UploadSnapshot", output=upload(1, added=5, records=5))
    history.task("UploadSnapshot", output={**upload(1, added=5, records=5), "failure": {"Error": "X", "Cause": ""}})

    assert summarise(history.read()).passes == 1


def test_an_execution_that_stopped_in_clean_up_names_the_snapshot_that_it_had_published() -> None:
    history = History(linked=False)
    history.task("UploadSnapshot", output=upload(1, added=5, records=5))
    history.add("TaskStateEntered", name="CleanUp")
    history.add("ExecutionAborted")
    timeline = history.read()
    started = timeline.visits[0].entered
    execution = Execution(arn="arn:a", name="a", status="ABORTED", started=started, stopped=started)

    report = report_failure(execution, timeline, None)

    assert report is not None
    assert report.published == summarise(timeline).snapshot_id == "0000000001-00000000"
    text = "".join(str(part) for part in render(execution, timeline, report))
    assert "published before that: 0000000001-00000000" in text


@pytest.mark.parametrize("error", sorted(ADVICE))
def test_no_advice_claims_that_nothing_was_published(error: str) -> None:
    assert "without publishing" not in advise(error).meaning
    assert "nothing was published" not in advise(error).meaning


def test_a_summary_names_the_holder_of_the_lock() -> None:
    history = History(linked=False)
    history.add("SucceedStateEntered", name="AlreadyRunning")
    held = {"Error": "LockHeldError", "Cause": json.dumps({"errorMessage": "held by first"})}
    history.add("SucceedStateExited", name="AlreadyRunning", output=json.dumps({"held": held}))
    history.add("ExecutionSucceeded", output="{}")

    assert summarise(history.read()).held == "held by first"
