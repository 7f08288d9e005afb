"""A pass that one compactor cannot fold soon enough, on the whole system: states, functions and roles are real."""

from __future__ import annotations

import json

import pytest

from chromadb_compaction.manifest import CollectionSnapshot
from tests.builders import a_delta
from tests.e2e.commands import command_line
from tests.e2e.conftest import DeployStack
from tests.stack import Stack

pytestmark = pytest.mark.e2e

COLLECTIONS = 100
"""A tenth of a second each, of which half of 12 s holds 60. UploadSnapshot keeps 30, and two others fold the rest."""
SECONDS = json.dumps({"compactor": 12, "fold-partitions": 12})

PARTITIONS = {"partitionSplitRecords": "30", "partitionTargetRecords": "20"}
LARGE = "large"
"""A collection of 40 records in two partitions, of which the last grows to 45 and is divided into three."""


def put(stack: Stack, number: int, *, large: int) -> None:
    deltas = [a_delta({f"id-{number}": [1.0, float(n)]}, collection=f"c{n:03d}") for n in range(COLLECTIONS)]
    deltas.append(a_delta({f"{number}-{n:02d}": [float(number), float(n)] for n in range(large)}, collection=LARGE))
    stack.put_objects({delta.key: delta.body for delta in deltas})


@pytest.mark.timeout(600)
def test_several_functions_fold_a_large_pass_and_history_shows_them(
    deploy: DeployStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack = deploy(config={"timeout": SECONDS, **PARTITIONS})
    cli = command_line(stack, monkeypatch, capsys)
    put(stack, 1, large=40)

    first = cli("compact", "--wait")
    put(stack, 2, large=25)
    second = stack.compact(seconds=300)

    assert f"Merged {COLLECTIONS + 1} deltas" in first.out
    assert second.status == "SUCCEEDED", second.cause
    assert second.output["snapshot"]["records"] == 2 * COLLECTIONS + 65
    assert len(second.output["work"]["folded"]) >= 2
    assert stack.keys("delta/") == []
    described = stack.get(f"snapshot/{second.output['snapshot']['snapshot_id']}/{LARGE}/collection.json")
    parts = CollectionSnapshot.model_validate_json(described).partitions
    assert [(each.first, each.records) for each in parts] == [("", 20), ("1-20", 15), ("1-35", 15), ("2-10", 15)]
    history = cli("history")
    for state in ("MergeBatches", "FoldPartitions", "UploadSnapshot"):
        assert state in history.out
    assert cli("snapshots", "verify", "--full").code == 0
