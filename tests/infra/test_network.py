"""In a VPC the functions reach the services that they need, and nothing reaches them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.infra.declared import TASKS, VPC, Declared, declared

PLACE = "eu-west-1:123456789012"
SUBNETS = ["subnet-0000000a", "subnet-0000000b"]


@cache
def networked(**config: str) -> Declared:
    return declared(vpcId=VPC, subnetIds=",".join(SUBNETS), **config)


def group(name: str) -> dict[str, Any]:
    return networked().one("SecurityGroup", f"chromadb-compaction-dev-{name}")


def endpoints(kind: str) -> list[dict[str, Any]]:
    return [e.inputs for e in networked().of_type("VpcEndpoint") if e.inputs["vpcEndpointType"] == kind]


def about_interfaces(stack: Declared, task: str) -> list[dict[str, Any]]:
    statements = stack.statements(f"chromadb-{task}-dev")
    return [s for s in statements if any(action.startswith("ec2:") for action in s["Action"])]


def test_without_a_vpc_there_is_no_network() -> None:
    kinds = ("SecurityGroup", "VpcEndpoint")
    assert not [r for kind in kinds for r in declared().of_type(kind)]
    assert not [f for f in declared().of_type("Function") if "vpcConfig" in f.inputs]


@pytest.mark.parametrize("task", TASKS)
def test_every_function_is_in_the_subnets(task: str) -> None:
    inside = networked().function(task)["vpcConfig"]
    assert (inside["subnetIds"], len(inside["securityGroupIds"])) == (SUBNETS, 1)


def test_the_functions_accept_no_connections_and_open_only_https() -> None:
    functions = group("functions")
    assert functions["ingress"] == []
    assert [(rule["fromPort"], rule["toPort"], rule["protocol"]) for rule in functions["egress"]] == [(443, 443, "tcp")]


def test_s3_and_dynamodb_are_reached_through_the_subnets_route_tables() -> None:
    assert [e["serviceName"] for e in endpoints("Gateway")] == [
        "com.amazonaws.eu-west-1.s3",
        "com.amazonaws.eu-west-1.dynamodb",
    ]
    # The first subnet has its own table; the second uses the main table.
    assert [e["routeTableIds"] for e in endpoints("Gateway")] == [["rtb-a", "rtb-main"]] * 2


def test_the_queue_and_the_workflow_are_reached_through_endpoints_in_the_subnets() -> None:
    found = endpoints("Interface")
    assert [e["serviceName"] for e in found] == ["com.amazonaws.eu-west-1.sqs", "com.amazonaws.eu-west-1.states"]
    assert all(e["subnetIds"] == SUBNETS and e["privateDnsEnabled"] for e in found)


def test_the_endpoints_accept_only_the_functions() -> None:
    (rule,) = group("endpoints")["ingress"]
    functions = networked().function("query")["vpcConfig"]["securityGroupIds"]
    assert (rule["fromPort"], rule["toPort"], rule["securityGroups"]) == (443, 443, functions)


def statements(service: str) -> list[dict[str, Any]]:
    (found,) = (e.inputs for e in networked().of_type("VpcEndpoint") if e.inputs["serviceName"].endswith(f".{service}"))
    policy: list[dict[str, Any]] = json.loads(found["policy"])["Statement"]
    return policy


@pytest.mark.parametrize(
    ("service", "resources"),
    [
        ("sqs", [f"arn:aws:sqs:{PLACE}:chromadb-delta-queue-dev", f"arn:aws:sqs:{PLACE}:chromadb-delta-queue-dev-dlq"]),
        ("states", [f"arn:aws:states:{PLACE}:stateMachine:chromadb-compaction-dev"]),
    ],
)
def test_an_endpoint_of_the_functions_alone_reaches_only_the_stacks_resources(
    service: str, resources: list[str]
) -> None:
    (allowed,) = statements(service)
    assert (allowed["Effect"], allowed["Action"], allowed["Resource"]) == ("Allow", [f"{service}:*"], resources)
    assert allowed["Condition"] == {"StringEquals": {"aws:PrincipalAccount": "123456789012"}}


@pytest.mark.parametrize("service", ["s3", "dynamodb"])
def test_an_endpoint_of_the_subnets_refuses_credentials_of_other_accounts_and_nothing_else(service: str) -> None:
    allowed, denied = statements(service)
    assert (allowed["Effect"], "Condition" in allowed) == ("Allow", False)
    assert (denied["Effect"], denied["Condition"]) == (
        "Deny",
        {"Null": {"aws:PrincipalAccount": "false"}, "StringNotEquals": {"aws:PrincipalAccount": "123456789012"}},
    )


def test_a_vpc_with_endpoints_gets_no_more() -> None:
    stack = networked(vpcEndpoints="false")
    assert not list(stack.of_type("VpcEndpoint"))
    assert len(list(stack.of_type("SecurityGroup"))) == 1


@pytest.mark.parametrize("task", TASKS)
def test_lambda_may_attach_a_function_to_the_network_but_the_functions_code_may_not(task: str) -> None:
    allowed, denied = about_interfaces(networked(), task)
    assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
    assert set(allowed["Action"]) == set(denied["Action"])
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:chromadb-{task}-dev"
    assert denied["Condition"] == {"ArnLike": {"lambda:SourceFunctionArn": [arn, f"{arn}:*"]}}


def test_without_a_vpc_no_role_has_rights_to_network_interfaces() -> None:
    assert not [task for task in TASKS if about_interfaces(declared(), task)]
