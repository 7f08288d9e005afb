"""Every table that shows ids, on a terminal of 80 columns."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console, RenderableType

from chromadb_compaction.cli.commands import deltas, status
from chromadb_compaction.cli.executions.client import Execution
from chromadb_compaction.cli.views.answers import GetResult, QueryResult, render_answer
from chromadb_compaction.cli.views.deltas import PendingDelta
from chromadb_compaction.cli.views.overview import Overview
from chromadb_compaction.cli.views.snapshot_text import render_list
from chromadb_compaction.cli.views.snapshots import SnapshotLine, SnapshotList

UUID = "2be34bff-9aef-4bce-ad6a-eec6837a6133"
SNAPSHOT = "0000000042-3f2a9c1b"
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def shown(parts: Iterable[RenderableType]) -> str:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))
    return captured.get()


def test_the_list_of_snapshots() -> None:
    whole = SnapshotLine(
        snapshot_id=SNAPSHOT,
        current=True,
        created_at=NOON.timestamp(),
        records=12_345_678,
        bytes=2**35,
        deltas_merged=1234,
        seconds=12.0,
        execution=f"arn:aws:states:us-east-1:0:execution:m:{UUID}",
    )
    lost = SnapshotLine(snapshot_id="0000000041-00000000", current=False, problem="its manifest is missing")
    view = SnapshotList(
        current=SNAPSHOT,
        sequence=42,
        published_by=None,
        published_at=None,
        problem=None,
        problem_kind=None,
        snapshots=[whole, lost],
    )

    text = shown(render_list(view))

    assert SNAPSHOT in text
    assert "12,345,678" in text
    assert "0000000041-00000000: damaged: its manifest is missing" in text


def test_the_list_of_pending_deltas() -> None:
    pending = PendingDelta(
        collection="a-collection-with-a-long-name",
        id=UUID,
        key=f"delta/a/{UUID}.parquet",
        bytes=4000,
        written_at=NOON.timestamp(),
        age_seconds=12_345,
    )

    assert UUID in shown(deltas._render_pending([pending], 10))


def test_the_last_executions_of_the_status() -> None:
    execution = Execution(arn="arn", name=UUID, status="SUCCEEDED", started=NOON, stopped=NOON)
    overview = Overview(
        lock=None,
        lock_malformed=None,
        snapshot=None,
        snapshot_corrupt=None,
        snapshot_of_newer_format=None,
        pending=None,
        quarantine=None,
        queue=None,
        dead_letters=None,
        state_machine="arn",
        executions=[execution],
    )

    assert f"{UUID}  SUCCEEDED" in shown(status.render(overview))


def test_the_records_of_an_answer() -> None:
    document = "word " * 100
    nearest = QueryResult(snapshot_id=SNAPSHOT, ids=[[UUID]], distances=[[0.5]], documents=[[document]])
    listed = GetResult(snapshot_id=SNAPSHOT, ids=[UUID], documents=[document], metadatas=[{"key": "value " * 40}])

    assert f"0.5000  {UUID}" in shown(render_answer(nearest))
    assert UUID in shown(render_answer(listed))
