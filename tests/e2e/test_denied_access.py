"""Every call that a role does not allow is denied: tried with each role's credentials on a running stack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from chromadb_compaction.local import server
from chromadb_compaction.settings import required
from tests.e2e.conftest import StackPool
from tests.stack import Stack

pytestmark = pytest.mark.e2e

DELTA, COMPACTED, QUARANTINED = "delta/docs/x.parquet", "compacted/docs/x.parquet", "quarantine/docs/x.parquet"
WORK, POINTER = "work/an-execution/1/collections.json", "snapshot/CURRENT"
FILE, MARKER = "snapshot/0000000001-aaaaaaaa/docs/chroma.sqlite3", "snapshot/0000000001-aaaaaaaa/cleaned.json"
KEYS = (DELTA, COMPACTED, QUARANTINED, WORK, POINTER, FILE, MARKER)
PREFIXES = ("delta/", "compacted/", "quarantine/", "work/", "snapshot/")

ARCHIVING = (
    "get delta/*",
    "get compacted/*",
    "get quarantine/*",
    "get snapshot/*",
    "put delta/*",
    "copy snapshot to delta",
    "put compacted/*",
    f"put {MARKER}",
    "delete delta/*",
)
LISTING = (
    "list everything",
    "list delta/",
    "list compacted/",
    "list quarantine/",
    "list snapshot/",
    "lock update_item",
    "queue receive",
    "dead letter",
)
ALLOWED: Mapping[str, Iterable[str]] = {
    "acquire-lock": ("lock put_item",),
    "release-lock": ("lock delete_item", "lock get_item"),
    "list-deltas": (*ARCHIVING, *LISTING, "put work/*", "put quarantine/*"),
    "merge-batch": (
        "get delta/*",
        "get work/*",
        "put work/*",
        "put quarantine/*",
        "list delta/",
        "list compacted/",
        "list everything",
        "get compacted/*",
        "lock update_item",
    ),
    "compactor": (
        "get delta/*",
        "get compacted/*",
        "list compacted/",
        "get work/*",
        "get snapshot/*",
        "put work/*",
        "put snapshot/*",
        "list delta/",
        "list snapshot/",
        "list everything",
        "lock update_item",
        "start",
    ),
    "clean-up": (*ARCHIVING, *LISTING, "get work/*", "put quarantine/*", f"delete {FILE}", f"delete {MARKER}"),
    "producer": ("put delta/*", "queue send"),
    "query": ("get snapshot/*", "list snapshot/", "get delta/*", "list delta/"),
}
"""The attempts that each function's role allows. Permission to list everything also shows that a key is missing."""

DENIED = {"AccessDenied", "AccessDeniedException"}
AUTHORISED = {"InvalidExecutionInput"}
"""The error of Step Functions for an invalid execution, which proves that IAM has allowed the call."""

SESSION = boto3.Session(region_name=server.REGION)
"""One session for all roles, so that the descriptions of the services are read only once."""

Denials = Mapping[str, Mapping[str, bool]]
"""True for each function and attempt that IAM denied."""


class Role:
    """AWS with the credentials of one function's role."""

    def __init__(self, stack: Stack, function: str) -> None:
        arn = stack.functions.get_function(FunctionName=stack.function_name(function))["Configuration"]["Role"]
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
            **{f"{verb} {key}": partial(on_key[verb], Bucket=bucket, Key=key) for verb in on_key for key in KEYS},
            "copy snapshot to delta": partial(
                s3.copy_object, Bucket=bucket, Key=DELTA, CopySource={"Bucket": bucket, "Key": POINTER}
            ),
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


@pytest.fixture(scope="module")
def denials(stack_pool: StackPool) -> Denials:
    """Make every attempt as every function, in a bucket that has all the objects."""
    stack = stack_pool.take({}, {})
    found = {}
    for function in ALLOWED:
        stack.put_objects(dict.fromkeys(KEYS, b"content"))
        attempts = Role(stack, function).attempts()
        found[function] = {name: is_denied(attempt) for name, attempt in attempts.items()}
    stack_pool.put_back(stack)
    return found


def functions_allowed(denials: Denials, attempt: str) -> list[str]:
    """Return the functions whose attempt IAM allowed."""
    return [function for function, attempts in denials.items() if not attempts[attempt]]


@pytest.mark.parametrize("function", ALLOWED)
def test_a_function_may_do_only_what_it_needs(denials: Denials, function: str) -> None:
    assert denials[function] == {
        attempt: not any(fnmatchcase(attempt, pattern) for pattern in ALLOWED[function])
        for attempt in denials[function]
    }


def test_the_query_function_cannot_list_the_bucket_by_leaving_out_the_prefix(denials: Denials) -> None:
    assert denials["query"]["list everything"]


@pytest.mark.parametrize("key", KEYS)
def test_the_query_function_cannot_write_or_delete_anything(denials: Denials, key: str) -> None:
    assert denials["query"][f"put {key}"]
    assert denials["query"][f"delete {key}"]


@pytest.mark.parametrize("attempt", [f"get {POINTER}", f"get {FILE}", "list snapshot/", "copy snapshot to delta"])
def test_a_producer_cannot_read_or_copy_snapshots(denials: Denials, attempt: str) -> None:
    assert denials["producer"][attempt]


@pytest.mark.parametrize("verb", ["get_item", "put_item", "update_item", "delete_item", "scan"])
@pytest.mark.parametrize("function", ["producer", "query"])
def test_producers_and_queries_cannot_access_the_lock(denials: Denials, function: str, verb: str) -> None:
    assert denials[function][f"lock {verb}"]


@pytest.mark.parametrize("key", [POINTER, FILE])
def test_only_the_compactor_can_write_snapshots(denials: Denials, key: str) -> None:
    assert functions_allowed(denials, f"put {key}") == ["compactor"]


def test_only_producers_and_functions_that_restore_deltas_can_write_deltas(denials: Denials) -> None:
    assert functions_allowed(denials, f"put {DELTA}") == ["list-deltas", "clean-up", "producer"]


@pytest.mark.parametrize(
    "attempt",
    [
        f"delete {POINTER}",
        f"delete {QUARANTINED}",
        f"delete {COMPACTED}",
        "delete a version",
        "change the bucket's rules",
        "queue purge",
        "read dead letters",
        "lock scan",
    ],
)
def test_no_function_can_remove_what_an_operator_may_need(denials: Denials, attempt: str) -> None:
    assert functions_allowed(denials, attempt) == []
