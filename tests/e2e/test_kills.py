"""Functions, executions and the whole server are killed at random instants: nothing is lost, doubled or resurrected."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from chromadb_compaction.local.deployment import Deployment
from chromadb_compaction.local.home import StackHome
from tests.e2e.durable_server import DurableServer
from tests.e2e.kills import UnderFire, tally

pytestmark = pytest.mark.e2e

DEPLOYMENT = Deployment(
    "kills",
    {"enableCompaction": "false", "compactionBatchSize": "4", "maxBatchesPerPass": "3"},
    {"LOCK_TIMEOUT_MINUTES": "1"},
)
MANY = 54
AT_ONCE = 6


@pytest.fixture
def under_fire(tmp_path: Path) -> Iterator[UnderFire]:
    server = DurableServer(StackHome(tmp_path / "stack"), DEPLOYMENT)
    yield UnderFire(server, tmp_path)
    server.kill()


def strike(under_fire: UnderFire, numbers: Iterable[int], capsys: pytest.CaptureFixture[str]) -> None:
    blows = []
    for number in numbers:
        blows.append(under_fire.strike(number))
        with capsys.disabled():
            sys.stdout.write(f"\n{blows[-1]}")
    with capsys.disabled():
        sys.stdout.write(f"\n{tally(blows)}\n")


def test_a_killed_worker_a_stopped_execution_and_a_killed_server_lose_nothing(
    under_fire: UnderFire, capsys: pytest.CaptureFixture[str]
) -> None:
    strike(under_fire, (3, 5), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 100 + MANY, AT_ONCE))
def test_many_kills_lose_nothing(under_fire: UnderFire, first: int, capsys: pytest.CaptureFixture[str]) -> None:
    strike(under_fire, range(first, first + AT_ONCE), capsys)
