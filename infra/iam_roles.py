"""The roles of the functions, the state machine, the event rules and the replication."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import iam

from infra.iam_policies import Statement, document, trust


class ServiceRole(pulumi.ComponentResource):
    """A role that one AWS service assumes, with one inline policy, which is deleted with the role.

    Args:
        name: The role's name in AWS.
        logical: The role's name in Pulumi, for `--target`.
        service: The service that may assume the role, e.g. lambda.amazonaws.com.
        statements: The statements of the policy.
        opts: Pulumi's options for the component.
    """

    arn: pulumi.Output[str]
    policy: iam.RolePolicy

    def __init__(
        self,
        name: str,
        *,
        logical: str,
        service: str,
        statements: pulumi.Input[list[Statement]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:security:ServiceRole", logical, opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        role = iam.Role(logical, name=name, assume_role_policy=json.dumps(trust(service)), opts=child)
        self.policy = iam.RolePolicy(
            f"{logical}-policy",
            name=name,
            role=role.name,
            policy=pulumi.Output.from_input(statements).apply(lambda allowed: json.dumps(document(allowed))),
            opts=child,
        )
        self.arn = role.arn
        self.register_outputs({"arn": role.arn})
