"""The permissions that a role's policy grants, and those that a function's recorded calls need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from chromadb_compaction.local.call_log import Call
from chromadb_compaction.local.resources.policies import BATCH_OF
from tests.stack import Stack

NOT_FOUND = 404
THE_LOCK = "the lock"

OTHERS = {
    ("dynamodb", "PutItem"): "dynamodb:PutItem",
    ("dynamodb", "UpdateItem"): "dynamodb:UpdateItem",
    ("dynamodb", "DeleteItem"): "dynamodb:DeleteItem",
    ("dynamodb", "GetItem"): "dynamodb:GetItem",
    ("sqs", "GetQueueAttributes"): "sqs:GetQueueAttributes",
    ("sqs", "ReceiveMessage"): "sqs:ReceiveMessage",
    ("sqs", "DeleteMessageBatch"): "sqs:DeleteMessage",
    ("sqs", "SendMessageBatch"): "sqs:SendMessage",
    ("stepfunctions", "StartExecution"): "states:StartExecution",
}
"""The action that each operation of the other services needs. The test fails with the name of one that is missing."""
PARTS = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")


class Permission(NamedTuple):
    """An IAM action and its resource: a key if it is needed, a pattern of keys if it is granted."""

    action: str
    resource: str

    def covers(self, needed: Permission) -> bool:
        """Return whether this permission grants a needed one."""
        return self.action == needed.action and fnmatchcase(needed.resource, self.resource)


def granted(stack: Stack, function: str) -> set[Permission]:
    """Return the permissions that IAM lists for the function's role."""
    iam, role = stack.deployed.client("iam"), stack.function_name(function)
    found: set[Permission] = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for statement in document["Statement"]:
            assert statement["Effect"] == "Allow"
            # Only the local server has batch actions.
            actions = [action for action in statement["Action"] if action not in BATCH_OF.values()]
            found.update(
                Permission(action, resource) for action in actions for resource in _resources(statement, stack)
            )
    return found


def _resources(statement: dict[str, Any], stack: Stack) -> Iterator[str]:
    conditions = [values for operator in statement.get("Condition", {}).values() for values in operator.items()]
    for key, values in conditions:
        if key == "dynamodb:LeadingKeys":
            assert values == [f"LOCK#{stack.settings.lock_id}"]
            yield THE_LOCK
        else:
            assert key == "s3:prefix"
            yield from values
    if not conditions:
        yield from (resource.removeprefix(f"arn:aws:s3:::{stack.bucket}/") for resource in statement["Resource"])


def needed(calls: Iterable[Call], stack: Stack) -> set[Permission]:
    """Return every permission that the calls need on AWS, even where the local server needs less."""
    return {need for call in calls for need in (_of_s3(call) if call.service == "s3" else _of_others(call, stack))}


def _of_s3(call: Call) -> Iterator[Permission]:
    asked, key = call.parameters, call.parameters.get("Key", "")
    match call.operation:
        case "GetObject" | "HeadObject":
            yield Permission("s3:GetObject", key)
        case "ListObjectsV2":
            yield Permission("s3:ListBucket", asked["Prefix"])
        case "PutObject":
            yield Permission("s3:PutObject", key)
            if "IfMatch" in asked:
                yield Permission("s3:GetObject", key)
        case "CopyObject":
            source = key = asked["CopySource"]["Key"]
            yield from (Permission("s3:GetObject", source), Permission("s3:PutObject", asked["Key"]))
            # A copy includes the tags that a delta may have.
            yield from (Permission("s3:GetObjectTagging", source), Permission("s3:PutObjectTagging", asked["Key"]))
        case "DeleteObjects":
            for each in asked["Delete"]["Objects"]:
                yield Permission("s3:DeleteObject", each["Key"])
                if "ETag" in each:
                    yield Permission("s3:GetObject", each["Key"])
        case operation:
            assert operation in PARTS, f"add the action that {operation} needs"
            yield Permission("s3:PutObject", key)
    if call.status == NOT_FOUND:
        # S3 answers 404 only to callers that may list. All others get 403.
        yield Permission("s3:ListBucket", key)


def _of_others(call: Call, stack: Stack) -> Iterator[Permission]:
    yield Permission(OTHERS[call.service, call.operation], _resource(call.parameters, stack))


def _resource(parameters: dict[str, Any], stack: Stack) -> str:
    if "TableName" in parameters:
        assert parameters["TableName"] == stack.settings.dynamodb_table
        return THE_LOCK
    if "QueueUrl" in parameters:
        attributes = stack.sqs.get_queue_attributes(QueueUrl=parameters["QueueUrl"], AttributeNames=["QueueArn"])
        return attributes["Attributes"]["QueueArn"]
    machine: str = parameters["stateMachineArn"]
    return machine
