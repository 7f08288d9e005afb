"""Each function's role allows exactly the calls that the function makes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chromadb_compaction.local.call_log import read_calls
from chromadb_compaction.settings import required
from tests.e2e.conftest import DeployStack
from tests.e2e.model import Delta, Row
from tests.e2e.permissions import Permission, granted, needed
from tests.stack import Stack

pytestmark = pytest.mark.e2e

BY_HAND = {"execution": "arn:aws:states:us-east-1:000000000000:execution:chromadb-compaction-local:by-hand"}
QUESTION = {"collection": "docs", "query_embeddings": [[1.0, 0.0]], "n_results": 1}
FUNCTIONS = (
    "acquire-lock",
    "list-deltas",
    "merge-batch",
    "compactor",
    "clean-up",
    "release-lock",
    "producer",
    "query",
)

# Permissions that no call of this code needs, each with its reason.
BY_LAMBDA_ITSELF = {
    "logs:CreateLogStream": "Lambda writes the function's log under its role",
    "logs:PutLogEvents": "Lambda writes the function's log under its role",
    "xray:PutTraceSegments": "Lambda sends the function's traces under its role",
    "xray:PutTelemetryRecords": "Lambda sends the function's traces under its role",
}
# Lambda sends the events that it gives up under the function's role.
KEPT_BY_LAMBDA = ":chromadb-undelivered-"
RESTORING = dict.fromkeys(
    (
        Permission("s3:ListBucket", "compacted/*"),
        Permission("s3:GetObject", "compacted/*"),
        Permission("s3:GetObjectTagging", "compacted/*"),
        Permission("s3:PutObject", "delta/*"),
        Permission("s3:PutObjectTagging", "delta/*"),
    ),
    "a rollback came between the last read of the pointer and the deletes",
)
QUARANTINE = dict.fromkeys(
    (Permission("s3:PutObject", "quarantine/*"), Permission("s3:PutObjectTagging", "quarantine/*")),
    "a delta was written again under its key between publishing and clean-up",
)
AFTER_A_KILL = dict.fromkeys(
    (Permission("s3:GetObject", "work/attempts/running/*"), Permission("s3:DeleteObject", "work/attempts/running/*")),
    "a process was killed and left the mark of its work",
)
COMPARISON = {Permission("s3:GetObject", "compacted/*"): "a merged delta was written again under its key"}
NOT_USED_HERE = {
    "merge-batch": {
        Permission("s3:AbortMultipartUpload", "work/*"): "a part of a run over 16 MiB could not be uploaded",
        **COMPARISON,
    },
    "compactor": {
        Permission("s3:AbortMultipartUpload", "snapshot/*"): "a part of a file over 16 MiB could not be uploaded",
        **COMPARISON,
    },
    "list-deltas": {**RESTORING, **QUARANTINE, **AFTER_A_KILL},
    # This one looks for the copy of a delta that is gone.
    "clean-up": {
        permission: why
        for permission, why in {**RESTORING, **QUARANTINE}.items()
        if permission != Permission("s3:GetObject", "compacted/*")
    },
}


def test_every_role_allows_exactly_what_its_function_does(deploy: DeployStack, tmp_path: Path) -> None:
    short = {"SNAPSHOT_RETENTION_COUNT": "1", "SNAPSHOT_RETENTION_DAYS": "0.0000001"}
    stack = deploy(environment={**short, "LOCAL_STACK_CALLS": str(tmp_path)})

    do_everything(stack)

    for function in FUNCTIONS:
        permissions = granted(stack, function)
        uses = needed(read_calls(tmp_path, stack.function_name(function)), stack)
        missing = {use for use in uses if not any(permission.covers(use) for permission in permissions)}
        unused = {permission for permission in permissions if not any(permission.covers(use) for use in uses)}
        unexplained = {
            permission
            for permission in unused
            if permission.action not in BY_LAMBDA_ITSELF and KEPT_BY_LAMBDA not in permission.resource
        }
        assert (function, missing) == (function, set())
        assert (function, unexplained) == (function, set(NOT_USED_HERE.get(function, {})))


def do_everything(stack: Stack) -> None:
    """Make every function do everything that it can be asked to do."""
    a_first_pass(stack)
    an_unfinished_clean_up(stack)
    a_pass_that_replaces_the_snapshot(stack)
    a_pass_that_changes_nothing(stack)
    a_delta_that_disappears_before_it_is_merged(stack)


def a_first_pass(stack: Stack) -> None:
    assert stack.invoke("query", QUESTION)["error"]["type"] == "NoSuchCollection"
    stack.invoke("producer", {"collection": "docs", "records": [{"id": "a", "embedding": [1.0, 0.0]}]})
    assert stack.invoke("query", QUESTION)["ids"] == [["a"]]
    notify(stack, "not a notice of a delta")
    put(stack, an_invalid_delta())
    put(stack, an_invalid_delta())
    assert stack.wait(stack.invoke("compactor", {})["executionArn"]).status == "SUCCEEDED"
    assert stack.invoke("query", QUESTION)["ids"] == [["a"]]


def an_unfinished_clean_up(stack: Stack) -> None:
    """Restore the state of a first clean-up that died half-way, and also delete one copy in quarantine."""
    (merged,) = stack.keys("compacted/")
    moved_back, lost = (key for key in stack.keys("quarantine/") if key.endswith(".parquet"))
    stack.put_objects({f"delta/{key.partition('/')[2]}": stack.get(key) for key in (merged, moved_back)})
    for key in (merged, moved_back, lost):
        notify(stack, a_notification(f"delta/{key.partition('/')[2]}"))
    notify(stack, "not a notice of a delta")
    (marker,) = (key for key in stack.keys("snapshot/") if key.endswith("/cleaned.json"))
    for key in (lost, marker):
        stack.s3.delete_object(Bucket=stack.bucket, Key=key)

    work = stack.compact().output["work"]

    assert work["finished_clean_up_of"] == marker.split("/")[1]
    assert stack.keys("delta/") == []


def a_pass_that_replaces_the_snapshot(stack: Stack) -> None:
    """Prune the previous snapshot, and clean up again after a moved delta was deleted everywhere."""
    put(stack, Delta("docs", (Row("b", (0.0, 1.0)),)))
    invalid = put(stack, an_invalid_delta())
    done = stack.compact().output
    assert done["clean_up"]["snapshots_pruned"] == 1
    stack.s3.delete_object(Bucket=stack.bucket, Key=invalid.replace("delta/", "quarantine/"))
    with lock_held(stack):
        again = {"snapshot_id": done["snapshot"]["snapshot_id"], "outcome": done["snapshot"]["outcome"]}
        assert stack.invoke("clean-up", {**BY_HAND, "pass": 1, **again})["archived"] == 1


def a_pass_that_changes_nothing(stack: Stack) -> None:
    put(stack, an_invalid_delta())
    assert stack.compact().output["snapshot"]["published"] is False


def a_delta_that_disappears_before_it_is_merged(stack: Stack) -> None:
    key = put(stack, Delta("pages", (Row("p", (1.0, 0.0)),)))
    with lock_held(stack):
        work = stack.invoke("list-deltas", {**BY_HAND, "previous_pass": 0})
        stack.s3.delete_object(Bucket=stack.bucket, Key=key)
        batches = {"pass": 1, "base": work["base"], "batches": work["batches"]}
        stack.invoke("compactor", {"task": "DownloadSnapshot", **BY_HAND, **batches})
        assert stack.invoke("merge-batch", {**BY_HAND, "pass": 1, "batch": work["batches"][0]})["missing"] == 1
    assert stack.invoke("release-lock", BY_HAND) == {"released": False, "holder": None}


@contextmanager
def lock_held(stack: Stack) -> Iterator[None]:
    stack.invoke("acquire-lock", BY_HAND)
    yield
    assert stack.invoke("release-lock", BY_HAND)["released"]


def an_invalid_delta() -> Delta:
    return Delta("docs", (Row("x", (float("nan"), 1.0)),))


def put(stack: Stack, delta: Delta) -> str:
    stack.put_objects({delta.key: delta.body()})
    notify(stack, a_notification(delta.key))
    return delta.key


def a_notification(key: str) -> str:
    return json.dumps({"key": key, "rows": 1, "bytes": 1})


def notify(stack: Stack, body: str) -> None:
    stack.sqs.send_message(QueueUrl=required(stack.settings.delta_queue_url, "DELTA_QUEUE_URL"), MessageBody=body)
