"""The rights of people and of their programs, as managed policies: writers, readers and operators."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import pulumi
from pulumi_aws import iam, lambda_, sqs

from chromadb_compaction.layout import DELTA_PREFIX, QUARANTINE_PREFIX, SNAPSHOT_PREFIX
from infra.config import CompactionConfig
from infra.config_values import Task
from infra.iam_policies import Resources, Statement, allow, document, producer, query
from infra.iam_service_policies import use_keys, use_replica_key
from infra.names import REPLICATED, StackNames

Kind = Literal["writer", "reader", "operator"]
Rights = Callable[[Resources, StackNames], list[Statement]]


class PeoplePolicies(pulumi.ComponentResource):
    """A managed policy for each kind of user, to attach to roles, groups or permission sets.

    `outputs` has the ARN of each, and the documents of writers and readers for their roles in other accounts.
    """

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        resources: pulumi.Output[Resources],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:security:PeoplePolicies", "chromadb-people", opts=opts)
        self.outputs: dict[str, pulumi.Output[str]] = {}
        for kind in KINDS:
            text = _text(kind, names, config, resources)
            policy = iam.Policy(
                f"chromadb-{kind}-policy",
                name=names.people_policy(kind),
                description=f"{DESCRIPTIONS[kind]} of the stack {names.stack}",
                policy=text,
                opts=pulumi.ResourceOptions(parent=self),
            )
            self.outputs[f"{kind.upper()}_POLICY_ARN"] = policy.arn
            if kind != "operator":
                self.outputs[f"{kind.upper()}_POLICY"] = text
        self.register_outputs({})


def writer(on: Resources, _names: StackNames) -> list[Statement]:
    """Write deltas and notify the queue: `DeltaWriter`, `put`, or any program that writes delta files."""
    return producer(on)


def reader(on: Resources, names: StackNames) -> list[Statement]:
    """Read published snapshots and pending deltas, and ask the query function.

    `Client`, `serve`, `query`, `collections list` and `show`, `snapshots list`, `show`, `pull` and `verify`.
    """
    return [*query(on), allow(["lambda:InvokeFunction"], [names.live_function_arn("query")])]


def operator(on: Resources, names: StackNames) -> list[Statement]:
    """Run every command of the command line, and what docs/operations.md types. No version may be deleted."""
    machine = names.state_machine
    groups = [names.arn("logs", f"log-group:/aws/lambda/{names.function(task)}") for task in get_args(Task)]
    written = [f"{on.bucket}/{prefix}*" for prefix in (DELTA_PREFIX, QUARANTINE_PREFIX, SNAPSHOT_PREFIX)]
    replica = names.bucket_arn(names.replica_bucket)
    copied = [f"{replica}/{prefix}*" for prefix in REPLICATED.values()]
    lock = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [f"LOCK#{on.lock_id}"]}}
    return [
        allow(["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketVersioning"], [on.bucket]),
        allow(["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging"], [f"{on.bucket}/*"]),
        allow(["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject"], written),
        allow(["s3:ListBucket"], [replica]),
        allow(["s3:GetObject", "s3:PutObject"], copied),
        allow([f"dynamodb:{verb}Item" for verb in ("Get", "Put", "Update", "Delete")], [on.table], lock),
        allow(["sqs:GetQueueAttributes", "sqs:SendMessage"], [on.queue, on.dead_letters]),
        allow(["sqs:ReceiveMessage", "sqs:PurgeQueue"], [on.dead_letters, names.arn("sqs", names.undelivered_queue)]),
        allow(["states:StartExecution", "states:ListExecutions", "states:DescribeStateMachine"], [on.state_machine]),
        allow(
            ["states:DescribeExecution", "states:GetExecutionHistory", "states:StopExecution"],
            [names.arn("states", f"execution:{machine}:*")],
        ),
        allow(
            ["lambda:GetFunction", "lambda:GetFunctionConfiguration", "lambda:InvokeFunction"],
            [names.live_function_arn(task) for task in ("compactor", "producer", "query")],
        ),
        allow(["logs:FilterLogEvents"], [*groups, *(f"{group}:*" for group in groups)]),
        allow(["events:EnableRule", "events:DisableRule"], [names.rule_arn(names.schedule_rule)]),
        # AWS supports no single resource for these.
        allow(
            [
                "cloudwatch:DescribeAlarms",
                "cloudwatch:GetMetricStatistics",
                "events:ListRules",
                "lambda:GetAccountSettings",
            ],
            ["*"],
        ),
    ]


KINDS: Mapping[Kind, Rights] = {"writer": writer, "reader": reader, "operator": operator}
DESCRIPTIONS: Mapping[Kind, str] = {
    "writer": "Writes deltas",
    "reader": "Reads snapshots and pending deltas, and asks the query function",
    "operator": "Runs every command of the command line",
}


def _text(
    kind: Kind, names: StackNames, config: CompactionConfig, resources: pulumi.Output[Resources]
) -> pulumi.Output[str]:
    def policy(on: Resources) -> str:
        own = KINDS[kind](Resources(*on), names)
        keys = use_keys(own, config, names.s3_endpoint(names.region))
        if kind == "operator" and config.replica_region and config.replica_kms_key_arn:
            keys.append(use_replica_key(config.replica_kms_key_arn, names.s3_endpoint(config.replica_region)))
        return json.dumps(document([*own, *keys]))

    return resources.apply(policy)


class OtherAccounts(pulumi.ComponentResource):
    """The rights of writers and readers of other accounts to the queue and to the query function.

    `objects_for_accounts` has those to the bucket, which has one policy only.
    """

    def __init__(
        self,
        names: StackNames,
        config: CompactionConfig,
        *,
        queue: sqs.Queue,
        query_function: lambda_.Alias,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("chromadb:security:OtherAccounts", "chromadb-accounts", opts=opts)
        child = pulumi.ResourceOptions(parent=self)
        if config.writer_accounts:
            sqs.QueuePolicy(
                "chromadb-delta-queue-policy",
                queue_url=queue.url,
                policy=queue.arn.apply(lambda arn: json.dumps(document([_notify(names, arn, config.writer_accounts)]))),
                opts=child,
            )
        for account in config.reader_accounts:
            lambda_.Permission(
                f"chromadb-query-permission-{account}",
                statement_id=f"reader-{account}",
                action="lambda:InvokeFunction",
                function=query_function.function_name,
                qualifier=query_function.name,
                principal=account,
                opts=child,
            )
        self.register_outputs({})


def objects_for_accounts(names: StackNames, config: CompactionConfig) -> list[Statement]:
    """Return the bucket policy's statements for writers and readers of other accounts."""
    on = Resources(names.bucket_arn(names.bucket), "", "", "", "", "")
    granted = [(config.writer_accounts, "Writers", producer), (config.reader_accounts, "Readers", query)]
    return [
        {"Sid": f"{who}{number}", "Principal": _principal(names, accounts), **statement}
        for accounts, who, policy in granted
        if accounts
        for number, statement in enumerate(s for s in policy(on) if s["Action"][0].startswith("s3:"))
    ]


def _notify(names: StackNames, queue_arn: str, accounts: tuple[str, ...]) -> Statement:
    return {"Sid": "Writers", "Principal": _principal(names, accounts), **allow(["sqs:SendMessage"], [queue_arn])}


def _principal(names: StackNames, accounts: tuple[str, ...]) -> dict[str, list[str]]:
    return {"AWS": [names.account_arn(account) for account in accounts]}
