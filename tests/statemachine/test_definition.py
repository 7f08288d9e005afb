"""The committed definition: it is valid, complete and consistent with the code that it calls."""

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
from chromadb_compaction.settings import MERGES_AT_ONCE, Settings
from tests.statemachine.definition import FUNCTIONS, Json, every_state, filled, load, tasks
from tests.statemachine.engines import Engine
from tests.statemachine.fake_functions import REQUESTS

RESULTS: dict[str, type[Message]] = {
    "ListDeltas": DeltaListing,
    "DownloadSnapshot": DownloadedSnapshot,
    "UploadSnapshot": PublishedSnapshot,
    "CleanUp": CleanedUp,
    "ReleaseLock": ReleasedLock,
}
TASKS = sorted(tasks(load()))
LEASE_SECONDS = 60 * Settings.model_fields["lock_timeout_minutes"].default
Defect = Callable[[Json], object]
DEFECTS: dict[str, Defect] = {
    "a Next to an unknown state": lambda states: states["CleanUp"].update(Next="Nowhere"),
    "a Catch to an unknown state": lambda states: states["CleanUp"]["Catch"][0].update(Next="Nowhere"),
    "a Default to an unknown state": lambda states: states["AnyDeltas?"].update(Default="Nowhere"),
    "a state without Next or End": lambda states: states["CleanUp"].pop("Next"),
    "an unreachable state": lambda states: states.update(Lonely={"Type": "Succeed"}),
    "a Next in a Succeed state": lambda states: states["Done"].update(Next="CleanUp"),
    "an unknown type": lambda states: states["Done"].update(Type="Success"),
    "a misspelt field": lambda states: states["CleanUp"].update(Catches=[]),
    "a misspelt field of a retry": lambda states: states["CleanUp"]["Retry"][0].update(MaxAttempt=3),
    "a retry without errors": lambda states: states["CleanUp"]["Retry"][0].pop("ErrorEquals"),
    "a shrinking backoff": lambda states: states["CleanUp"]["Retry"][0].update(BackoffRate=0.5),
    "an unknown jitter": lambda states: states["CleanUp"]["Retry"][0].update(JitterStrategy="SOME"),
    "States.ALL before another": lambda states: states["AcquireLock"]["Catch"].reverse(),
    "an invalid result path": lambda states: states["CleanUp"].update(ResultPath="clean_up"),
    "a timeout that is text": lambda states: states["CleanUp"].update(TimeoutSeconds="60"),
    "a Map without an ItemProcessor": lambda states: states["MergeBatches"].pop("ItemProcessor"),
    "a Map with an unknown first state": lambda states: states["MergeBatches"]["ItemProcessor"].update(
        StartAt="Nowhere"
    ),
}


def cfn_lint_errors(definition: Json) -> list[str]:
    """Return the errors that cfn-lint, AWS's linter, finds in a definition."""
    machine = {
        "Type": "AWS::StepFunctions::StateMachine",
        "Properties": {"RoleArn": "arn:aws:iam::000000000000:role/x", "DefinitionString": json.dumps(definition)},
    }
    template = json.dumps({"AWSTemplateFormatVersion": "2010-09-09", "Resources": {"Machine": machine}})
    return [match.message for match in cfnlint.lint_all(template) if match.rule.id.startswith("E")]


def test_statelint_accepts_the_definition() -> None:
    assert Linter.validate(load()) == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_statelint_finds_a_defect(defect: str) -> None:
    definition = load()

    DEFECTS[defect](definition["States"])

    assert Linter.validate(definition) != []


def test_cfn_lint_accepts_the_definition() -> None:
    assert cfn_lint_errors(filled(Engine.function_arn)) == []


def test_cfn_lint_finds_a_task_without_a_resource() -> None:
    definition = filled(Engine.function_arn)

    del definition["States"]["CleanUp"]["Resource"]

    assert cfn_lint_errors(definition) == ["'Resource' is a required property at 'States/CleanUp'"]


def test_every_state_has_a_comment() -> None:
    assert [name for name, state in every_state(load()) if not state.get("Comment", "").endswith(".")] == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_timeout_and_retries_transient_errors(task: str) -> None:
    state = tasks(load())[task]

    assert state["TimeoutSeconds"] > 0
    [retry] = state["Retry"]
    assert retry["ErrorEquals"][-1] == "TransientStorageError"
    assert {"Lambda.ServiceException", "Lambda.TooManyRequestsException"} <= set(retry["ErrorEquals"])
    inactive = {
        f"Lambda.{kind}Exception" for kind in ("ResourceNotReady", "ResourceConflict", "CodeArtifactUserPending")
    }
    assert inactive <= set(retry["ErrorEquals"])
    assert retry["JitterStrategy"] == "FULL"
    assert sum(pauses(retry)) < LEASE_SECONDS / 1.5, "the lease must not expire in the pauses between attempts"


def pauses(retry: Json) -> list[float]:
    """Return the longest pause before each retry, in seconds."""
    first, rate, most = retry["IntervalSeconds"], retry["BackoffRate"], retry["MaxDelaySeconds"]
    return [min(first * rate**number, most) for number in range(retry["MaxAttempts"])]


@pytest.mark.parametrize("task", TASKS)
def test_a_throttled_task_is_retried_for_minutes(task: str) -> None:
    [retry] = tasks(load())[task]["Retry"]

    # Full jitter halves each pause on average. The last two alone outlast a minute in 97 of 100 cases.
    assert sum(pauses(retry)) / 2 > 4 * 60


def test_every_state_that_fails_leads_to_the_release_of_the_lease() -> None:
    fallible = {name: state for name, state in load()["States"].items() if state["Type"] in {"Task", "Map"}}
    del fallible["ReleaseLock"]

    last_catchers = {name: state["Catch"][-1] for name, state in fallible.items()}

    assert {name for name, last in last_catchers.items() if last["ErrorEquals"] != ["States.ALL"]} == set()
    assert {last["Next"] for last in last_catchers.values()} == {"ReleaseLock"}


def test_every_named_error_is_an_error_class_or_an_error_of_aws() -> None:
    named = {
        error
        for _, state in every_state(load())
        for rule in [*state.get("Retry", []), *state.get("Catch", [])]
        for error in rule["ErrorEquals"]
    }
    of_package = {error for error in named if not error.startswith(("States.", "Lambda."))}

    assert of_package == {"LockHeldError", "TransientStorageError"}
    assert all(issubclass(getattr(errors, name), errors.CompactionError) for name in of_package)


@pytest.mark.parametrize("task", TASKS)
def test_the_payload_of_a_task_has_exactly_the_fields_of_its_request(task: str) -> None:
    payload = tasks(load())[task]["Parameters"]["Payload"]
    fields = {name.removesuffix(".$") for name in payload}

    assert fields - {"task"} == _fields(REQUESTS[task])
    assert payload.get("task", task) == task


@pytest.mark.parametrize("task", sorted(RESULTS))
def test_every_field_of_a_result_is_kept_without_lambdas_envelope(task: str) -> None:
    selector = tasks(load())[task]["ResultSelector"]

    added: dict[str, object] = (
        {"folded": []} if task == "ListDeltas" else {}
    )  # no other function has folded for this pass yet
    assert selector == {f"{name}.$": f"$.Payload.{name}" for name in _fields(RESULTS[task])} | added


def test_acquire_lock_replaces_the_input_and_sets_the_pass_to_zero() -> None:
    acquire = load()["States"]["AcquireLock"]

    assert acquire["ResultPath"] == "$"
    assert acquire["ResultSelector"] == {"lease.$": "$.Payload", "work": {"pass": 0, "large_passes": 0, "folded": []}}


def test_the_placeholders_are_the_functions_that_the_infrastructure_fills_in() -> None:
    named = {state["Parameters"]["FunctionName"] for state in tasks(load()).values()}

    assert named == {f"${{{name}FunctionArn}}" for name in FUNCTIONS}


def _fields(model: type[Message]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_max_concurrency_equals_the_setting() -> None:
    assert load()["States"]["MergeBatches"]["MaxConcurrency"] == MERGES_AT_ONCE
