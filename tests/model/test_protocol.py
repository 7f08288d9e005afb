"""An exhaustive search of the protocol within bounds, without and with deliberate mistakes."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.model.protocol import Defects, Rules
from tests.model.scenarios import (
    FIRST,
    FRESH,
    READER,
    SECOND,
    InitialState,
    a_bucket,
    a_bucket_to_roll_back,
    an_empty_bucket,
    operator,
    producer,
    with_deferral,
    with_folds_elsewhere,
)
from tests.model.search import PROGRAMS, Violation, explore
from tests.reliability_report import Count

PART = "the protocol's model"
BOUNDS: dict[str, InitialState] = {
    "two executions, one fault": a_bucket(FIRST, SECOND, producer(2), faults=1),
    "two executions on an empty bucket, one fault": an_empty_bucket(FIRST, SECOND, producer(2), pending=(1,), faults=1),
    "two executions with a bad delta, one fault": a_bucket(FIRST, SECOND, pending=(3, 4), faults=1),
    "an execution and a rollback, two faults": a_bucket(FIRST, operator(), faults=2),
    "a rollback that nobody repeats, two faults": a_bucket_to_roll_back(operator(gives_up=True), faults=2),
    "an execution, a reader and a late delta, one fault": a_bucket(FIRST, READER, producer(2, 0), faults=1),
    "two executions, a reader and a late delta": a_bucket(FIRST, SECOND, READER, producer(2, 0)),
    "two executions, a rollback and a delta, one fault": a_bucket(FIRST, SECOND, operator(), producer(2), faults=1),
    "an execution, a fresh reader and a late delta": a_bucket(FIRST, FRESH, producer(2, 0)),
    "an execution and a fresh reader, one fault": a_bucket(FIRST, FRESH, faults=1),
    "an execution, a rollback and a fresh reader": a_bucket(FIRST, operator(), FRESH, producer(2)),
    "a rollback and a fresh reader, one fault": a_bucket_to_roll_back(operator(), FRESH, faults=1),
    "two executions whose folds others do, one fault": with_folds_elsewhere(
        a_bucket(FIRST, SECOND, pending=(2, 3), faults=1)
    ),
    "an execution whose folds others do, and a rollback, one fault": with_folds_elsewhere(
        a_bucket(FIRST, operator(), pending=(2, 3), faults=1)
    ),
    "two executions, a late delta and collections that wait": with_deferral(
        a_bucket(FIRST, SECOND, producer(0), pending=(2, 3))
    ),
    "an execution, a fresh reader and collections that wait, one fault": with_deferral(
        a_bucket(FIRST, FRESH, pending=(2, 3), faults=1)
    ),
    "all actors": a_bucket(FIRST, SECOND, READER, operator(), producer(2)),
}
LARGE_BOUNDS: dict[str, InitialState] = {
    "an execution whose folds others do, two faults": with_folds_elsewhere(a_bucket(FIRST, pending=(2, 3), faults=2)),
    "an execution, a fresh reader and a late delta, one fault": a_bucket(FIRST, FRESH, producer(2, 0), faults=1),
    "an execution, a rollback and a fresh reader, one fault": a_bucket(FIRST, operator(), FRESH, faults=1),
    "two executions, two faults": a_bucket(FIRST, SECOND, faults=2),
    "two executions and a reader, one fault": a_bucket(FIRST, SECOND, READER, producer(2), faults=1),
    "an execution, a reader and a rollback, two faults": a_bucket(FIRST, READER, operator(), faults=2),
}
DEFECTS: dict[str, tuple[str, InitialState]] = {
    "acquire_without_condition": ("8.", a_bucket(FIRST, SECOND)),
    "bad_delta_merged_in_part": ("3.", a_bucket(FIRST, pending=(3, 4))),
    "clean_up_without_second_pointer_check": ("1.", a_bucket(FIRST, operator(), faults=1)),
    "clean_up_without_pointer_check": ("1.", a_bucket(FIRST, operator(), faults=1)),
    "deferred_deltas_archived": ("1.", with_deferral(a_bucket(FIRST, pending=(2, 3)))),
    "delete_before_swap": ("1.", a_bucket(FIRST)),
    "errors_keep_the_lock": ("8.", a_bucket(FIRST, SECOND, faults=1)),
    "fresh_deletes_hide_nothing": ("9.", a_bucket(FRESH, producer(2), pending=())),
    "fresh_late_rows_win": ("9.", a_bucket(FRESH, pending=(0,))),
    "fresh_missing_delta_is_empty": ("9.", a_bucket(FIRST, FRESH)),
    "fresh_pointer_before_list": ("9.", a_bucket(FIRST, FRESH)),
    "fresh_pointer_not_compared": ("9.", a_bucket_to_roll_back(operator(), FRESH)),
    "manifest_after_swap": ("4.", a_bucket(FIRST)),
    "no_status_change_rule": ("8.", a_bucket(FIRST, faults=1)),
    "no_tombstones": ("2.", a_bucket(FIRST, SECOND, producer(2, 0))),
    "part_of_another_attempt_taken": ("4.", with_folds_elsewhere(a_bucket(FIRST, pending=(2, 3), faults=1))),
    "prune_by_age_alone": ("4.", a_bucket(FIRST)),
    "prune_without_mark": ("4.", a_bucket(FIRST, operator(), faults=1)),
    "quarantine_without_copy": ("1.", a_bucket(FIRST, pending=(3, 4))),
    "release_without_owner": ("8.", a_bucket(FIRST, SECOND, faults=1)),
    "renew_without_owner": ("8.", a_bucket(FIRST, SECOND, faults=1)),
    "rollback_keeps_sequence": ("4.", a_bucket_to_roll_back(operator(), READER)),
    "rollback_swaps_first": ("1.", a_bucket_to_roll_back(operator(gives_up=True), faults=1)),
    "swap_without_if_match": ("5.", a_bucket(FIRST, SECOND, producer(2), faults=1)),
    "swap_without_read_back": ("6.", a_bucket(FIRST, faults=1)),
    "unchanged_pass_keeps_deltas": ("7.", a_bucket(FIRST, producer(0), pending=(2,))),
}


def explored(start: InitialState, count: Count, defects: Defects | None = None) -> Violation | None:
    rules = Rules(defects)
    found = explore(rules, start(rules))
    count(PART, "states", found.states)
    count(PART, "steps", found.steps)
    return found.violation


@pytest.mark.parametrize("name", BOUNDS)
def test_every_invariant_holds_in_every_state(name: str, count: Count) -> None:
    broken = explored(BOUNDS[name], count)
    assert broken is None, str(broken)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_BOUNDS)
def test_every_invariant_holds_in_every_state_of_larger_bounds(name: str, count: Count) -> None:
    broken = explored(LARGE_BOUNDS[name], count)
    assert broken is None, str(broken)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_deliberate_mistake_is_found_with_a_trace_in_words(defect: str) -> None:
    invariant, start = DEFECTS[defect]
    rules = Rules(Defects(**{defect: True}))
    found = explore(rules, start(rules)).violation
    assert found is not None
    assert found.invariant.startswith(invariant), str(found)
    assert str(found).endswith(found.trace[-1])


def test_every_mistake_has_a_test() -> None:
    assert set(DEFECTS) == set(Defects._fields)


STEPS = sorted({step.models for program in PROGRAMS.values() for step in program.steps.values()})


@pytest.mark.parametrize("name", STEPS)
def test_every_step_models_a_function_of_the_product(name: str) -> None:
    module, _, function = name.rpartition(".")
    if module == "client.writer.DeltaWriter":
        assert callable(getattr(import_module("chromadb_compaction.client.writer").DeltaWriter, function))
    else:
        assert callable(getattr(import_module(f"chromadb_compaction.{module}"), function))
