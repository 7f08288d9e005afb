"""Versions that nothing uses are deleted, and the newest ten stay."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from infra.old_versions import delete_unused, functions_named, unused_versions

FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:chromadb-compactor-dev"
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:chromadb-compaction-dev"
TASKS = (
    "acquire-lock",
    "list-deltas",
    "merge-batch",
    "compactor",
    "fold-partitions",
    "clean-up",
    "release-lock",
    "producer",
    "query",
)


@given(versions=st.sets(st.integers(1, 200)), used=st.sets(st.integers(1, 200)), kept=st.integers(1, 20))
def test_the_newest_and_the_used_versions_stay_and_all_others_go(versions: set[int], used: set[int], kept: int) -> None:
    deleted = unused_versions(versions, used, kept=kept)
    stay = versions - set(deleted)
    assert not set(deleted) & used
    assert set(sorted(versions)[-kept:]) <= stay
    assert len(stay - used) <= kept


def test_a_definition_names_versions_and_no_unqualified_function() -> None:
    assert functions_named(json.dumps({"a": f"{FUNCTION}:12", "b": FUNCTION})) == {f"{FUNCTION}:12"}


class FakeLambda:
    """The functions of a stack, each with the versions 1 to `newest`."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.deleted: set[tuple[str, int]] = set()

    def get_paginator(self, _operation: str) -> FakeLambda:
        return self

    def paginate(self, FunctionName: str) -> list[dict[str, Any]]:  # noqa: N803 - boto3's
        arn = FUNCTION.replace("chromadb-compactor-dev", FunctionName)
        versions = ["$LATEST", *map(str, range(1, self.newest + 1))]
        return [{"Versions": [{"Version": each, "FunctionArn": f"{arn}:{each}"} for each in versions]}]

    def get_alias(self, **_named: str) -> dict[str, Any]:
        return {"FunctionVersion": str(self.newest), "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1}}}

    def delete_function(self, *, FunctionName: str, Qualifier: str) -> None:  # noqa: N803 - boto3's
        self.deleted.add((FunctionName, int(Qualifier)))


class FakeWorkflow:
    """A state machine with the versions 1 to `newest`, and an execution that began with version 3 of its function."""

    def __init__(self, newest: int) -> None:
        self.newest = newest
        self.deleted: set[str] = set()

    def describe_state_machine(self, *, stateMachineArn: str) -> dict[str, str]:  # noqa: N803 - boto3's
        number = stateMachineArn.removeprefix(MACHINE).lstrip(":") or str(self.newest)
        return {"definition": f'"{FUNCTION}:{number}"'}

    def describe_state_machine_for_execution(self, **_named: str) -> dict[str, str]:
        return {"definition": f'"{FUNCTION}:3"'}

    def get_paginator(self, _operation: str) -> FakeWorkflow:
        return self

    def paginate(self, **named: str) -> list[dict[str, Any]]:
        assert named["statusFilter"] == "RUNNING"
        return [{"executions": [{"executionArn": "running"}]}]

    def list_state_machine_versions(self, **named: str) -> dict[str, Any]:
        half = self.newest // 2
        first, last, more = (half + 1, self.newest, {}) if "nextToken" in named else (1, half, {"nextToken": "more"})
        arns = [f"{MACHINE}:{number}" for number in range(last, first - 1, -1)]
        return {"stateMachineVersions": [{"stateMachineVersionArn": arn} for arn in arns], **more}

    def delete_state_machine_version(self, *, stateMachineVersionArn: str) -> None:  # noqa: N803 - boto3's
        self.deleted.add(stateMachineVersionArn)


def test_what_aliases_definitions_and_running_executions_name_is_not_deleted() -> None:
    functions, workflow = FakeLambda(20), FakeWorkflow(20)

    deleted = list(delete_unused(MACHINE, functions, workflow))  # type: ignore[arg-type]

    assert workflow.deleted == {f"{MACHINE}:{number}" for number in range(1, 11)}
    kept = {"chromadb-compactor-dev": {2, 3}}
    assert functions.deleted == {
        (name, number)
        for name in (f"chromadb-{task}-dev" for task in TASKS)
        for number in range(1, 11)
        if number not in kept.get(name, {2})
    }
    assert len(deleted) == len(functions.deleted) + len(workflow.deleted)
