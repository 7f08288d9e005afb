"""The roles that AWS's services assume, checked with the policy simulator: the local server does not enforce them.

The simulator evaluates a role as IAM does, with two limits: one resource per call, and no values for condition keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from chromadb_compaction.local.resources.clients import AwsClients
from chromadb_compaction.settings import required
from infra.names import LIVE
from tests.stack import Stack
from tests.statemachine.definition import every_state

pytestmark = pytest.mark.e2e

ELSEWHERE = {
    "states:StartExecution": f"arn:aws:states:{AwsClients.region}:{AwsClients.account}:stateMachine:somebody-elses",
    "lambda:InvokeFunction": f"arn:aws:lambda:{AwsClients.region}:{AwsClients.account}:function:somebody-elses",
    "iam:PassRole": f"arn:aws:iam::{AwsClients.account}:role/somebody-elses",
    "sqs:SendMessage": f"arn:aws:sqs:{AwsClients.region}:{AwsClients.account}:somebody-elses",
}


Decide = Callable[[str, str, str], str]


class RuleTarget(NamedTuple):
    """The target of an EventBridge rule, and the role with which the rule starts it. A function needs no role."""

    rule: str
    arn: str
    role: str | None


@pytest.fixture
def decision(stack: Stack) -> Decide:
    """Return a function that returns the simulator's decision: allowed, implicitDeny or explicitDeny."""
    iam = stack.deployed.client("iam")

    def decide(role: str, action: str, resource: str) -> str:
        answer = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource])
        (result,) = answer["EvaluationResults"]
        decided: str = result["EvalDecision"]
        return decided

    return decide


def machine(stack: Stack) -> Any:
    arn = required(stack.settings.state_machine_arn, "STATE_MACHINE_ARN")
    return stack.sfn.describe_state_machine(stateMachineArn=arn)


def targets(stack: Stack) -> Iterator[RuleTarget]:
    """Yield the targets of the stack's rules."""
    events = stack.deployed.client("events")
    for rule in events.list_rules()["Rules"]:
        if stack.deployed.name in rule["Name"].split("-"):
            for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
                yield RuleTarget(rule["Arn"], target["Arn"], target.get("RoleArn"))


def function_arn(stack: Stack, function: str) -> str:
    return f"arn:aws:lambda:{AwsClients.region}:{AwsClients.account}:function:{stack.function_name(function)}:{LIVE}"


def forbidden_calls(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield the actions and resources that neither the state machine nor a rule may ever use."""
    yield from ELSEWHERE.items()
    for key in ("delta/docs/x.parquet", "snapshot/CURRENT"):
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            yield action, f"arn:aws:s3:::{stack.bucket}/{key}"
    table = f"arn:aws:dynamodb:{AwsClients.region}:{AwsClients.account}:table/{stack.settings.dynamodb_table}"
    yield from ((f"dynamodb:{operation}", table) for operation in ("PutItem", "DeleteItem"))
    for function in ("producer", "query"):
        yield "lambda:InvokeFunction", function_arn(stack, function)
    yield "lambda:UpdateFunctionCode", function_arn(stack, "compactor")


def test_the_state_machine_may_call_every_function_that_its_definition_names(stack: Stack, decision: Decide) -> None:
    described = machine(stack)
    states = every_state(json.loads(described["definition"]))
    called = {state["Parameters"]["FunctionName"] for _, state in states if state["Type"] == "Task"}

    decisions = {arn: decision(described["roleArn"], "lambda:InvokeFunction", arn) for arn in called}

    assert len(called) == 7
    assert decisions == dict.fromkeys(called, "allowed")


def test_the_state_machine_may_deliver_its_log(stack: Stack, decision: Decide) -> None:
    role = machine(stack)["roleArn"]
    assert decision(role, "logs:CreateLogDelivery", "*") == "allowed"
    assert decision(role, "logs:DescribeLogGroups", "*") == "allowed"


def test_the_state_machine_may_do_nothing_else(stack: Stack, decision: Decide) -> None:
    described = machine(stack)
    forbidden = [*forbidden_calls(stack), ("states:StartExecution", described["stateMachineArn"])]

    decisions = {asked: decision(described["roleArn"], *asked) for asked in forbidden}

    assert decisions == dict.fromkeys(forbidden, "implicitDeny")


def test_the_role_of_a_rule_allows_it_to_start_the_workflow_and_nothing_else(stack: Stack, decision: Decide) -> None:
    workflow = machine(stack)["stateMachineArn"]
    roles = [target.role for target in targets(stack) if target.role and target.arn == workflow]
    forbidden = [
        *forbidden_calls(stack),
        ("states:StopExecution", workflow),
        ("lambda:InvokeFunction", function_arn(stack, "release-lock")),
    ]

    assert roles
    for role in roles:
        assert decision(role, "states:StartExecution", workflow) == "allowed"
        decisions = {asked: decision(role, *asked) for asked in forbidden}
        assert decisions == dict.fromkeys(forbidden, "implicitDeny")


def test_every_rule_may_start_its_target(stack: Stack, decision: Decide) -> None:
    """Check the rule's role, or for a function the function's own policy, which must allow this rule alone."""
    found = list(targets(stack))
    assert {target.arn for target in found} >= {machine(stack)["stateMachineArn"], function_arn(stack, "release-lock")}
    for target in found:
        if target.role is None:
            policy = json.loads(stack.functions.get_policy(FunctionName=target.arn)["Policy"])
            assert target.rule in {sole_source(statement) for statement in policy["Statement"]}
        else:
            assert decision(target.role, "states:StartExecution", target.arn) == "allowed"


def sole_source(statement: dict[str, Any]) -> str | None:
    """Return the only rule that a function's policy allows. Return None for a policy that allows every rule."""
    assert statement["Effect"] == "Allow"
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    for operator in ("ArnLike", "ArnEquals"):
        if arn := statement.get("Condition", {}).get(operator, {}).get("AWS:SourceArn"):
            return str(arn)
    return None
