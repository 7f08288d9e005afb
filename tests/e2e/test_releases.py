"""An execution that runs during a deployment keeps the code that it began with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

import pytest

from chromadb_compaction.local.bootstrap import bootstrap_zip, zip_of_script
from chromadb_compaction.settings import required
from infra.config_values import Task
from infra.old_versions import delete_unused
from infra.state_machine import PLACEHOLDERS
from tests.e2e.conftest import DeployStack, StackPool
from tests.e2e.model import Delta, Row
from tests.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_logs.type_defs import LogStreamTypeDef

pytestmark = pytest.mark.e2e

ALL: tuple[str, ...] = get_args(Task)
IN_THE_WORKFLOW = frozenset(PLACEHOLDERS.values())
BROKEN = zip_of_script("#!/bin/sh\nexit 1\n")


@pytest.fixture
def own_stack(deploy: DeployStack, stack_pool: StackPool) -> Iterator[Stack]:
    """Yield a stack that no other test uses, because the test breaks its functions."""
    yield deploy(config={"maxPasses": "8"})
    stack_pool.forget(config={"maxPasses": "8"})


def current_definition(stack: Stack) -> str:
    machine = required(stack.settings.state_machine_arn, "STATE_MACHINE_ARN")
    return stack.sfn.describe_state_machine(stateMachineArn=machine)["definition"]


def versions_named(text: str) -> set[str]:
    return set(re.findall(r"function:(chromadb-[\w-]+:\d+)", text))


def versions_called(stack: Stack) -> set[str]:
    """Return the versions that wrote logs. A log stream's name contains the version."""
    called = set()
    for function in IN_THE_WORKFLOW:
        name = stack.function_name(function)
        streams = stack.logs.describe_log_streams(logGroupName=f"/aws/lambda/{name}")["logStreams"]
        called |= {f"{name}:{version}" for version in re.findall(r"\[(.+?)\]", " ".join(map(stream_name, streams)))}
    return called


def stream_name(stream: LogStreamTypeDef) -> str:
    return stream["logStreamName"]


def states_entered(stack: Stack, execution: str) -> set[str]:
    details = (event.get("stateEnteredEventDetails") for event in stack.history(execution))
    return {entered["name"] for entered in details if entered}


def test_a_release_during_an_execution_changes_only_later_executions(own_stack: Stack) -> None:
    stack = own_stack
    delta = Delta("docs", (Row("a", (1.0, 0.0)),))
    stack.put_objects({delta.key: delta.body()})
    before = versions_named(current_definition(stack))
    execution = stack.start_execution()
    stack.eventually(lambda: "ListDeltas" in states_entered(stack, execution), "the execution has its lease")

    stack.release(dict.fromkeys(IN_THE_WORKFLOW, BROKEN))

    running = stack.sfn.describe_execution(executionArn=execution)["status"]
    after = versions_named(current_definition(stack))
    assert running == "RUNNING"
    assert len(before) == len(after) == len(IN_THE_WORKFLOW)
    assert before.isdisjoint(after)
    result = stack.wait(execution)
    assert result.status == "SUCCEEDED", result.cause
    # A small pass leaves no fold to other functions.
    assert versions_called(stack) == {each for each in before if "fold-partitions" not in each}
    assert stack.keys("delta/") == []


def test_old_versions_that_nothing_uses_are_deleted(own_stack: Stack) -> None:
    stack = own_stack
    for release in range(4):
        stack.release(dict.fromkeys(ALL, bootstrap_zip(f"release {release}")))
    machine = required(stack.settings.state_machine_arn, "STATE_MACHINE_ARN")
    named = versions_named(current_definition(stack))

    deleted = set(delete_unused(machine, stack.functions, stack.sfn, kept=2))

    assert len(deleted) == (len(ALL) + 1) * 3
    assert named.isdisjoint(arn.partition(":function:")[2] for arn in deleted)
    assert stack.compact().status == "SUCCEEDED"
    for function in ALL:
        listed = stack.functions.list_versions_by_function(FunctionName=stack.function_name(function))["Versions"]
        assert len(listed) == 3, "$LATEST and two versions"
    assert list(delete_unused(machine, stack.functions, stack.sfn, kept=2)) == []


def test_callers_outside_the_workflow_get_the_newest_version(own_stack: Stack) -> None:
    assert own_stack.invoke("release-lock", {"execution": "nobody"}) == {"released": False, "holder": None}
    function = own_stack.function_name("release-lock")
    first = own_stack.functions.get_alias(FunctionName=function, Name="live")["FunctionVersion"]

    own_stack.release({"release-lock": BROKEN})

    moved = own_stack.functions.get_alias(FunctionName=function, Name="live")["FunctionVersion"]
    assert int(moved) == int(first) + 1
    answer = own_stack.functions.invoke(FunctionName=f"{function}:live", Payload=json.dumps({"execution": "x"}))
    assert "FunctionError" in answer
