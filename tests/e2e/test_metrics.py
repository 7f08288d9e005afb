"""The metrics that deployed functions write to their logs."""

from __future__ import annotations

import pytest

from chromadb_compaction.layout import execution_name
from chromadb_compaction.metrics import Measure
from infra.cost import Load
from tests.e2e.emitted_metrics import emf_lines, emitted
from tests.e2e.model import Delta, Row
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def test_an_execution_emits_its_findings_and_results(stack: Stack) -> None:
    bad = Delta("docs", (Row("x", (float("nan"), 1.0)),))
    good = [Delta("docs", (Row("a", (1.0, 0.0)), Row("b", (0.0, 1.0)))), Delta("docs", (Row("a", (2.0, 0.0)),))]
    stack.put_objects({delta.key: delta.body() for delta in (bad, *good)})

    result = stack.compact()

    assert result.status == "SUCCEEDED", result.cause
    found = emitted(stack)
    assert {metric.execution for metric in found} == {execution_name(result.arn)}
    whole = {metric.name: metric.values for metric in found if "phase" not in metric.dimensions}
    snapshot = result.output["snapshot"]
    expected = {
        "LockContention": 0,
        "PendingDeltas": 3,
        "OldestDeltaAge": result.output["work"]["oldest_seconds"],
        "DeltasMerged": 2,
        "DeltasQuarantined": 1,
        "DeltasSetAside": 0,
        "RecordsAdded": 2,
        "RecordsReplaced": 0,
        "RecordsDeleted": 0,
        "UnprovenCollections": 0,
        "SnapshotRecords": 2,
        "SnapshotBytes": snapshot["bytes"],
        "CompactionSucceeded": 1,
    }
    assert 0 < whole.pop("CompactionSeconds")[0] < result.seconds
    assert whole == {name: [value] for name, value in expected.items()}
    files = [key for key in stack.keys("snapshot/") if "/docs/" in key and not key.endswith("/collection.json")]
    assert snapshot["bytes"] == sum(len(stack.get(key)) for key in files)


def test_every_metric_has_the_name_unit_and_dimensions_that_alarms_use(stack: Stack) -> None:
    delta = Delta("docs", (Row("a", (1.0, 0.0)),))
    stack.put_objects({delta.key: delta.body()})

    result = stack.compact()
    stack.invoke("query", {"action": "count", "collection": "docs"})

    found = emitted(stack)
    name = stack.deployed.name
    assert {(metric.name, metric.unit) for metric in found} == {(each.metric, each.unit) for each in Measure}
    phases = {metric.dimensions["phase"]: metric.values for metric in found if metric.name == "PhaseSeconds"}
    reported = {phase: [seconds] for phase, seconds in result.output["snapshot"]["seconds"].items()}
    assert phases == {
        "download_snapshot": [result.output["base_copy"]["seconds"]],
        **{phase: seconds for phase, seconds in reported.items() if "." not in phase},
    }
    assert len(phases) == Load().phases
    assert all(metric.dimensions["stack"] == name for metric in found)
    assert all(metric.dimensions.keys() == {"stack"} for metric in found if metric.name != "PhaseSeconds")
    directives = [line["_aws"]["CloudWatchMetrics"] for line in emf_lines(stack)]
    assert {directive[0]["Namespace"] for directive in directives} == {"ChromaDBCompaction"}


def test_an_execution_without_work_emits_success_and_one_that_finds_the_lock_held_emits_contention(
    stack: Stack,
) -> None:
    assert stack.compact().status == "SUCCEEDED"
    idle = {metric.name: metric.values for metric in emitted(stack)}
    stack.mark_logs()
    stack.invoke("acquire-lock", {"execution": "arn:aws:states:us-east-1:000000000000:execution:other:holder"})
    stack.mark_logs()

    contended = stack.compact()

    zeros = {key: [0] for key in ("LockContention", "PendingDeltas", "OldestDeltaAge", "DeltasSetAside")}
    assert idle == {**zeros, "CompactionSucceeded": [1]}
    assert "held" in contended.output
    assert [(metric.name, metric.values) for metric in emitted(stack)] == [("LockContention", [1])]
