"""People who use a stack: roles with the stack's policies for people attached, and nothing else."""

from __future__ import annotations

import json
from typing import NamedTuple

from botocore.exceptions import ClientError

from chromadb_compaction.local.resources.clients import AwsClients
from tests.stack import Stack

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{AwsClients.account}:root"},
            "Action": "sts:AssumeRole",
        }
    ],
}


class Person(NamedTuple):
    """A role, as somebody assumes it."""

    arn: str
    stack: Stack

    def environment(self) -> dict[str, str]:
        """Return the variables with the role's credentials."""
        given = self.stack.deployed.client("sts").assume_role(RoleArn=self.arn, RoleSessionName="person")["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
            "AWS_SESSION_TOKEN": given["SessionToken"],
        }


def person(stack: Stack, *kinds: str) -> Person:
    """Return a person with these policies, e.g. `person(stack, "writer", "reader")`."""
    iam, name = stack.deployed.client("iam"), f"{'-and-'.join(kinds)}-{stack.deployed.name}"
    try:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityAlreadyExists":
            raise
    for kind in kinds:
        iam.attach_role_policy(RoleName=name, PolicyArn=stack.deployed.exports[f"{kind.upper()}_POLICY_ARN"])
    return Person(f"arn:aws:iam::{AwsClients.account}:role/{name}", stack)
