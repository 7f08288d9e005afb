"""A policy linter accepts every role and bucket policy, with every option on and with every option off."""

from __future__ import annotations

import json
import warnings
from functools import cache
from typing import Any, NamedTuple

import pytest

from tests.infra.declared import VPC, Declared, declared

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a0b0c0d-1111-2222-3333-444455556666"
EVERYTHING = {
    "vpcId": VPC,
    "subnetIds": "subnet-0000000a",
    "kmsKeyArn": KEY,
    "replicaRegion": "eu-central-1",
    "replicaKmsKeyArn": KEY.replace("eu-west-1", "eu-central-1"),
    "auditTrail": "true",
    "writerAccounts": "111111111111",
    "readerAccounts": "222222222222",
}

# Accepted findings, each with its reason. The second part of a key occurs in the finding's detail.
ACCEPTED = {
    ("PERMISSIONS_MANAGEMENT_ACTIONS", "logs:putresourcepolicy"): (
        "AWS requires it of a state machine's role, to allow the delivery of its log"
    ),
    ("RESOURCE_STAR", "ec2:CreateNetworkInterface"): (
        "functions share a network interface; infra/iam_service_policies.py denies the same to our code"
    ),
    ("RESOURCE_STAR", "cloudwatch:DescribeAlarms"): (
        "the resource of a list of alarms is all alarms of the account; it changes nothing"
    ),
    ("RESOURCE_MISMATCH", "mapRun"): "the workflow has no Distributed Map, so it has no map runs to list",
    ("RESOURCE_MISMATCH", "express"): "the workflow is of type Standard, so it has no Express executions",
    ("UNKNOWN_CONDITION_FOR_ACTION", "lambda:SourceFunctionArn"): (
        "Lambda adds it to every call that a function's code makes to any service"
    ),
}


class Finding(NamedTuple):
    """One finding about one policy."""

    policy: str
    issue: str
    detail: str

    @property
    def accepted(self) -> tuple[str, str] | None:
        """The key of the accepted finding that this is, or None."""
        return next((known for known in ACCEPTED if known[0] == self.issue and known[1] in self.detail), None)


@cache
def everything() -> Declared:
    return declared(**EVERYTHING)


def policies(stack: Declared) -> dict[str, str]:
    found = [r for kind in ("RolePolicy", "BucketPolicy", "QueuePolicy", "Policy") for r in stack.of_type(kind)]
    return {r.name: r.inputs["policy"] for r in found}


def trusts(stack: Declared) -> dict[str, str]:
    # Trust policies have no resources, which the linter requires, so this adds one.
    found: dict[str, str] = {}
    for role in stack.of_type("Role"):
        document: dict[str, Any] = json.loads(role.inputs["assumeRolePolicy"])
        statements = [{**statement, "Resource": "*"} for statement in document["Statement"]]
        found[f"trust of {role.name}"] = json.dumps({**document, "Statement": statements})
    return found


def findings(documents: dict[str, str]) -> list[Finding]:
    with warnings.catch_warnings():
        # The linter leaves files open and imports deprecated modules.
        warnings.simplefilter("ignore")
        from parliament import analyze_policy_string

        return [
            Finding(name, found.issue, f"{found.detail} {found.location}")
            for name, document in documents.items()
            for found in analyze_policy_string(document, include_community_auditors=True).findings
        ]


@pytest.mark.parametrize("stack", [declared, everything], ids=["every option off", "every option on"])
def test_the_linter_finds_nothing_in_role_and_bucket_policies(stack: Any) -> None:
    assert [found for found in findings(policies(stack())) if not found.accepted] == []


def test_every_accepted_finding_still_occurs() -> None:
    assert {found.accepted for found in findings(policies(everything()))} == ACCEPTED.keys()


def test_the_linter_finds_nothing_in_trust_policies() -> None:
    # These two come from the added resource.
    expected = {"RESOURCE_STAR", "CREDENTIALS_EXPOSURE"}
    assert [found for found in findings(trusts(everything())) if found.issue not in expected] == []


@pytest.mark.parametrize(
    ("statement", "issue"),
    [
        ({"Effect": "Allow", "Action": ["s3:GetObjects"], "Resource": ["arn:aws:s3:::b/*"]}, "UNKNOWN_ACTION"),
        ({"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["arn:aws:sqs:*:*:q"]}, "RESOURCE_MISMATCH"),
        ({"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["*"]}, "RESOURCE_STAR"),
    ],
)
def test_the_linter_does_find_faults(statement: dict[str, Any], issue: str) -> None:
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert issue in {found.issue for found in findings({"faulty": document})}
