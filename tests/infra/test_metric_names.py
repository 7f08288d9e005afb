"""Alarms and dashboard look for the metrics that the tasks write, under the same names, units and dimensions."""

from __future__ import annotations

from chromadb_compaction import metrics
from infra import metric_names


def test_the_program_and_the_tasks_agree_on_every_metric() -> None:
    assert {measure.metric: measure.unit for measure in metrics.Measure} == metric_names.UNITS


def test_the_program_and_the_tasks_agree_on_namespace_and_dimensions() -> None:
    for name in ("NAMESPACE", "STACK", "PHASE"):
        assert getattr(metric_names, name) == getattr(metrics, name)
