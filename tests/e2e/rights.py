"""What a role's policy grants, and what a function's recorded calls need of it, in the same terms."""

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
    ("sqs", "ReceiveMessage"): "sqs:ReceiveMessage",
    ("sqs", "DeleteMessageBatch"): "sqs:DeleteMessage",
    ("sqs", "SendMessageBatch"): "sqs:SendMessage",
    ("stepfunctions", "StartExecution"): "states:StartExecution",
}
"""The action that each operation of the other services needs. One that is not here fails the test by its name."""
PARTS = ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")


class Right(NamedTuple):
    """An IAM action, and the place where it is needed (a key) or granted (a pattern of keys)."""

    action: str
    place: str

    def covers(self, needed: Right) -> bool:
        """Say whether a right that is needed follows from this one."""
        return self.action == needed.action and fnmatchcase(needed.place, self.place)


def granted(stack: Stack, function: str) -> set[Right]:
    """Return what the function's role may do, as IAM knows it."""
    iam, role = stack.deployed.client("iam"), stack.function_name(function)
    found: set[Right] = set()
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for statement in document["Statement"]:
            assert statement["Effect"] == "Allow"
            # Batch actions are the local server's own: AWS has none.
            actions = [action for action in statement["Action"] if action not in BATCH_OF.values()]
            found.update(Right(action, place) for action in actions for place in _places(statement, stack))
    return found


def _places(statement: dict[str, Any], stack: Stack) -> Iterator[str]:
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


def needed(calls: Iterable[Call], stack: Stack) -> set[Right]:
    """Return every right that the calls need on AWS, be it more than the local server asks for."""
    return {right for call in calls for right in (_of_s3(call) if call.service == "s3" else _of_others(call, stack))}


def _of_s3(call: Call) -> Iterator[Right]:
    asked, key = call.parameters, call.parameters.get("Key", "")
    match call.operation:
        case "GetObject" | "HeadObject":
            yield Right("s3:GetObject", key)
        case "ListObjectsV2":
            yield Right("s3:ListBucket", asked["Prefix"])
        case "PutObject":
            yield Right("s3:PutObject", key)
            if "IfMatch" in asked:
                yield Right("s3:GetObject", key)
        case "CopyObject":
            source = key = asked["CopySource"]["Key"]
            yield from (Right("s3:GetObject", source), Right("s3:PutObject", asked["Key"]))
            # A delta may carry tags, which a copy takes along.
            yield from (Right("s3:GetObjectTagging", source), Right("s3:PutObjectTagging", asked["Key"]))
        case "DeleteObjects":
            for each in asked["Delete"]["Objects"]:
                yield Right("s3:DeleteObject", each["Key"])
                if "ETag" in each:
                    yield Right("s3:GetObject", each["Key"])
        case operation:
            assert operation in PARTS, f"which action does {operation} need?"
            yield Right("s3:PutObject", key)
    if call.status == NOT_FOUND:
        # Only who may list is told so: anybody else gets 403.
        yield Right("s3:ListBucket", key)


def _of_others(call: Call, stack: Stack) -> Iterator[Right]:
    yield Right(OTHERS[call.service, call.operation], _resource(call.parameters, stack))


def _resource(parameters: dict[str, Any], stack: Stack) -> str:
    if "TableName" in parameters:
        assert parameters["TableName"] == stack.settings.dynamodb_table
        return THE_LOCK
    if "QueueUrl" in parameters:
        attributes = stack.sqs.get_queue_attributes(QueueUrl=parameters["QueueUrl"], AttributeNames=["QueueArn"])
        return attributes["Attributes"]["QueueArn"]
    machine: str = parameters["stateMachineArn"]
    return machine
