"""The dashboard shows health, throughput and cost."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from chromadb_compaction.metrics import Measure
from infra import prices
from infra.config import parse_config
from infra.dashboard import dollars_a_second
from infra.task_lambdas import task_specs
from tests.infra.declared import IMAGE, declared


def widgets() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(declared().one("Dashboard")["dashboardBody"])["widgets"]
    return found


def lines() -> list[list[Any]]:
    return [line for widget in widgets() for line in widget["properties"].get("metrics", [])]


def text() -> str:
    return json.dumps(widgets())


def test_the_dashboard_answers_three_questions_in_this_order() -> None:
    headings = [widget["properties"]["markdown"] for widget in widgets() if widget["type"] == "text"]
    assert [heading.split("?")[0] for heading in headings] == [
        "## Is it healthy",
        "## Is it keeping up",
        "## What does it cost",
    ]


def test_the_dashboard_shows_every_alarm_that_notifies_an_operator() -> None:
    (shown,) = (widget["properties"]["alarms"] for widget in widgets() if widget["type"] == "alarm")
    names = {a.inputs["name"] for a in declared().of_type("MetricAlarm")}
    assert {arn.rpartition(":")[2] for arn in shown} == names - {"chromadb-compaction-dev-backlog"}


def test_no_widget_overlaps_another_or_exceeds_the_page() -> None:
    rows: dict[int, list[dict[str, Any]]] = {}
    for widget in widgets():
        rows.setdefault(widget["y"], []).append(widget)
    for row in rows.values():
        assert all(left["x"] + left["width"] <= right["x"] for left, right in pairwise(row))
        assert row[-1]["x"] + row[-1]["width"] <= 24
    ends = [(top, max(widget["height"] for widget in row)) for top, row in sorted(rows.items())]
    assert all(top + height <= below for (top, height), (below, _) in pairwise(ends))


@pytest.mark.parametrize("measure", [each for each in Measure if each is not Measure.COMPACTION_SUCCEEDED])
def test_every_metric_that_the_tasks_write_is_shown(measure: Measure) -> None:
    assert measure.metric in text()


def test_the_ids_of_a_graph_are_unique_and_its_expressions_use_only_them() -> None:
    for widget in widgets():
        metrics = widget["properties"].get("metrics", [])
        names = [line[-1]["id"] for line in metrics if "id" in line[-1]]
        assert len(names) == len(set(names))
        for line in metrics:
            expression = line[-1].get("expression", "")
            if not expression.startswith("SEARCH"):
                assert set(re.findall(r"[a-z]\w*", expression)) <= set(names)


def test_only_the_lines_that_expressions_use_are_hidden() -> None:
    assert all(("id" in line[-1]) == (line[-1].get("visible") is False) for line in lines())


def test_the_price_of_a_functions_second_follows_from_its_memory_and_disk() -> None:
    specs = {spec.task: spec for spec in task_specs(parse_config({"imageUri": IMAGE}))}
    memory_only = 3008 / 1024 * prices.LAMBDA_GB_SECOND
    assert dollars_a_second(specs["acquire-lock"]) == pytest.approx(256 / 1024 * prices.LAMBDA_GB_SECOND)
    assert memory_only < dollars_a_second(specs["compactor"]) < 1.01 * memory_only


def test_the_dashboard_has_few_enough_metrics_to_count_as_one() -> None:
    assert len([line for line in lines() if not isinstance(line[0], dict)]) <= 50
