"""The benchmark's verdicts: seconds are never tested, but what is made of them is."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.report import Report, Row, memory_rows, round_rows, table
from benchmarks.workload import Load, first_round, second_round


def rows(seconds: dict[str, float]) -> dict[str, Row]:
    found = round_rows("a round", seconds, {"produce": 10.0, "merge and fold": 100.0}, {"merge and fold": 10.0})
    return {row.what: row for row in found}


@pytest.mark.parametrize(("produce", "kept"), [(2.0, True), (2.1, False)])
def test_producing_is_held_against_naive(produce: float, *, kept: bool) -> None:
    assert rows({"produce": produce})["produce"].within_limits is kept


@pytest.mark.parametrize(("fold", "kept"), [(5.5, True), (5.6, False)])
def test_folding_is_held_against_bulk_though_naive_folds_too(fold: float, *, kept: bool) -> None:
    row = rows({"merge and fold": fold})["merge and fold"]
    assert row.within_limits is kept
    assert {reference.name: reference.limit for reference in row.references} == {"naive": None, "bulk": 0.55}


def test_what_has_no_reference_has_no_verdict() -> None:
    assert rows({"execution": 1.0})["execution"].within_limits is None


def test_memory_is_held_against_a_limit_of_its_own() -> None:
    small, large = memory_rows("peaks", {"a": 600.0, "b": 601.0}, limit=600)
    assert (small.within_limits, large.within_limits) == (True, False)


def test_a_report_is_a_table_for_people_and_json_with_verdicts_for_programs() -> None:
    report = Report(
        machine="here",
        cores=2,
        python="3.11",
        deltas=20,
        rows_per_delta=500,
        dimension=384,
        rows=list(rows({"produce": 1.0, "merge and fold": 20.0}).values()),
    )
    paper = StringIO()
    Console(file=paper, width=110).print(table(report))
    drawn = paper.getvalue()
    assert "produce" in drawn
    assert "0.55 bulk" in drawn
    assert [row["within_limits"] for row in json.loads(report.model_dump_json())["rows"]] == [True, False]


def test_the_second_round_is_half_updates_half_inserts() -> None:
    load = Load(deltas=3, rows=10, dimension=2)
    before = {row_id for records in first_round(load) for row_id in records.ids}
    again = [row_id for records in second_round(load) for row_id in records.ids]
    assert (len(before), len(again)) == (30, 30)
    assert len(before.intersection(again)) == 15
