"""Thousands of bad deltas: each is merged, ignored or quarantined with a reason, and good deltas are still merged."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz.defects import DEFECTS
from tests.fuzz.inputs import KINDS, NAMED, fuzzed
from tests.fuzz.runner import CaseFailedError, CaseResult, run_case, table

OUTCOMES = {"merged", "ignored", "quarantined"}
BOMBS = {kind for kind in KINDS if kind.endswith("bombs")}
AT_ONCE = 440
MANY = 20_000
SOME = {"parquet bombs": 230, "json bombs": 120, "json rows": 900, NAMED: 700}
"""The range of numbers from which the deltas of a kind are taken."""
FAILURES = {
    "no_check_of_sizes": ("parquet bombs", r"the process grew by \d+ bytes|a bomb, was merged|MemoryError|malloc"),
    "no_limit_on_gzip": ("json bombs", "a bomb, was merged"),
    "no_check_of_ids": ("json rows", "ended with status 1"),
    "no_check_of_collections": (NAMED, "ended with status 1|differs from the model"),
    "no_limit_on_keys": (NAMED, "is in no known location|ended with status 1"),
}


def print_result(result: CaseResult, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{table(result.outcomes)}\nThe process grew by {result.grown / 2**20:.0f} MiB.\n")


@pytest.mark.parametrize("first", range(0, 3 * AT_ONCE, AT_ONCE))
def test_every_bad_delta_has_an_outcome_and_the_good_ones_are_merged(
    first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run_case(range(first, first + AT_ONCE))

    print_result(result, capsys)
    assert len(result.outcomes) == AT_ONCE
    assert {each.status for each in result.outcomes} == OUTCOMES
    assert {each.kind for each in result.outcomes} == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 10_000 + MANY, 2_000))
def test_no_delta_of_a_long_campaign_does_damage(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    results = [run_case(range(start, start + 500)) for start in range(first, first + 2_000, 500)]

    outcomes = [each for result in results for each in result.outcomes]
    print_result(CaseResult(outcomes, max(result.grown for result in results)), capsys)
    assert len(outcomes) == 2_000


def test_the_same_number_is_the_same_delta() -> None:
    numbers = [number for number in range(60) if KINDS[number % len(KINDS)] not in BOMBS]

    assert [fuzzed(number) for number in numbers] == [fuzzed(number) for number in numbers]


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_the_suite_fails_when_a_check_is_removed(defect: str) -> None:
    kind, message = FAILURES[defect]
    numbers = [number for number in range(SOME[kind]) if KINDS[number % len(KINDS)] == kind]

    with pytest.raises(CaseFailedError, match=message):
        run_case(numbers, defect=defect)
