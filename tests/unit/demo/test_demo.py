from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chromadb_compaction.cli.executions.timeline import read_timeline
from demo.__main__ import explain_first_download, took

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_the_time_of_the_installation_is_part_of_the_whole() -> None:
    assert took(30.0, 25.0) == "55.0 s, 25.0 s of them for the installation"


def test_an_installation_that_was_there_already_is_not_mentioned() -> None:
    assert took(30.0, 0.0) == "30.0 s"


def test_the_first_download_is_explained_with_its_seconds() -> None:
    entered = {"name": "DownloadSnapshot", "input": "{}"}
    events = [
        {"type": "ExecutionStarted", "id": 1, "timestamp": NOON},
        {
            "type": "TaskStateEntered",
            "id": 2,
            "previousEventId": 1,
            "timestamp": NOON,
            "stateEnteredEventDetails": entered,
        },
        {
            "type": "TaskStateExited",
            "id": 3,
            "previousEventId": 2,
            "timestamp": NOON + timedelta(seconds=2.5),
            "stateExitedEventDetails": {"name": "DownloadSnapshot", "output": "{}"},
        },
    ]

    [line] = explain_first_download(read_timeline(events))

    assert "downloaded nothing: its 2.50 s started the function" in line
