"""The committed definition itself: valid, complete, and in step with the code it calls."""

from __future__ import annotations

import json
from collections.abc import Callable

import cfnlint  # type: ignore[import-untyped]
import pytest
from statelint.linter import Linter  # type: ignore[import-untyped]

from chromadb_compaction import errors
from chromadb_compaction.messages import (
    CleanedUp,
    DeltaListing,
    DownloadedSnapshot,
    Message,
    PublishedSnapshot,
    ReleasedLock,
)
from chromadb_compaction.settings import MERGES_AT_ONCE
from tests.statemachine.definition import FUNCTIONS, Json, every_state, filled, load, tasks
from tests.statemachine.engines import Engine
from tests.statemachine.script import REQUESTS

RESULTS: dict[str, type[Message]] = {
    "ListDeltas": DeltaListing,
    "DownloadSnapshot": DownloadedSnapshot,
    "UploadSnapshot": PublishedSnapshot,
    "CleanUp": CleanedUp,
    "ReleaseLock": ReleasedLock,
}
TASKS = sorted(tasks(load()))
Breakage = Callable[[Json], object]
BREAKAGES: dict[str, Breakage] = {
    "a Next that leads nowhere": lambda states: states["CleanUp"].update(Next="Nowhere"),
    "a Catch that leads nowhere": lambda states: states["CleanUp"]["Catch"][0].update(Next="Nowhere"),
    "a Default that leads nowhere": lambda states: states["AnyDeltas?"].update(Default="Nowhere"),
    "a state without a way on": lambda states: states["CleanUp"].pop("Next"),
    "a state that nothing leads to": lambda states: states.update(Lonely={"Type": "Succeed"}),
    "a way on from an end": lambda states: states["Done"].update(Next="CleanUp"),
    "an unknown type": lambda states: states["Done"].update(Type="Success"),
    "a misspelt field": lambda states: states["CleanUp"].update(Catches=[]),
    "a misspelt field of a retry": lambda states: states["CleanUp"]["Retry"][0].update(MaxAttempt=3),
    "a retry of nothing": lambda states: states["CleanUp"]["Retry"][0].pop("ErrorEquals"),
    "a shrinking backoff": lambda states: states["CleanUp"]["Retry"][0].update(BackoffRate=0.5),
    "an unknown jitter": lambda states: states["CleanUp"]["Retry"][0].update(JitterStrategy="SOME"),
    "States.ALL before another": lambda states: states["AcquireLock"]["Catch"].reverse(),
    "a result path that is none": lambda states: states["CleanUp"].update(ResultPath="clean_up"),
    "a timeout that is text": lambda states: states["CleanUp"].update(TimeoutSeconds="60"),
    "a Map without its work": lambda states: states["MergeBatches"].pop("ItemProcessor"),
    "a Map that starts nowhere": lambda states: states["MergeBatches"]["ItemProcessor"].update(StartAt="Nowhere"),
}


def problems_by_cloudformation_lint(definition: Json) -> list[str]:
    """Return what cfn-lint, AWS's own linter, has against a definition."""
    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": "arn:aws:iam::000000000000:role/x", "DefinitionString": json.dumps(definition)},
    }
    template = json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Machine": machine}})
    return [match.message for match in cfnlint.lint_all(template) if match.rule.id.startswith("E")]


def test_statelint_finds_nothing() -> None:
    assert Linter.validate(load()) == []


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_statelint_refuses(breakage: str) -> None:
    definition = load()

    BREAKAGES[breakage](definition["States"])

    assert Linter.validate(definition) != []


def test_cloudformation_lint_finds_nothing() -> None:
    assert problems_by_cloudformation_lint(filled(Engine.function_arn)) == []


def test_cloudformation_lint_refuses_a_task_without_a_resource() -> None:
    definition = filled(Engine.function_arn)

    del definition["States"]["CleanUp"]["Resource"]

    assert problems_by_cloudformation_lint(definition) == ["'Resource' is a required property at 'States/CleanUp'"]


def test_every_state_says_what_holds_after_it() -> None:
    assert [name for name, state in every_state(load()) if not state.get("Comment", "").endswith(".")] == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_timeout_and_a_patient_retry_of_what_is_transient(task: str) -> None:
    state = tasks(load())[task]

    assert state["TimeoutSeconds"] > 0
    [retry] = state["Retry"]
    assert retry["ErrorEquals"][-1] == "TransientStorageError"
    assert {"Lambda.ServiceException", "Lambda.TooManyRequestsException"} <= set(retry["ErrorEquals"])
    assert (retry["BackoffRate"], retry["JitterStrategy"]) == (2.0, "FULL")
    assert retry["MaxDelaySeconds"] < 60, "the lease must outlive the pauses between attempts"


def test_every_state_after_the_lease_is_taken_leads_to_its_release_when_it_fails() -> None:
    fallible = {name: state for name, state in load()["States"].items() if state["Type"] in {"Task", "Map"}}
    del fallible["ReleaseLock"]

    last_resorts = {name: state["Catch"][-1] for name, state in fallible.items()}

    assert {name for name, last in last_resorts.items() if last["ErrorEquals"] != ["States.ALL"]} == set()
    assert {last["Next"] for last in last_resorts.values()} == {"ReleaseLock"}


def test_every_error_named_is_one_that_the_code_raises_or_the_service_knows() -> None:
    named = {
        error
        for _, state in every_state(load())
        for rule in [*state.get("Retry", []), *state.get("Catch", [])]
        for error in rule["ErrorEquals"]
    }
    ours = {error for error in named if not error.startswith(("States.", "Lambda."))}

    assert ours == {"LockHeldError", "TransientStorageError"}
    assert all(issubclass(getattr(errors, name), errors.CompactionError) for name in ours)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_sent_exactly_the_fields_of_its_request(task: str) -> None:
    payload = tasks(load())[task]["Parameters"]["Payload"]
    fields = {name.removesuffix(".$") for name in payload}

    assert fields - {"task"} == _fields(REQUESTS[task])
    assert payload.get("task", task) == task


@pytest.mark.parametrize("task", sorted(RESULTS))
def test_a_tasks_result_is_kept_whole_and_without_lambdas_envelope(task: str) -> None:
    selector = tasks(load())[task]["ResultSelector"]

    assert selector == {f"{name}.$": f"$.Payload.{name}" for name in _fields(RESULTS[task])}


def test_acquiring_discards_the_input_and_starts_counting_passes() -> None:
    acquire = load()["States"]["AcquireLock"]

    assert acquire["ResultPath"] == "$"
    assert acquire["ResultSelector"] == {"lease.$": "$.Payload", "work": {"pass": 0}}


def test_the_placeholders_are_the_functions_that_the_program_fills_in() -> None:
    named = {state["Parameters"]["FunctionName"] for state in tasks(load()).values()}

    assert named == {f"${{{name}FunctionArn}}" for name in FUNCTIONS}


def _fields(model: type[Message]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_a_passs_bytes_are_spread_over_as_many_merges_as_run_at_once() -> None:
    assert load()["States"]["MergeBatches"]["MaxConcurrency"] == MERGES_AT_ONCE
