"""The limits of Step Functions, 256 KiB of state and 25,000 history events, hold for the largest settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chromadb_compaction.fold.distribution import MOST_ITEMS
from chromadb_compaction.settings import Settings
from tests.statemachine.conftest import RunMachine
from tests.statemachine.definition import load
from tests.statemachine.fake_functions import FakeFunctions
from tests.statemachine.sizes import (
    COLLECTION,
    HISTORY_LIMIT,
    STATE_LIMIT,
    TYPICAL_COLLECTION,
    a_full_state,
    fold_item,
    most_events_of_folds,
    most_history_events,
)
from tests.statemachine.task_results import a_listing


def largest(setting: str) -> int:
    """Return the largest value that a setting accepts."""
    bounds: list[Any] = Settings.model_fields[setting].metadata
    return int(next(bound.le for bound in bounds if hasattr(bound, "le")))


def size(state: object) -> int:
    """Return the size of a state in bytes, as Step Functions counts it."""
    return len(json.dumps(state, ensure_ascii=False).encode())


def test_the_largest_state_that_the_settings_allow_fits() -> None:
    state = a_full_state(batches=largest("max_batches_per_pass"), passes=largest("max_passes"))

    assert size(state) < STATE_LIMIT


def test_the_usual_state_of_a_full_pass_is_small() -> None:
    assert size(a_full_state(batches=40, passes=25, collection=TYPICAL_COLLECTION, failed=False)) < STATE_LIMIT / 4


def test_the_longest_history_that_the_settings_allow_fits_even_if_every_task_is_retried() -> None:
    batches, passes = largest("max_batches_per_pass"), largest("max_passes")

    assert most_history_events(load(), batches=batches, passes=passes) < HISTORY_LIMIT


def test_a_pass_of_which_other_functions_do_a_part_has_at_most_the_events_of_two() -> None:
    batches = largest("max_batches_per_pass")
    one, two = (most_history_events(load(), batches=batches, passes=passes) for passes in (1, 2))

    assert most_events_of_folds(load(), items=MOST_ITEMS) <= two - one


def test_the_plan_of_the_folds_is_no_larger_than_the_result_that_replaces_it() -> None:
    state = a_full_state(batches=largest("max_batches_per_pass"), passes=largest("max_passes"))
    items = [fold_item(number, 25, COLLECTION).model_dump(mode="json") for number in range(MOST_ITEMS)]
    planned = {**state["snapshot"], "collections": [], "folds": items, "folds_left": MOST_ITEMS}

    assert size(state | {"snapshot": planned}) < STATE_LIMIT


@pytest.mark.parametrize(("batches", "passes"), [(1, 1), (40, 2)])
def test_an_execution_writes_fewer_events_than_calculated(
    batches: int, passes: int, run: RunMachine, functions: FakeFunctions
) -> None:
    listings = [a_listing(number, batches=batches, more=number < passes) for number in range(1, passes + 1)]
    functions.set_behaviours("ListDeltas", *listings)

    finished = run()

    assert finished.status == "SUCCEEDED", finished.cause
    assert len(finished.history) < most_history_events(load(), batches=batches, passes=passes)
