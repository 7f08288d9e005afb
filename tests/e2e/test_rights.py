"""What a role does not allow is refused: each attempt is made with each role's own credentials, on a running stack."""

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

SETTLING = (
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
    "list delta/",
    "list compacted/",
    "list quarantine/",
    "list snapshot/",
    "lock update_item",
    "queue receive",
    "dead letter",
)
MAY: Mapping[str, Iterable[str]] = {
    "acquire-lock": ("lock put_item",),
    "release-lock": ("lock delete_item", "lock get_item"),
    "list-deltas": (*SETTLING, *LISTING, "put work/*"),
    "merge-batch": (
        "get delta/*",
        "get work/*",
        "put work/*",
        "put quarantine/*",
        "list delta/",
        "lock update_item",
    ),
    "compactor": (
        "get delta/*",
        "get work/*",
        "get snapshot/*",
        "put work/*",
        "put snapshot/*",
        "list delta/",
        "list snapshot/",
        "lock update_item",
        "start",
    ),
    "clean-up": (*SETTLING, *LISTING, "get work/*", f"delete {FILE}", f"delete {MARKER}"),
    "producer": ("put delta/*", "queue send"),
    "query": ("get snapshot/*", "list snapshot/"),
}
"""What each function may, of all that is attempted here. Listing stands for learning that a key is missing, too."""

REFUSED = {"AccessDenied", "AccessDeniedException"}
LET_THROUGH = {"InvalidExecutionInput"}
"""What an execution that nobody wants is answered by Step Functions itself, once IAM has let it through."""

SESSION = boto3.Session(region_name=server.REGION)
"""Shared, so that the services' descriptions are read once and not for every role."""

Refusals = Mapping[str, Mapping[str, bool]]
"""By function and attempt, whether IAM refused."""


class Role:
    """AWS as one function sees it."""

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
        """Return everything that a function could try, by name; what destroys comes last."""
        s3, bucket = self._client("s3"), self._stack.bucket
        on_key = {
            "get": s3.get_object,
            "put": partial(s3.put_object, Body=b"written by a test"),
            "delete": s3.delete_object,
        }
        return {
            **{f"list {prefix}": partial(s3.list_objects_v2, Bucket=bucket, Prefix=prefix) for prefix in PREFIXES},
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


def is_refused(attempt: Callable[[], object]) -> bool:
    """Say whether IAM refused. Any other error, such as a missing object, is a mistake in the test."""
    try:
        attempt()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in REFUSED | LET_THROUGH:
            raise
        return code in REFUSED
    return False


@pytest.fixture(scope="module")
def refused(stack_pool: StackPool) -> Refusals:
    """Make every attempt as every function, in a bucket where all that is attempted exists."""
    stack = stack_pool.take({}, {})
    found = {}
    for function in MAY:
        stack.put_objects(dict.fromkeys(KEYS, b"there"))
        attempts = Role(stack, function).attempts()
        found[function] = {name: is_refused(attempt) for name, attempt in attempts.items()}
    stack_pool.put_back(stack)
    return found


def may(refused: Refusals, attempt: str) -> list[str]:
    """Return the functions that were not refused an attempt."""
    return [function for function, attempts in refused.items() if not attempts[attempt]]


@pytest.mark.parametrize("function", MAY)
def test_all_is_refused_that_a_function_need_not_do(refused: Refusals, function: str) -> None:
    assert refused[function] == {
        attempt: not any(fnmatchcase(attempt, pattern) for pattern in MAY[function]) for attempt in refused[function]
    }


@pytest.mark.parametrize("verb", ["get", "put", "delete"])
def test_the_query_function_can_do_nothing_to_deltas(refused: Refusals, verb: str) -> None:
    assert refused["query"][f"{verb} {DELTA}"]


@pytest.mark.parametrize("key", KEYS)
def test_the_query_function_can_neither_write_nor_delete_anything(refused: Refusals, key: str) -> None:
    assert refused["query"][f"put {key}"]
    assert refused["query"][f"delete {key}"]


@pytest.mark.parametrize("attempt", [f"get {POINTER}", f"get {FILE}", "list snapshot/", "copy snapshot to delta"])
def test_a_producer_cannot_read_snapshots_not_even_by_copying_them(refused: Refusals, attempt: str) -> None:
    assert refused["producer"][attempt]


@pytest.mark.parametrize("verb", ["get_item", "put_item", "update_item", "delete_item", "scan"])
@pytest.mark.parametrize("function", ["producer", "query"])
def test_producers_and_queries_cannot_touch_the_lock(refused: Refusals, function: str, verb: str) -> None:
    assert refused[function][f"lock {verb}"]


@pytest.mark.parametrize("key", [POINTER, FILE])
def test_nobody_but_the_compactor_can_write_snapshots(refused: Refusals, key: str) -> None:
    assert may(refused, f"put {key}") == ["compactor"]


def test_nobody_can_write_deltas_but_a_producer_and_whoever_may_have_to_put_one_back(refused: Refusals) -> None:
    assert may(refused, f"put {DELTA}") == ["list-deltas", "clean-up", "producer"]


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
def test_nobody_can_take_away_what_an_operator_may_need(refused: Refusals, attempt: str) -> None:
    assert may(refused, attempt) == []
