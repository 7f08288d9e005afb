"""The roles of the functions, the state machine, the event rules and the replication."""

from __future__ import annotations

import json

import pulumi
from pulumi_aws import iam

from infra.config import CompactionConfig
from infra.iam_policies import Document, Statement, document


class ServiceRole(pulumi.ComponentResource):
    """A role that one AWS service assumes, with one inline policy, which is deleted with the role.

    Args:
        name: The role's name in AWS.
        logical: The role's name in Pulumi, for `--target`.
        trusted: The trust policy.
        config: The settings, for the path and the permissions boundary of roles.
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
        trusted: Document,
        config: CompactionConfig,
        statements: pulumi.Input[list[Statement]],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:security:ServiceRole", logical, opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        role = iam.Role(
            logical,
            name=name,
            path=config.role_path,
            permissions_boundary=config.permissions_boundary_arn,
            assume_role_policy=json.dumps(trusted),
            opts=child,
        )
        self.policy = iam.RolePolicy(
            f"{logical}-policy",
            name=name,
            role=role.name,
            policy=pulumi.Output.from_input(statements).apply(lambda allowed: json.dumps(document(allowed))),
            opts=child,
        )
        self.arn = role.arn
        self.register_outputs({"arn": role.arn})
