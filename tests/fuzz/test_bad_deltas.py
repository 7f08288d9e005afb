"""Bad deltas by the thousand: each is merged, ignored or refused with its reason, and none stops those beside it."""

from __future__ import annotations

import sys

import pytest

from tests.fuzz.defects import DEFECTS
from tests.fuzz.inputs import KINDS, NAMED, fuzzed
from tests.fuzz.trial import Outcome, TrialError, put_to, table

FATES = {"merged", "ignored", "quarantined"}
BOMBS = {kind for kind in KINDS if kind.endswith("bombs")}
AT_ONCE = 440
MANY = 20_000
SOME = {"parquet bombs": 230, "json bombs": 120, "json rows": 900, NAMED: 700}
"""How many numbers there are to choose a kind's from."""
NOTICED_BY = {
    "no_look_at_sizes": ("parquet bombs", r"the process grew by \d+ bytes|a bomb, was merged|MemoryError|malloc"),
    "no_limit_on_gzip": ("json bombs", "a bomb, was merged"),
    "no_check_of_ids": ("json rows", "ended with status 1"),
    "no_check_of_collections": (NAMED, "ended with status 1|differs from the model"),
    "no_room_for_long_keys": (NAMED, "is in no place|ended with status 1"),
}


def told(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{table(outcome.fates)}\nThe process grew by {outcome.grown / 2**20:.0f} MiB.\n")


@pytest.mark.parametrize("first", range(0, 3 * AT_ONCE, AT_ONCE))
def test_bad_deltas_end_accounted_for_and_the_good_ones_beside_them_are_merged(
    first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = put_to(range(first, first + AT_ONCE))

    told(outcome, capsys)
    assert len(outcome.fates) == AT_ONCE
    assert {each.fate for each in outcome.fates} == FATES
    assert {each.kind for each in outcome.fates} == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10_000, 10_000 + MANY, 2_000))
def test_a_long_campaign_finds_no_delta_that_does_harm(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [put_to(range(start, start + 500)) for start in range(first, first + 2_000, 500)]

    fates = [each for outcome in outcomes for each in outcome.fates]
    told(Outcome(fates, max(outcome.grown for outcome in outcomes)), capsys)
    assert len(fates) == 2_000


def test_the_same_number_is_the_same_delta() -> None:
    numbers = [number for number in range(60) if KINDS[number % len(KINDS)] not in BOMBS]

    assert [fuzzed(number) for number in numbers] == [fuzzed(number) for number in numbers]


@pytest.mark.parametrize("defect", sorted(DEFECTS))
def test_the_absence_of_a_check_is_noticed(defect: str) -> None:
    kind, words = NOTICED_BY[defect]
    numbers = [number for number in range(SOME[kind]) if KINDS[number % len(KINDS)] == kind]

    with pytest.raises(TrialError, match=words):
        put_to(numbers, defect=defect)
