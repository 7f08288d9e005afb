"""The stack deploys in China and in GovCloud, where ARNs and endpoints differ."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.declared import VPC, Declared, declared_in

KEY = "arn:{}:kms:eu-west-1:123456789012:key/mrk-1"
OTHERS = ["aws-cn", "aws-us-gov"]


def everything(partition: str) -> Declared:
    key = KEY.format(partition)
    return declared_in(
        partition,
        vpcId=VPC,
        subnetIds="subnet-0000000a,subnet-0000000b",
        kmsKeyArn=key,
        replicaRegion="eu-central-1",
        replicaKmsKeyArn=key.replace("eu-west-1", "eu-central-1"),
        auditTrail="true",
        writerAccounts="210987654321",
        readerAccounts="210987654321",
    )


@pytest.mark.parametrize("partition", OTHERS)
def test_every_arn_is_one_of_the_partition(partition: str) -> None:
    stack = everything(partition)
    found = {
        (resource.name, arn)
        for resource in stack.resources
        for arn in re.findall(r"arn:([\w-]+):", json.dumps(resource.inputs, default=str))
    }
    assert {(name, arn) for name, arn in found if arn != partition} == set()
    assert len(found) > 50


@pytest.mark.parametrize(("partition", "suffix"), [("aws-cn", ".cn"), ("aws-us-gov", "")])
def test_keys_are_used_through_the_endpoint_of_the_partition(partition: str, suffix: str) -> None:
    (right,) = (s for s in everything(partition).statements("chromadb-query-dev") if "kms:Decrypt" in s["Action"])
    assert right["Condition"] == {"StringEquals": {"kms:ViaService": [f"s3.eu-west-1.amazonaws.com{suffix}"]}}


def test_in_china_only_interface_endpoints_have_another_prefix() -> None:
    services = {e.inputs["serviceName"] for e in everything("aws-cn").of_type("VpcEndpoint")}
    assert services == {
        "com.amazonaws.eu-west-1.s3",
        "com.amazonaws.eu-west-1.dynamodb",
        "cn.com.amazonaws.eu-west-1.sqs",
        "cn.com.amazonaws.eu-west-1.states",
    }


@pytest.mark.parametrize("partition", OTHERS)
def test_service_principals_are_the_same_in_every_partition(partition: str) -> None:
    policies = [json.dumps(resource.inputs, default=str) for resource in everything(partition).resources]
    principals = {name for policy in policies for name in re.findall(r'Service\\": \\"([\w.-]+)', policy)}
    assert principals >= {"lambda.amazonaws.com", "states.amazonaws.com", "events.amazonaws.com", "s3.amazonaws.com"}
    assert not {principal for principal in principals if not principal.endswith(".amazonaws.com")}
