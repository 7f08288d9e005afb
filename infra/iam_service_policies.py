"""The rights that AWS services need to act for the stack: traces, network, keys, replication, audit."""

from __future__ import annotations

from typing import Any, NamedTuple

from infra.config import CompactionConfig
from infra.iam_policies import Statement, allow
from infra.names import REPLICATED, StackNames

DECRYPT = "kms:Decrypt"
_KEY_ACTIONS = {"s3:GetObject": DECRYPT, "s3:PutObject": "kms:GenerateDataKey"}


def trace_calls() -> Statement:
    """Allow Lambda to send a function's traces. X-Ray does not support resources."""
    return allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"])


def trace_executions() -> Statement:
    """Allow Step Functions to send an execution's traces, sampled by the account's rules."""
    sampling = ["xray:GetSamplingRules", "xray:GetSamplingTargets"]
    return allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords", *sampling], ["*"])


def attach_to_network(function_arn: str) -> list[Statement]:
    """Allow Lambda to attach a function to the VPC, and deny the same to the function's own code.

    Functions of one subnet and security group share a network interface, so no resource can be named. Only calls
    by the function's code carry the function's ARN.
    """
    interfaces = [f"ec2:{verb}NetworkInterface" for verb in ("Create", "Delete")]
    described = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
    addresses = ["ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
    allowed = allow([*interfaces, *described, *addresses], ["*"])
    condition = {"ArnLike": {"lambda:SourceFunctionArn": [function_arn, f"{function_arn}:*"]}}
    return [allowed, {**allowed, "Effect": "Deny", "Condition": condition}]


def use_keys(statements: list[Statement], config: CompactionConfig, s3_endpoint: str) -> list[Statement]:
    """Return the rights to the bucket's keys that match the rights to its objects.

    S3 encrypts a new object with the present key. An object keeps the key with which it was written, so its readers
    need the former keys too.
    """
    granted = {action for statement in statements for action in statement["Action"]}
    actions = [key_action for action, key_action in _KEY_ACTIONS.items() if action in granted]
    through_s3 = _through_s3(s3_endpoint)
    former = list(config.former_kms_key_arns) if DECRYPT in actions else []
    return [
        *([allow(actions, [config.kms_key_arn], through_s3)] if config.kms_key_arn and actions else []),
        *([allow([DECRYPT], former, through_s3)] if former else []),
    ]


def use_replica_key(key: str, s3_endpoint: str) -> Statement:
    """Return the rights to the key of the copies, for a person who completes and checks the replica."""
    return allow(list(_KEY_ACTIONS.values()), [key], _through_s3(s3_endpoint))


class ReplicaKeys(NamedTuple):
    """The keys of the objects and of their copies, and the endpoint of S3 in the region of each."""

    keys: tuple[str, ...]
    endpoint: str
    replica_key: str
    replica_endpoint: str


def replicate(bucket: str, replica: str, keys: ReplicaKeys | None) -> list[Statement]:
    """Allow S3 to copy published snapshots and pending deltas, and their deletions, into another bucket."""
    reads = ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"]
    writes = ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"]
    copying = [
        allow(["s3:GetReplicationConfiguration", "s3:ListBucket"], [bucket]),
        allow(reads, [f"{bucket}/{prefix}*" for prefix in REPLICATED.values()]),
        allow(writes, [f"{replica}/{prefix}*" for prefix in REPLICATED.values()]),
    ]
    if keys is None:
        return copying
    return [
        *copying,
        allow([DECRYPT], list(keys.keys), _through_s3(keys.endpoint)),
        allow(["kms:Encrypt"], [keys.replica_key], _through_s3(keys.replica_endpoint)),
    ]


def receive_audit_logs(bucket_arn: str, trail_arn: str, account: str) -> list[Statement]:
    """Return the bucket policy's statements that let one trail write its log."""
    principal = {"Service": "cloudtrail.amazonaws.com"}
    of_this_trail = {"aws:SourceArn": trail_arn}
    owned = {"s3:x-amz-acl": "bucket-owner-full-control"}
    check = allow(["s3:GetBucketAcl"], [bucket_arn], {"StringEquals": of_this_trail})
    logs = f"{bucket_arn}/AWSLogs/{account}/*"
    write = allow(["s3:PutObject"], [logs], {"StringEquals": {**of_this_trail, **owned}})
    return [
        {"Sid": "TrailChecksBucket", "Principal": principal, **check},
        {"Sid": "TrailWritesLog", "Principal": principal, **write},
    ]


def refuse_other_accounts(account: str) -> list[Statement]:
    """Return the policy of an endpoint that other workloads of the subnets use too.

    It refuses credentials of other accounts, with which data could be carried away. Requests without credentials, such
    as those for packages of the operating system, have no account.
    """
    everything: Statement = {"Principal": "*", "Action": "*", "Resource": "*"}
    foreign = {"Null": {"aws:PrincipalAccount": "false"}, "StringNotEquals": {"aws:PrincipalAccount": account}}
    return [{"Effect": "Allow", **everything}, {"Effect": "Deny", **everything, "Condition": foreign}]


def reach(service: str, names: StackNames) -> list[Statement]:
    """Return the policy of an endpoint that only the functions can reach: the account may use the stack's resources."""
    resources = {
        "sqs": [names.arn("sqs", names.queue), names.arn("sqs", names.dead_letter_queue)],
        "states": [names.state_machine_arn],
    }[service]
    condition = {"StringEquals": {"aws:PrincipalAccount": names.account}}
    return [{"Principal": "*", **allow([f"{service}:*"], resources, condition)}]


def keep_undelivered(queue_arn: str, names: StackNames) -> list[Statement]:
    """Return the policy of the queue for undelivered events: the stack's rules may send to it.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    senders = (names.schedule_rule, names.early_rule, names.unfinished_rule, names.prefetch_rule)
    rules = [names.rule_arn(rule) for rule in senders]
    statement = allow(["sqs:SendMessage"], [queue_arn], {"ArnEquals": {"aws:SourceArn": rules}})
    return [{"Sid": "RulesKeepEvents", "Principal": {"Service": "events.amazonaws.com"}, **statement}]


def notify_topic(topic_arn: str, names: StackNames, *, budget: bool) -> list[Statement]:
    """Return the topic policy's statements that let the stack's alarms, and its budget if it has one, notify it."""
    sources = {"cloudwatch": names.alarm_arn("*")}
    if budget:
        # https://docs.aws.amazon.com/cost-management/latest/userguide/budgets-sns-policy.html
        sources["budgets"] = names.budgets_arn
    return [
        {
            "Sid": f"{service.title()}Notifies",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            **allow(
                ["sns:Publish"],
                [topic_arn],
                {"ArnLike": {"aws:SourceArn": source}, "StringEquals": {"aws:SourceAccount": names.account}},
            ),
        }
        for service, source in sources.items()
    ]


def _through_s3(endpoint: str) -> dict[str, Any]:
    return {"StringEquals": {"kms:ViaService": [endpoint]}}
