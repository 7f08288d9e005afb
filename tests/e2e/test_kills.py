"""Functions, executions and the server are killed at random moments. No row is lost, duplicated or resurrected."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from chromadb_compaction.local.deployment import Deployment
from chromadb_compaction.local.home import StackHome
from tests.e2e.durable_server import DurableServer
from tests.e2e.kills import KillTest, summary

pytestmark = pytest.mark.e2e

DEPLOYMENT = Deployment(
    "kills",
    {"enableCompaction": "false", "compactionBatchSize": "4", "maxBatchesPerPass": "3"},
    {"LOCK_TIMEOUT_MINUTES": "1"},
)
MANY = 54
AT_ONCE = 6


@pytest.fixture
def kill_test(tmp_path: Path) -> Iterator[KillTest]:
    server = DurableServer(StackHome(tmp_path / "stack"), DEPLOYMENT)
    yield KillTest(server, tmp_path)
    server.kill()


def kill_many(kill_test: KillTest, numbers: Iterable[int], capsys: pytest.CaptureFixture[str]) -> None:
    kills = []
    for number in numbers:
        kills.append(kill_test.kill_once(number))
        with capsys.disabled():
            sys.stdout.write(f"\n{kills[-1]}")
    with capsys.disabled():
        sys.stdout.write(f"\n{summary(kills)}\n")


def test_a_killed_worker_a_stopped_execution_and_a_killed_server_lose_nothing(
    kill_test: KillTest, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_many(kill_test, (3, 5), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 100 + MANY, AT_ONCE))
def test_many_kills_lose_nothing(kill_test: KillTest, first: int, capsys: pytest.CaptureFixture[str]) -> None:
    kill_many(kill_test, range(first, first + AT_ONCE), capsys)
