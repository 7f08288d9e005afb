from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import pytest
import typer
from rich.console import Console

from chromadb_compaction.cli.executions import client
from chromadb_compaction.cli.executions.timeline import Timeline, read_timeline
from chromadb_compaction.cli.executions.waiting import follow_until_ctrl_c

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

ARN = "arn:aws:states:us-east-1:000000000000:execution:compaction-prod:nightly-7"


@pytest.fixture
def step_functions() -> SFNClient:
    return boto3.client("stepfunctions", region_name="us-east-1")


def still_running(*_: object) -> Timeline:
    return read_timeline([{"type": "ExecutionStarted", "id": 1, "timestamp": datetime.now(UTC)}])


def interrupt(_seconds: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_says_that_the_execution_goes_on_and_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step_functions: SFNClient, *, terminal: bool
) -> None:
    monkeypatch.setattr(client, "read_history", still_running)
    monkeypatch.setattr("time.sleep", interrupt)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)

    with pytest.raises(typer.Exit) as end:
        follow_until_ctrl_c(console, step_functions, ARN)

    assert end.value.exit_code == 130
    [line] = capsys.readouterr().err.splitlines()
    assert line == "The execution nightly-7 goes on. Follow it: chromadb-compaction history nightly-7 --follow"
