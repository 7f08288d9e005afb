"""Delete the published versions that nothing uses any more: `python -m infra.old_versions`.

AWS keeps each version until somebody deletes it, and the provider never does. A state machine has at most 1000
(https://docs.aws.amazon.com/step-functions/latest/dg/concepts-state-machine-version.html), and the zips of all
functions of a region have 75 GB (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, get_args

import boto3

from infra.config_values import Task
from infra.names import LIVE, StackNames

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_stepfunctions import SFNClient

KEPT = 10
"""So many of the newest versions stay, for a rollback. The image repository keeps more images than that."""

_VERSION = re.compile(r"arn:[\w-]+:lambda:[\w-]+:\d+:function:[\w-]+:(?:\d+)")


def unused_versions(versions: Iterable[int], used: Iterable[int], *, kept: int = KEPT) -> list[int]:
    """Return the versions that may be deleted: none of the newest `kept`, and none that is `used`."""
    newest_last = sorted(set(versions))
    return [version for version in newest_last[: -kept or None] if version not in set(used)]


def functions_named(definition: str) -> set[str]:
    """Return the ARNs of the function versions that a state machine's definition names."""
    return set(_VERSION.findall(definition))


def delete_unused(
    state_machine: str, functions: LambdaClient, workflow: SFNClient, *, kept: int = KEPT
) -> Iterator[str]:
    """Delete unused versions of the state machine and of its stack's functions, and yield each one's ARN.

    A version of a function is used if its alias names it, or the definition of the state machine, of a version of it
    that stays, or of a running execution.
    """
    in_use = functions_named(workflow.describe_state_machine(stateMachineArn=state_machine)["definition"])
    # Before the versions: an execution that starts later uses the present definition.
    for running in _running(state_machine, workflow):
        of_execution = workflow.describe_state_machine_for_execution(executionArn=running)
        in_use |= functions_named(of_execution["definition"])
    published = _workflow_versions(state_machine, workflow)
    expired = unused_versions(published, (), kept=kept)
    for number in published.keys() - expired:
        in_use |= functions_named(workflow.describe_state_machine(stateMachineArn=published[number])["definition"])
    for number in expired:
        workflow.delete_state_machine_version(stateMachineVersionArn=published[number])
        yield published[number]
    for name in _function_names(state_machine):
        yield from _delete_of_function(name, functions, in_use, kept=kept)


def _delete_of_function(name: str, functions: LambdaClient, in_use: set[str], *, kept: int) -> Iterator[str]:
    pages = functions.get_paginator("list_versions_by_function").paginate(FunctionName=name)
    arns = {each["Version"]: each["FunctionArn"] for page in pages for each in page["Versions"]}
    arns.pop("$LATEST")
    live = functions.get_alias(FunctionName=name, Name=LIVE)
    weights = live.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})
    used = {int(version) for version in arns if arns[version] in in_use}
    used |= {int(version) for version in (live["FunctionVersion"], *weights)}
    for number in unused_versions(map(int, arns), used, kept=kept):
        functions.delete_function(FunctionName=name, Qualifier=str(number))
        yield arns[str(number)]


def _running(state_machine: str, workflow: SFNClient) -> list[str]:
    pages = workflow.get_paginator("list_executions").paginate(stateMachineArn=state_machine, statusFilter="RUNNING")
    return [execution["executionArn"] for page in pages for execution in page["executions"]]


def _workflow_versions(state_machine: str, workflow: SFNClient) -> dict[int, str]:
    found: dict[int, str] = {}
    token: dict[str, str] = {}
    while True:
        answer = workflow.list_state_machine_versions(stateMachineArn=state_machine, **token)  # type: ignore[arg-type]
        arns = [each["stateMachineVersionArn"] for each in answer["stateMachineVersions"]]
        found |= {int(arn.rpartition(":")[2]): arn for arn in arns}
        if "nextToken" not in answer:
            return found
        token = {"nextToken": answer["nextToken"]}


def _function_names(state_machine: str) -> list[str]:
    _, _, _, region, account, _, name = state_machine.split(":")
    names = StackNames(name.removeprefix("chromadb-compaction-"), account, region)
    return [names.function(task) for task in get_args(Task)]


def main() -> None:
    """Delete the unused versions of the stack that STATE_MACHINE_ARN names, and print each."""
    state_machine = os.environ.get("STATE_MACHINE_ARN")
    if state_machine is None:
        sys.exit('STATE_MACHINE_ARN is not set; run: set -a; eval "$(pulumi stack output --shell)"; set +a')
    for arn in delete_unused(state_machine, boto3.client("lambda"), boto3.client("stepfunctions")):
        print(f"deleted {arn}")  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
