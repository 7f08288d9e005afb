"""Step Functions' two limits, 256 KiB of state and 25,000 events of history, against the settings' largest values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chromadb_compaction.settings import Settings
from tests.statemachine.answers import a_listing
from tests.statemachine.conftest import RunMachine
from tests.statemachine.definition import load
from tests.statemachine.script import Script
from tests.statemachine.sizes import (
    HISTORY_LIMIT,
    STATE_LIMIT,
    TYPICAL_COLLECTION,
    a_full_state,
    most_history_events,
)


def largest(setting: str) -> int:
    """Return the largest value that a setting accepts."""
    bounds: list[Any] = Settings.model_fields[setting].metadata
    return int(next(bound.le for bound in bounds if hasattr(bound, "le")))


def size(state: object) -> int:
    """Return a state's bytes, as Step Functions counts them."""
    return len(json.dumps(state, ensure_ascii=False).encode())


def test_the_largest_state_that_the_settings_allow_fits_step_functions() -> None:
    state = a_full_state(batches=largest("max_batches_per_pass"), passes=largest("max_passes"))

    assert size(state) < STATE_LIMIT


def test_a_usual_state_of_a_full_pass_is_small() -> None:
    assert size(a_full_state(batches=40, passes=25, collection=TYPICAL_COLLECTION, failed=False)) < STATE_LIMIT / 4


def test_the_longest_execution_that_the_settings_allow_fits_the_history_whatever_is_retried() -> None:
    batches, passes = largest("max_batches_per_pass"), largest("max_passes")

    assert most_history_events(load(), batches=batches, passes=passes) < HISTORY_LIMIT


@pytest.mark.parametrize(("batches", "passes"), [(1, 1), (40, 2)])
def test_no_execution_writes_more_history_than_is_reckoned(
    batches: int, passes: int, run: RunMachine, script: Script
) -> None:
    listings = [a_listing(number, batches=batches, more=number < passes) for number in range(1, passes + 1)]
    script.tell("ListDeltas", *listings)

    finished = run()

    assert finished.status == "SUCCEEDED", finished.cause
    assert len(finished.history) < most_history_events(load(), batches=batches, passes=passes)
