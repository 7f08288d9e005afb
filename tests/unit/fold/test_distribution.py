"""The plan of a pass's folds: every fold once, within the limits, and nothing changes for a small pass."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromadb_compaction.fold.cost import (
    BASE_BYTES_A_SECOND,
    FOLD_SECONDS,
    SOON_SECONDS,
    FoldCost,
    FoldLimits,
    FoldLoad,
    limits_of,
)
from chromadb_compaction.fold.distribution import MOST_ITEMS, plan_folds, rounds
from chromadb_compaction.fold.units import FoldUnit
from tests.fakes.services import START, new_fakes

GIGABYTE = 10**9

costs_of_passes = st.lists(
    st.builds(
        FoldCost,
        st.integers(0, 10**6).map(lambda number: FoldUnit(f"c{number // 9}", "x" * (number % 9))),
        st.integers(0, 30 * GIGABYTE),
        st.integers(0, GIGABYTE),
        st.integers(0, GIGABYTE),
    ),
    unique_by=lambda cost: cost.unit,
    max_size=120,
)
limits = st.builds(FoldLimits, st.floats(1, 900), st.integers(1, 20 * GIGABYTE).map(float), st.floats(1, 900))


def a_cost(name: str, *, gigabytes: float = 0) -> FoldCost:
    return FoldCost(FoldUnit(name), int(gigabytes * GIGABYTE), 0)


@given(costs_of_passes, limits)
def test_every_fold_is_planned_once(costs: list[FoldCost], most: FoldLimits) -> None:
    plan = plan_folds(costs, most)

    planned = [*plan.here, *(unit for item in plan.items for unit in item), *plan.left]
    assert Counter(planned) == Counter(cost.unit for cost in costs)
    assert all(plan.items)


@given(costs_of_passes, limits)
def test_a_function_gets_what_its_limits_hold_or_one_fold(costs: list[FoldCost], most: FoldLimits) -> None:
    cost_of = {cost.unit: cost for cost in costs}
    plan = plan_folds(costs, most)

    items = [[cost_of[unit] for unit in item] for item in plan.items]
    assert all(len(item) == 1 or most.hold_in_rounds(FoldLoad.of(item)) for item in items)
    assert len(items) == MOST_ITEMS or all(len(item) == 1 or most.hold(FoldLoad.of(item)) for item in items)
    assert len(plan.items) <= MOST_ITEMS
    assert not plan.left or len(plan.items) + len(plan.here) > 0
    if plan.items:
        assert most.halved().hold(FoldLoad.of(cost_of[unit] for unit in plan.here))


@given(costs_of_passes, limits)
def test_a_pass_that_one_function_can_fold_is_not_divided(costs: list[FoldCost], most: FoldLimits) -> None:
    plan = plan_folds(costs, most)

    assert bool(plan.items) is (len(costs) > 1 and not most.hold(FoldLoad.of(costs)))
    if not plan.items:
        assert plan.here == tuple(cost.unit for cost in costs)


def test_a_single_fold_that_takes_too_long_stays_where_it_is() -> None:
    assert plan_folds([a_cost("large", gigabytes=100)], FoldLimits(1, 1)).items == ()


def test_the_largest_folds_go_to_other_functions() -> None:
    costs = [a_cost("small"), a_cost("large", gigabytes=8), a_cost("larger", gigabytes=9)]

    plan = plan_folds(costs, FoldLimits(seconds=300, disk=10**12))

    assert plan.here == (FoldUnit("small"),)
    assert plan.items == ((FoldUnit("larger"),), (FoldUnit("large"),))


def test_a_function_does_more_than_its_disk_holds_only_if_no_other_is_left() -> None:
    limits = FoldLimits(seconds=420, disk=5 * GIGABYTE)
    few, many = ([a_cost(f"{number:03d}", gigabytes=0.5) for number in range(count)] for count in (80, 800))

    assert all(
        limits.hold(FoldLoad.of(a_cost(unit.collection, gigabytes=0.5) for unit in item))
        for item in plan_folds(few, limits).items
    )
    plan = plan_folds(many, limits)
    assert plan.left == ()
    assert {len(item) for item in plan.items} <= {19, 20}


@given(
    st.dictionaries(st.integers(0, 99).map(lambda n: FoldUnit(f"c{n % 3}", str(n))), st.integers(0, 9)),
    st.integers(0, 20),
)
def test_a_round_holds_what_the_disk_does_or_one_fold(disk: dict[FoldUnit, int], most: int) -> None:
    found = rounds(disk, FoldLimits(1, most))

    assert [unit for each in found for unit in each] == sorted(disk, key=lambda unit: unit[:2])
    assert all(len(each) == 1 or sum(disk[unit] for unit in each) <= most for each in found)
    assert all(sum(disk[unit] for unit in (*one, other[0])) > most for one, other in pairwise(found))
    assert rounds(disk, None) == ([[unit for each in found for unit in each]] if disk else [])


@given(st.integers(0, 10**9), st.integers(1, 10**8), st.integers(1, 5), st.integers(10**5, 10**8))
def test_a_fold_takes_longer_with_more_bytes_and_less_time_with_more_threads(
    base: int, run: int, threads: int, more: int
) -> None:
    seconds = FoldCost(FoldUnit("docs"), base, run).seconds_on(threads)

    assert FoldCost(FoldUnit("docs"), base + more, run).seconds_on(threads) > seconds
    assert FoldCost(FoldUnit("docs"), base, run + more).seconds_on(threads) > seconds
    # Bytes of a run are also indexed, those of the base only moved.
    assert FoldCost(FoldUnit("docs"), base, run + more).seconds_on(threads) > FoldCost(
        FoldUnit("docs"), base + more, run
    ).seconds_on(threads)
    assert seconds / (threads + 1) < FoldCost(FoldUnit("docs"), base, run).seconds_on(threads + 1) < seconds


@pytest.mark.parametrize(
    ("base", "run", "measured"),
    [
        pytest.param(0, 3_255_508, 0.44, id="2,000 records of 384 dimensions"),
        pytest.param(0, 16_268_975, 2.5, id="10,000"),
        pytest.param(0, 81_340_000, 24.7, id="50,000"),
        pytest.param(0, 30_020_000, 12.0, id="50,000 of 128 dimensions"),
        pytest.param(0, 62_390_000, 9.8, id="10,000 of 1,536 dimensions"),
        pytest.param(167_730_000, 1_630_000, 1.4, id="1,000 onto 50,000"),
        pytest.param(167_730_000, 8_140_000, 4.1, id="5,000 onto 50,000"),
    ],
)
def test_the_estimate_is_near_what_a_fold_on_one_thread_took(base: int, run: int, measured: float) -> None:
    estimated = FoldCost(FoldUnit("docs"), base, run).seconds_on(1)
    transfers = FOLD_SECONDS + base / BASE_BYTES_A_SECOND

    assert measured / 2 < estimated < 2 * (measured + transfers)


def test_the_threads_of_the_estimate_are_those_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = FoldCost(FoldUnit("docs"), 0, 10**8)
    monkeypatch.setattr("chromadb_compaction.fold.cost.index_threads", lambda: 6)

    assert cost.seconds == cost.seconds_on(6) < cost.seconds_on(2)


def test_a_function_without_a_timeout_folds_everything_itself() -> None:
    fakes = new_fakes()

    assert limits_of(fakes.services) is None
    assert plan_folds([a_cost(name, gigabytes=100) for name in "ab"], None).items == ()


def test_the_limits_are_half_of_the_time_that_is_left() -> None:
    fakes = new_fakes()

    found = limits_of(fakes.services_until(START + 840))

    assert found is not None
    assert found.seconds == 420
    assert found.soon == SOON_SECONDS
    assert found.disk > 0


@given(costs_of_passes, limits)
def test_the_folds_of_a_collection_are_all_planned_or_all_left(costs: list[FoldCost], most: FoldLimits) -> None:
    plan = plan_folds(costs, most)

    planned = {unit.collection for units in (plan.here, *plan.items) for unit in units}
    assert planned.isdisjoint(unit.collection for unit in plan.left)


def test_a_collection_that_needs_more_functions_than_there_are_is_not_left_for_ever() -> None:
    costs = [FoldCost(FoldUnit("huge", f"{number:02d}"), 8 * GIGABYTE, 0) for number in range(2 * MOST_ITEMS + 1)]

    plan = plan_folds([*costs, a_cost("large", gigabytes=8)], FoldLimits(seconds=300, disk=10**12))

    assert sorted(unit for item in plan.items for unit in item) == sorted(cost.unit for cost in costs)
    assert plan.left == (FoldUnit("large"),)
