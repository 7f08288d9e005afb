"""Metrics are printed as lines in CloudWatch's embedded metric format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chromadb_compaction.metrics import DataPoint, Measure
from tasks.emission import emit


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in captured.readouterr().out.splitlines()]


def test_all_metrics_without_a_phase_share_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    emit(
        [DataPoint(Measure.PENDING_DELTAS, 3), DataPoint(Measure.OLDEST_DELTA_AGE, 1.5)],
        stack="prod",
        properties={"execution": "nightly", "pass": 2},
    )

    (line,) = lines(capsys)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive == {
        "Namespace": "ChromaDBCompaction",
        "Dimensions": [["stack"]],
        "Metrics": [{"Name": "PendingDeltas", "Unit": "Count"}, {"Name": "OldestDeltaAge", "Unit": "Seconds"}],
    }
    assert (line["stack"], line["PendingDeltas"], line["OldestDeltaAge"]) == ("prod", [3], [1.5])
    assert (line["execution"], line["pass"]) == ("nightly", 2)


def test_a_phase_has_a_line_and_a_dimension_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    emit(
        [DataPoint(Measure.PHASE_SECONDS, 1, phase="fold"), DataPoint(Measure.PHASE_SECONDS, 2, phase="upload")],
        stack="prod",
        properties={},
    )

    printed = lines(capsys)
    assert [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in printed] == [[["stack", "phase"]]] * 2
    assert {line["phase"]: line["PhaseSeconds"] for line in printed} == {"fold": [1], "upload": [2]}


def test_nothing_is_printed_without_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    emit([], stack="prod", properties={})
    assert capsys.readouterr().out == ""
