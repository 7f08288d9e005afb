"""A pass that one compactor cannot fold soon enough, on the whole system: states, functions and roles are real."""

from __future__ import annotations

import pytest

from tests.builders import a_delta
from tests.e2e.commands import command_line
from tests.e2e.conftest import DeployStack
from tests.stack import Stack

pytestmark = pytest.mark.e2e

COLLECTIONS = 50
"""Half a second each, of which half of 30 s holds 30. UploadSnapshot keeps 15, and two others fold the rest."""


def put(stack: Stack, number: int) -> None:
    deltas = [a_delta({f"id-{number}": [1.0, float(n)]}, collection=f"c{n:03d}") for n in range(COLLECTIONS)]
    stack.put_objects({delta.key: delta.body for delta in deltas})


@pytest.mark.timeout(600)
def test_several_functions_fold_a_large_pass_and_history_shows_them(
    deploy: DeployStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = deploy(config={"timeout": '{"compactor": 30, "fold-partitions": 30}'})
    cli = command_line(stack, monkeypatch, capsys)
    put(stack, 1)

    first = cli("compact", "--wait")
    put(stack, 2)
    second = stack.compact(seconds=300)

    assert f"Merged {COLLECTIONS} deltas" in first.out
    assert second.status == "SUCCEEDED", second.cause
    assert second.output["snapshot"]["records"] == 2 * COLLECTIONS
    assert len(second.output["work"]["folded"]) >= 2
    assert stack.keys("delta/") == []
    history = cli("history")
    for state in ("MergeBatches", "FoldPartitions", "UploadSnapshot"):
        assert state in history.out
    assert cli("snapshots", "verify", "--full").code == 0
