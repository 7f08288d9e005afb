"""The simulation of a day with deferral, by the real rule."""

from __future__ import annotations

from benchmarks.deferral import GIGABYTE, MINUTE, Trickle, simulate


def test_without_deferral_every_delta_is_a_fold() -> None:
    found = simulate(Trickle())

    assert (found.folds, found.oldest, found.most_rows) == (96, 0, 100)
    assert round(found.bytes / GIGABYTE, 1) == 101.4


def test_deferral_writes_a_fiftieth_and_keeps_the_age_and_the_bounds_of_fresh_reads() -> None:
    found = simulate(Trickle(), compaction_min_rows=5000, compaction_max_age_minutes=24 * 60)

    assert found.folds == 2
    assert found.oldest <= 24 * 60 * MINUTE
    assert found.most_rows <= 5000
