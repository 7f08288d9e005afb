"""One role for each function, for the state machine and for the schedule."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import iam

from infra.iam_policies import Statement, document, trust


class ServiceRole(pulumi.ComponentResource):
    """A role that one AWS service takes on, with one inline policy: it dies with the role, and nobody else uses it.

    `name` is the role's own, `logical` the one that Pulumi and `--target` know.
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
