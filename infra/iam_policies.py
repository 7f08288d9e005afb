"""The rights of each function: pure functions from ARNs to policy statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from chromadb_compaction.layout import (
    ATTEMPTS_PREFIX,
    COMPACTED_PREFIX,
    DELTA_PREFIX,
    QUARANTINE_PREFIX,
    RUNNING_PREFIX,
    SNAPSHOT_PREFIX,
    WORK_PREFIX,
)

Statement = dict[str, Any]
Document = dict[str, Any]


class Resources(NamedTuple):
    """The ARNs of the resources that the functions use. `lock_id` limits the table to one item."""

    bucket: str
    table: str
    lock_id: str
    queue: str
    dead_letters: str
    state_machine: str


Policy = Callable[[Resources], list[Statement]]


def document(statements: list[Statement]) -> Document:
    """Return the policy document that holds `statements`."""
    return {"Version": "2012-10-17", "Statement": statements}


def allow(actions: list[str], resources: list[str], condition: dict[str, Any] | None = None) -> Statement:
    """Return a statement that allows exactly `actions` on exactly `resources`."""
    statement: Statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    return {**statement, "Condition": condition} if condition else statement


def trust(service: str, *, account: str | None = None, source: str | None = None) -> Document:
    """Return the trust policy of a role that one AWS service may assume: for the account, and for one resource in it.

    A condition that the service does not fulfil would lock it out, so give only those that it documents.
    """
    given = {"StringEquals": {"aws:SourceAccount": account}, "ArnLike": {"aws:SourceArn": source}}
    conditions = {operator: values for operator, values in given.items() if all(values.values())}
    statement: Statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return document([{**statement, "Condition": conditions} if conditions else statement])


def write_logs(log_group_arn: str) -> Statement:
    """Allow writing to one log group. Pulumi creates the group, so no role may create one."""
    return allow(["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group_arn.removesuffix(':*')}:*"])


def acquire_lock(on: Resources) -> list[Statement]:
    """Write the lock item. A failed condition returns the holder, so no read is needed."""
    return [_lock(on, "PutItem")]


def release_lock(on: Resources) -> list[Statement]:
    """Delete the lock item, or read its current holder."""
    return [_lock(on, "DeleteItem", "GetItem")]


def list_deltas(on: Resources) -> list[Statement]:
    """Finish the clean-up that an earlier execution left undone, then list pending deltas and plan batches."""
    return [
        _list(on, DELTA_PREFIX, COMPACTED_PREFIX, QUARANTINE_PREFIX, SNAPSHOT_PREFIX, ATTEMPTS_PREFIX),
        *_archive(on),
        _objects(on, ["PutObject"], f"{WORK_PREFIX}*"),
        # The marks of killed processes.
        _objects(on, ["GetObject", "DeleteObject"], f"{RUNNING_PREFIX}*"),
    ]


def merge_batch(on: Resources) -> list[Statement]:
    """Read deltas and what was merged under their keys, write a run and a report, copy bad deltas into quarantine."""
    return [
        _renew(on),
        _list(on, DELTA_PREFIX, COMPACTED_PREFIX),
        _objects(on, ["GetObject", "GetObjectTagging"], f"{DELTA_PREFIX}*"),
        _objects(on, ["GetObject"], f"{COMPACTED_PREFIX}*"),
        _objects(on, ["GetObject", "PutObject", "AbortMultipartUpload"], f"{WORK_PREFIX}*"),
        _objects(on, ["DeleteObject"], f"{RUNNING_PREFIX}*"),
        _objects(on, ["PutObject", "PutObjectTagging"], f"{QUARANTINE_PREFIX}*"),
    ]


def compactor(on: Resources) -> list[Statement]:
    """Read the base and the runs, write and publish the next snapshot. On an empty event, start an execution."""
    return [
        _renew(on),
        _list(on, DELTA_PREFIX, COMPACTED_PREFIX, SNAPSHOT_PREFIX),
        _objects(on, ["GetObject"], f"{DELTA_PREFIX}*", f"{COMPACTED_PREFIX}*"),
        _objects(on, ["GetObject", "PutObject"], f"{WORK_PREFIX}*"),
        _objects(on, ["DeleteObject"], f"{RUNNING_PREFIX}*"),
        _objects(on, ["GetObject", "PutObject", "AbortMultipartUpload"], f"{SNAPSHOT_PREFIX}*"),
        allow(["states:StartExecution"], [on.state_machine]),
    ]


def fold_partitions(on: Resources) -> list[Statement]:
    """Read the base and the runs, write the files of folded collections, but not snapshot/CURRENT."""
    return [
        _renew(on),
        _list(on, SNAPSHOT_PREFIX),
        _objects(on, ["GetObject", "PutObject"], f"{WORK_PREFIX}*"),
        _objects(on, ["DeleteObject"], f"{RUNNING_PREFIX}*"),
        _objects(on, ["GetObject"], f"{SNAPSHOT_PREFIX}*"),
        _objects(on, ["PutObject", "AbortMultipartUpload"], f"{SNAPSHOT_PREFIX}*/*"),
    ]


def clean_up(on: Resources) -> list[Statement]:
    """Move deltas out of delta/, delete their notifications, prune snapshots.

    It may delete objects, but not their versions. snapshot/*/* does not match snapshot/CURRENT.
    """
    return [
        _list(on, DELTA_PREFIX, COMPACTED_PREFIX, QUARANTINE_PREFIX, SNAPSHOT_PREFIX),
        *_archive(on),
        _objects(on, ["GetObject"], f"{WORK_PREFIX}*"),
        _objects(on, ["PutObject"], f"{SNAPSHOT_PREFIX}*/pruning-*.json", f"{SNAPSHOT_PREFIX}kept.json"),
        _objects(on, ["DeleteObject"], f"{SNAPSHOT_PREFIX}*/*"),
    ]


def producer(on: Resources) -> list[Statement]:
    """Write deltas and notify the queue."""
    return [_objects(on, ["PutObject"], f"{DELTA_PREFIX}*"), allow(["sqs:SendMessage"], [on.queue])]


def query(on: Resources) -> list[Statement]:
    """Read published snapshots and pending deltas, and nothing else: not even the names of other objects."""
    read = (SNAPSHOT_PREFIX, DELTA_PREFIX)
    return [_list_only(on, *read), _objects(on, ["GetObject"], *(f"{prefix}*" for prefix in read))]


def run_workflow(functions: list[str]) -> list[Statement]:
    """Let the state machine call every version of its functions, and deliver its log.

    An execution calls the versions that were published when it started, also after a deployment. The log delivery
    actions do not support resources; AWS documents "*" for them.
    """
    delivery = ["Create", "Get", "Update", "Delete", "List"]
    return [
        allow(["lambda:InvokeFunction"], [f"{function}:*" for function in functions]),
        allow(
            [
                *(f"logs:{verb}LogDeliver{'ies' if verb == 'List' else 'y'}" for verb in delivery),
                "logs:PutResourcePolicy",
                "logs:DescribeResourcePolicies",
                "logs:DescribeLogGroups",
            ],
            ["*"],
        ),
    ]


def start_workflow(state_machine: str) -> list[Statement]:
    """Let the schedule start executions."""
    return [allow(["states:StartExecution"], [state_machine])]


def _archive(on: Resources) -> list[Statement]:
    """Archive each delta of a published pass, or report it as quarantined."""
    return [
        _renew(on),
        _objects(on, ["DeleteObject"], f"{DELTA_PREFIX}*"),
        # Both ways: a delta that was moved during a rollback is copied back.
        _objects(
            on,
            ["GetObject", "GetObjectTagging", "PutObject", "PutObjectTagging"],
            f"{DELTA_PREFIX}*",
            f"{COMPACTED_PREFIX}*",
        ),
        _objects(on, ["GetObject"], f"{QUARANTINE_PREFIX}*", f"{SNAPSHOT_PREFIX}*"),
        # For a delta that was written again with other content before it was archived.
        _objects(on, ["PutObject", "PutObjectTagging"], f"{QUARANTINE_PREFIX}*"),
        _objects(on, ["PutObject"], f"{SNAPSHOT_PREFIX}*/cleaned.json"),
        allow(["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], [on.queue]),
        allow(["sqs:SendMessage"], [on.dead_letters]),
    ]


def _lock(on: Resources, *actions: str) -> Statement:
    leading = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [f"LOCK#{on.lock_id}"]}}
    return allow([f"dynamodb:{action}" for action in actions], [on.table], leading)


def _renew(on: Resources) -> Statement:
    return _lock(on, "UpdateItem")


def _objects(on: Resources, actions: list[str], *keys: str) -> Statement:
    return allow([f"s3:{action}" for action in actions], [f"{on.bucket}/{key}" for key in keys])


def _list_only(on: Resources, *prefixes: str) -> Statement:
    # Without IfExists a request without a prefix is denied. S3 then answers 403 for a missing key, because a GetObject
    # has no prefix, and aws/unreadable.py lists that key to tell it from a denied one.
    return allow(["s3:ListBucket"], [on.bucket], {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}})


def _list(on: Resources, *prefixes: str) -> Statement:
    # Without ListBucket S3 answers 403, not 404, for a missing key. So a function gets it for the prefixes that it
    # lists and for those where a key may be missing. IfExists: a GetObject has no prefix to compare. The workflow's
    # functions need the 404: a repeated CopyObject or conditional delete finds its key gone, and a neighbour's 404
    # tells a single unreadable delta from a role without permission.
    condition = {"StringLikeIfExists": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}}
    return allow(["s3:ListBucket"], [on.bucket], condition)
