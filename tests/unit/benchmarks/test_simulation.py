"""The simulation of large collections keeps every record, and follows the plans of the real passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.on_lambda import on_lambda, span
from benchmarks.simulation import Order, Rates, Simulation, largest
from chromadb_compaction.fold.collections import FOLD_SHARE

RATES = Rates(
    delta_bytes=1650, run_bytes=1700, record_bytes=3400, memory_bytes=2400, merge=1e-4, clean_up=1e-3, fixed=1.0
)


@pytest.mark.parametrize("order", ["ascending", "random"])
def test_every_record_that_is_written_is_in_one_directory(order: Order) -> None:
    collection = Simulation(RATES, on_lambda())

    done = collection.write(700_000, 2000, order)

    assert collection.records == pytest.approx(700_000)
    assert 700_000 / 200_000 < collection.directories < 700_000 / 50_000
    assert done.passes > 1


def test_a_small_pass_changes_the_directories_in_whose_range_its_ids_are() -> None:
    ascending = Simulation(RATES, on_lambda(), records=10_000_000).write(1000, 1000, "ascending")
    random = Simulation(RATES, on_lambda(), records=10_000_000).write(1000, 1000, "random")

    assert (ascending.folds, ascending.functions) == (1, 0)
    assert (random.folds, random.passes) == (80, 1)
    assert random.written > 79 * ascending.written


def test_a_pass_into_the_largest_collection_is_in_time_and_into_a_larger_one_is_not() -> None:
    slow = on_lambda()._replace(seconds=60)
    most = largest(RATES, slow, 1000)

    assert Simulation(RATES, slow, records=most).write(1000, 1000, "random").longest <= FOLD_SHARE * 60
    assert Simulation(RATES, slow, records=2 * most).write(1000, 1000, "random").longest > FOLD_SHARE * 60


@given(st.lists(st.floats(0.1, 100), min_size=1), st.integers(1, 10))
def test_what_runs_at_once_takes_no_less_than_its_share_and_its_longest(seconds: list[float], at_once: int) -> None:
    least = max(*seconds, sum(seconds) / at_once) if len(seconds) > 1 else seconds[0]

    assert least - 1e-6 <= span(seconds, at_once) <= least + max(seconds)
