"""Every call that a role could try, on a stack that has all the objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import boto3
from botocore.exceptions import ClientError

from chromadb_compaction.local import server
from chromadb_compaction.settings import required
from tests.stack import Stack

DELTA, COMPACTED, QUARANTINED = "delta/docs/x.parquet", "compacted/docs/x.parquet", "quarantine/docs/x.parquet"
WORK, POINTER = "work/an-execution/1/collections.json", "snapshot/CURRENT"
FILE, MARKER = "snapshot/0000000001-aaaaaaaa/docs/chroma.sqlite3", "snapshot/0000000001-aaaaaaaa/cleaned.json"
KEYS = (DELTA, COMPACTED, QUARANTINED, WORK, POINTER, FILE, MARKER)
PREFIXES = ("delta/", "compacted/", "quarantine/", "work/", "snapshot/")

DENIED = {"AccessDenied", "AccessDeniedException"}
AUTHORISED = {"InvalidExecutionInput"}
"""The error of Step Functions for an invalid execution, which proves that IAM has allowed the call."""

SESSION = boto3.Session(region_name=server.REGION)
"""One session for all roles, so that the descriptions of the services are read only once."""


class Role:
    """AWS with the credentials of one role, given by its ARN."""

    def __init__(self, stack: Stack, arn: str) -> None:
        given = stack.deployed.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        self._client = cache(
            partial(
                SESSION.client,
                aws_access_key_id=given["AccessKeyId"],
                aws_secret_access_key=given["SecretAccessKey"],
                aws_session_token=given["SessionToken"],
                endpoint_url=stack.deployed.endpoint,
            )
        )
        self._stack = stack

    def attempts(self) -> dict[str, Callable[[], object]]:
        """Return every call that a function could try, by name. Destructive calls come last."""
        s3, bucket = self._client("s3"), self._stack.bucket
        on_key = {
            "get": s3.get_object,
            "put": partial(s3.put_object, Body=b"written by a test"),
            "delete": s3.delete_object,
        }
        return {
            **{f"list {prefix}": partial(s3.list_objects_v2, Bucket=bucket, Prefix=prefix) for prefix in PREFIXES},
            "list everything": partial(s3.list_objects_v2, Bucket=bucket),
            "copy snapshot to delta": partial(
                s3.copy_object, Bucket=bucket, Key=DELTA, CopySource={"Bucket": bucket, "Key": POINTER}
            ),
            **{f"{verb} {key}": partial(on_key[verb], Bucket=bucket, Key=key) for verb in on_key for key in KEYS},
            "delete a version": partial(s3.delete_object, Bucket=bucket, Key=DELTA, VersionId=self._version(DELTA)),
            "change the bucket's rules": partial(s3.delete_bucket_lifecycle, Bucket=bucket),
            **self._on_lock(),
            **self._on_queues(),
            "start": partial(
                self._client("stepfunctions").start_execution,
                stateMachineArn=required(self._stack.settings.state_machine_arn, "STATE_MACHINE_ARN"),
                input="{",
            ),
        }

    def _on_lock(self) -> dict[str, Callable[[], object]]:
        dynamodb, lock = self._client("dynamodb"), {"S": f"LOCK#{self._stack.settings.lock_id}"}
        key = {"PK": lock, "SK": lock}
        on_item: dict[str, dict[str, Any]] = {
            "get_item": {"Key": key},
            "put_item": {"Item": key},
            "update_item": {"Key": key},
            "delete_item": {"Key": key},
            "scan": {},
        }
        table = required(self._stack.settings.dynamodb_table, "DYNAMODB_TABLE")
        return {
            f"lock {verb}": partial(getattr(dynamodb, verb), TableName=table, **named)
            for verb, named in on_item.items()
        }

    def _on_queues(self) -> dict[str, Callable[[], object]]:
        sqs, settings = self._client("sqs"), self._stack.settings
        queue = required(settings.delta_queue_url, "DELTA_QUEUE_URL")
        dead_letters = required(settings.delta_dlq_url, "DELTA_DLQ_URL")
        return {
            "queue send": partial(sqs.send_message, QueueUrl=queue, MessageBody="{}"),
            "queue receive": partial(sqs.receive_message, QueueUrl=queue),
            "queue purge": partial(sqs.purge_queue, QueueUrl=queue),
            "dead letter": partial(sqs.send_message, QueueUrl=dead_letters, MessageBody="{}"),
            "read dead letters": partial(sqs.receive_message, QueueUrl=dead_letters),
        }

    def _version(self, key: str) -> str:
        (version, *_) = self._stack.s3.list_object_versions(Bucket=self._stack.bucket, Prefix=key)["Versions"]
        return version["VersionId"]


def is_denied(attempt: Callable[[], object]) -> bool:
    """Return whether IAM denied the call. Any other error, such as a missing object, is a mistake in the test."""
    try:
        attempt()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in DENIED | AUTHORISED:
            raise
        return code in DENIED
    return False
