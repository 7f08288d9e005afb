"""The roles that AWS's own services take on, asked of the policy simulator: the local server does not enforce them.

It evaluates what IAM evaluates for a role's own credentials, with two limits that shape these tests: one resource a
call, and no values for condition keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from chromadb_compaction.local.resources.clients import AwsClients
from chromadb_compaction.settings import required
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
    """What an EventBridge rule starts, and the role that it takes on for that; a function has none."""

    rule: str
    arn: str
    role: str | None


@pytest.fixture
def decision(stack: Stack) -> Decide:
    """Give a function that returns the simulator's word: allowed, implicitDeny or explicitDeny."""
    iam = stack.deployed.client("iam")

    def decide(role: str, action: str, resource: str) -> str:
        answer = iam.simulate_principal_policy(PolicySourceArn=role, ActionNames=[action], ResourceArns=[resource])
        (result,) = answer["EvaluationResults"]
        word: str = result["EvalDecision"]
        return word

    return decide


def machine(stack: Stack) -> Any:
    arn = required(stack.settings.state_machine_arn, "STATE_MACHINE_ARN")
    return stack.sfn.describe_state_machine(stateMachineArn=arn)


def targets(stack: Stack) -> Iterator[RuleTarget]:
    """Yield what the stack's rules start."""
    events = stack.deployed.client("events")
    for rule in events.list_rules()["Rules"]:
        if stack.deployed.name in rule["Name"].split("-"):
            for target in events.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
                yield RuleTarget(rule["Arn"], target["Arn"], target.get("RoleArn"))


def function_arn(stack: Stack, function: str) -> str:
    return stack.functions.get_function(FunctionName=stack.function_name(function))["Configuration"]["FunctionArn"]


def not_their_business(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield what neither the state machine nor a rule may ever do."""
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

    assert len(called) == 6
    assert decisions == dict.fromkeys(called, "allowed")


def test_the_state_machine_may_deliver_its_log(stack: Stack, decision: Decide) -> None:
    role = machine(stack)["roleArn"]
    assert decision(role, "logs:CreateLogDelivery", "*") == "allowed"
    assert decision(role, "logs:DescribeLogGroups", "*") == "allowed"


def test_the_state_machine_may_do_nothing_else(stack: Stack, decision: Decide) -> None:
    described = machine(stack)
    forbidden = [*not_their_business(stack), ("states:StartExecution", described["stateMachineArn"])]

    decisions = {asked: decision(described["roleArn"], *asked) for asked in forbidden}

    assert decisions == dict.fromkeys(forbidden, "implicitDeny")


def test_every_rule_that_takes_on_a_role_may_start_the_workflow_and_do_nothing_else(
    stack: Stack, decision: Decide
) -> None:
    workflow = machine(stack)["stateMachineArn"]
    roles = [target.role for target in targets(stack) if target.role and target.arn == workflow]
    forbidden = [
        *not_their_business(stack),
        ("states:StopExecution", workflow),
        ("lambda:InvokeFunction", function_arn(stack, "release-lock")),
    ]

    assert roles
    for role in roles:
        assert decision(role, "states:StartExecution", workflow) == "allowed"
        decisions = {asked: decision(role, *asked) for asked in forbidden}
        assert decisions == dict.fromkeys(forbidden, "implicitDeny")


def test_every_rule_can_reach_what_it_starts(stack: Stack, decision: Decide) -> None:
    """By the role that it takes on, or, for a function, by that function's own policy: for this rule alone."""
    found = list(targets(stack))
    assert {target.arn for target in found} >= {machine(stack)["stateMachineArn"], function_arn(stack, "release-lock")}
    for target in found:
        if target.role is None:
            policy = json.loads(stack.functions.get_policy(FunctionName=target.arn)["Policy"])
            assert target.rule in {sole_source(statement) for statement in policy["Statement"]}
        else:
            assert decision(target.role, "states:StartExecution", target.arn) == "allowed"


def sole_source(statement: dict[str, Any]) -> str | None:
    """Return the rule that a function's policy lets call it. One that is open to every rule names none."""
    assert statement["Effect"] == "Allow"
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    for operator in ("ArnLike", "ArnEquals"):
        if arn := statement.get("Condition", {}).get(operator, {}).get("AWS:SourceArn"):
            return str(arn)
    return None
