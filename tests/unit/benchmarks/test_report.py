"""The benchmark's report: its limits and its output. The measurements themselves are not tested."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.report import Reference, Report, Row, cells, memory_rows, round_rows, table
from benchmarks.workload import Load, first_round, second_round


def rows(seconds: dict[str, float]) -> dict[str, Row]:
    found = round_rows("a round", [seconds], {"produce": 10.0, "merge and fold": 100.0}, {"merge and fold": 10.0})
    return {row.what: row for row in found}


@pytest.mark.parametrize(("produce", "kept"), [(2.0, True), (2.1, False)])
def test_the_limit_of_produce_is_a_share_of_naive(produce: float, *, kept: bool) -> None:
    assert rows({"produce": produce})["produce"].within_limits is kept


@pytest.mark.parametrize(("fold", "kept"), [(5.5, True), (5.6, False)])
def test_the_limit_of_folding_is_a_share_of_bulk_though_naive_folds_too(fold: float, *, kept: bool) -> None:
    row = rows({"merge and fold": fold})["merge and fold"]
    assert row.within_limits is kept
    assert {reference.name: reference.limit for reference in row.references} == {"naive": None, "bulk": 0.55}


def test_a_row_without_a_limit_is_neither_within_nor_over_it() -> None:
    assert rows({"execution": 1.0})["execution"].within_limits is None


def test_a_row_of_memory_has_its_own_limit() -> None:
    small, large = memory_rows("peaks", {"a": 600.0, "b": 601.0}, limit=600)
    assert (small.within_limits, large.within_limits) == (True, False)


def test_a_count_beside_none_of_the_reference_has_no_ratio() -> None:
    row = Row(part="missed", what="ip", value=2, unit="records", references=[Reference(name="api", value=0)], limit=15)
    assert cells(row) == ["2 records", "", "", "", "0 records", "", "", "15 records"]


def test_the_ratio_of_repeated_pairs_is_the_median_of_their_ratios() -> None:
    reference = Reference(name="api", value=4, limit=0.5, repeated=[2, 4, 100])
    row = Row(part="fold", what="seconds", value=2, unit="s", references=[reference], repeated=[1, 2, 90])
    assert cells(row) == ["2.00 s", "1.00 - 90.00", "", "", "4.00 s", "", "0.50", "0.5 api"]
    assert row.within_limits is True


def test_one_slow_pair_does_not_break_a_limit_and_most_pairs_do() -> None:
    def within(ours: list[float]) -> bool | None:
        reference = Reference(name="api", value=4, limit=0.5, repeated=[4, 4, 4])
        return Row(part="", what="", value=2, unit="s", references=[reference], repeated=ours).within_limits

    assert (within([2, 2, 9]), within([2, 9, 9])) == (True, False)


def test_a_report_prints_as_a_table_and_as_json() -> None:
    report = Report(
        machine="here",
        cores=2,
        python="3.11",
        deltas=20,
        rows_per_delta=500,
        dimension=384,
        rows=list(rows({"produce": 1.0, "merge and fold": 20.0}).values()),
    )
    output = StringIO()
    Console(file=output, width=150).print(table(report))
    printed = output.getvalue()
    assert "produce" in printed
    assert "0.55 bulk" in printed
    assert [row["within_limits"] for row in json.loads(report.model_dump_json())["rows"]] == [True, False]


def test_half_of_the_second_round_updates_records_of_the_first() -> None:
    load = Load(deltas=3, rows=10, dimension=2)
    before = {row_id for records in first_round(load) for row_id in records.ids}
    again = [row_id for records in second_round(load) for row_id in records.ids]
    assert (len(before), len(again)) == (30, 30)
    assert len(before.intersection(again)) == 15
