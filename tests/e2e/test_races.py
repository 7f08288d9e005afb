"""Two executions, a deleted lock, a stopped execution and a failed task: pointer and lease stay correct."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chromadb_compaction.errors import SnapshotConflictError
from chromadb_compaction.layout import pointer_key
from chromadb_compaction.messages import (
    AcquireLockRequest,
    DownloadSnapshotRequest,
    ListDeltasRequest,
    MergeBatchRequest,
    UploadSnapshotRequest,
)
from chromadb_compaction.ports import Services
from chromadb_compaction.steps.acquire_lock import acquire_lock
from chromadb_compaction.steps.download_snapshot import download_snapshot
from chromadb_compaction.steps.list_deltas import list_deltas
from chromadb_compaction.steps.merge_batch import merge_batch
from chromadb_compaction.steps.upload_snapshot import upload_snapshot
from tests.e2e.model import Delta, Row, expected, published
from tests.stack import Stack

pytestmark = pytest.mark.e2e

STALLED = "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-local:stalled"


class PausedAtSwap:
    """An object store whose compare-and-swap of the pointer waits until the test sets `proceed`."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.reached = threading.Event()
        self.proceed = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def put_if(self, key: str, body: bytes, *, etag: str | None) -> str:
        if key == pointer_key():
            self.reached.set()
            assert self.proceed.wait(120)
        written: str = self.store.put_if(key, body, etag=etag)
        return written


def compact_in_process(services: Services, execution: str) -> None:
    """Run the states of one pass in this process, in the order of the state machine."""
    acquire_lock(AcquireLockRequest(execution=execution), services)
    listing = list_deltas(ListDeltasRequest(execution=execution, previous_pass=0), services)
    common = {"execution": execution, "pass": listing.pass_number}
    base = {**common, "base": listing.base}
    download_snapshot(DownloadSnapshotRequest.model_validate({**base, "batches": listing.batches}), services)
    runs = [
        merge_batch(MergeBatchRequest.model_validate({**common, "batch": batch}), services) for batch in listing.batches
    ]
    upload_snapshot(UploadSnapshotRequest.model_validate({**base, "runs": runs}), services)


def test_a_stalled_execution_cannot_overwrite_what_another_published(stack: Stack, tmp_path: Path) -> None:
    first = Delta("docs", (Row("a", (1.0, 2.0), "first"),))
    stack.put_objects({first.key: first.body()})
    services = stack.services(cache_dir=tmp_path / "cache")
    paused = PausedAtSwap(services.objects)
    with ThreadPoolExecutor() as pool:
        stalled = pool.submit(compact_in_process, services._replace(objects=paused), STALLED)
        assert paused.reached.wait(120)
        stack.delete_lock_item()
        second = Delta("docs", (Row("b", (3.0, 4.0), "second"),))
        stack.put_objects({second.key: second.body()})
        assert stack.compact().status == "SUCCEEDED"
        pointer = stack.get("snapshot/CURRENT")
        paused.proceed.set()
        with pytest.raises(SnapshotConflictError, match="nothing is lost"):
            stalled.result(120)

    assert stack.get("snapshot/CURRENT") == pointer
    assert published(stack.s3, stack.bucket, tmp_path) == expected([first, second])


def test_of_two_executions_one_compacts_and_the_other_names_the_holder(stack: Stack, tmp_path: Path) -> None:
    deltas = [Delta("docs", tuple(Row(f"{n}-{row}", (float(n), float(row))) for row in range(50))) for n in range(60)]
    stack.put_objects({delta.key: delta.body() for delta in deltas})

    arns = [stack.start_execution(), stack.start_execution()]
    results = [stack.wait(arn) for arn in arns]

    assert [result.status for result in results] == ["SUCCEEDED", "SUCCEEDED"]
    stopped = [result for result in results if "held" in result.output]
    worked = [result for result in results if "held" not in result.output]
    assert len(stopped) == len(worked) == 1
    assert worked[0].arn in stopped[0].output["held"]["Cause"]
    assert published(stack.s3, stack.bucket, tmp_path) == expected(deltas)


def test_stopping_an_execution_releases_the_lock_through_the_status_change_rule(stack: Stack) -> None:
    deltas = [Delta("docs", tuple(Row(f"{n}-{row}", (float(n), float(row))) for row in range(50))) for n in range(60)]
    stack.put_objects({delta.key: delta.body() for delta in deltas})
    arn = stack.start_execution()
    stack.eventually(lambda: stack.lease() is not None, "the execution holds the lease")

    stack.sfn.stop_execution(executionArn=arn, cause="stopped by a test")

    stack.eventually(lambda: stack.lease() is None, "the rule released the lease")
    stack.eventually(lambda: stack.compact().output.get("held") is None, "the next execution can work", seconds=60)
    assert stack.keys("delta/") == []


def test_a_failed_task_releases_the_lock_and_history_shows_its_error(stack: Stack) -> None:
    delta = Delta("docs", (Row("a", (1.0, 2.0)),))
    stack.put_objects({delta.key: delta.body(), "snapshot/CURRENT": b"{not json"})

    result = stack.compact()

    assert result.status == "FAILED"
    assert result.error == "SnapshotCorruptError"
    assert "snapshot/CURRENT" in result.cause
    assert stack.lease() is None
    assert stack.keys("delta/") == [delta.key]
