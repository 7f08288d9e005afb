"""A damaged snapshot stops the execution before it publishes. The error names the file and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.model import Delta, Row, expected, published
from tests.stack import Stack

pytestmark = pytest.mark.e2e


def a_delta(id_: str) -> Delta:
    return Delta("docs", (Row(id_, (1.0, 2.0), f"text of {id_}", {"n": 1}),))


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_snapshot_file_fails_the_download_and_nothing_is_lost(
    stack: Stack, tmp_path: Path, damage: str
) -> None:
    first, second = a_delta("a"), a_delta("b")
    stack.put_objects({first.key: first.body()})
    assert stack.compact().status == "SUCCEEDED"
    damaged_key = next(key for key in stack.keys("snapshot/") if key.endswith("files.pack"))
    original, pointer = stack.get(damaged_key), stack.get("snapshot/CURRENT")
    if damage == "altered":
        stack.put_objects({damaged_key: original[:-1] + bytes([original[-1] ^ 1])})
    else:
        stack.s3.delete_object(Bucket=stack.bucket, Key=damaged_key)
    stack.forget_cached_snapshots()
    stack.put_objects({second.key: second.body()})

    result = stack.compact()

    assert result.status == "FAILED"
    assert result.error == "SnapshotCorruptError"
    assert damaged_key in result.cause
    assert "rollback" in result.cause
    assert result.failed_state == "DownloadSnapshot"
    assert stack.get("snapshot/CURRENT") == pointer
    assert stack.keys("delta/") == [second.key]
    assert stack.lease() is None

    stack.put_objects({damaged_key: original})
    assert stack.compact().status == "SUCCEEDED"
    assert published(stack.s3, stack.bucket, tmp_path) == expected([first, second])


def test_a_missing_pointer_stops_the_execution_and_its_previous_version_restores_everything(
    stack: Stack, tmp_path: Path
) -> None:
    first, second = a_delta("a"), a_delta("b")
    stack.put_objects({first.key: first.body()})
    assert stack.compact().status == "SUCCEEDED"
    stack.s3.delete_object(Bucket=stack.bucket, Key="snapshot/CURRENT")
    stack.put_objects({second.key: second.body()})

    result = stack.compact()

    assert result.error == "SnapshotCorruptError"
    assert "snapshot/CURRENT is missing" in result.cause
    assert stack.keys("delta/") == [second.key]

    versions = stack.s3.list_object_versions(Bucket=stack.bucket, Prefix="snapshot/CURRENT")
    marker = versions["DeleteMarkers"][0]["VersionId"]
    stack.s3.delete_object(Bucket=stack.bucket, Key="snapshot/CURRENT", VersionId=marker)
    assert stack.compact().status == "SUCCEEDED"
    assert published(stack.s3, stack.bucket, tmp_path) == expected([first, second])
