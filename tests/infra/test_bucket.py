"""The bucket keeps its objects, and only the account can reach them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.declared import declared

KEPT = ["delta/docs/x.parquet", "quarantine/docs/x.parquet", "snapshot/CURRENT", "snapshot/0000000001-0a0b0c0d/m.json"]


def rules(**config: str) -> list[dict[str, Any]]:
    stack = declared(**config)
    found: list[dict[str, Any]] = stack.one("BucketLifecycleConfiguration")["rules"]
    return found


def rules_for(key: str, **config: str) -> list[dict[str, Any]]:
    return [rule for rule in rules(**config) if key.startswith(rule["filter"]["prefix"])]


def test_the_bucket_name_contains_stack_and_account() -> None:
    assert declared().one("Bucket")["bucket"] == "chromadb-vectors-dev-123456789012"


@pytest.mark.parametrize(("config", "emptied"), [({}, False), ({"protectData": "false"}, True)])
def test_pulumi_empties_the_bucket_only_if_data_is_not_protected(config: dict[str, str], *, emptied: bool) -> None:
    assert declared("dev", **config).one("Bucket")["forceDestroy"] is emptied


def test_the_bucket_is_versioned() -> None:
    assert declared().one("BucketVersioning")["versioningConfiguration"] == {"status": "Enabled"}


def test_the_bucket_is_encrypted() -> None:
    (rule,) = declared().one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}


@pytest.mark.parametrize("block", ["blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"])
def test_the_bucket_is_not_public(block: str) -> None:
    assert declared().one("BucketPublicAccessBlock")[block] is True


def test_acls_have_no_effect() -> None:
    assert declared().one("BucketOwnershipControls")["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


def test_plain_http_is_denied_for_everything() -> None:
    (statement,) = json.loads(declared().one("BucketPolicy")["policy"])["Statement"]
    assert statement == {
        "Sid": "RefusePlainHttp",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [
            "arn:aws:s3:::chromadb-vectors-dev-123456789012",
            "arn:aws:s3:::chromadb-vectors-dev-123456789012/*",
        ],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def test_every_part_belongs_to_the_same_bucket() -> None:
    parts = [r.inputs["bucket"] for r in declared().resources if r.type.startswith("aws:s3/")]
    assert parts == ["chromadb-vectors-dev-123456789012"] * 7


@pytest.mark.parametrize("key", KEPT)
def test_no_rule_expires_pending_quarantined_or_published_objects(key: str) -> None:
    expirations = [rule["expiration"] for rule in rules_for(key) if "expiration" in rule]
    assert expirations == [{"expiredObjectDeleteMarker": True}]


@pytest.mark.parametrize("key", [key for key in KEPT if not key.startswith("snapshot/")])
def test_no_rule_moves_pending_or_quarantined_deltas_to_colder_storage(key: str) -> None:
    assert not [rule for rule in rules_for(key) if {"transitions", "noncurrentVersionTransitions"} & rule.keys()]


def test_old_snapshots_move_to_intelligent_tiering() -> None:
    moves = [move for rule in rules_for("snapshot/0000000001-0a0b0c0d/m.json") for move in rule.get("transitions", [])]
    assert moves == [{"days": 7, "storageClass": "INTELLIGENT_TIERING"}]


def test_every_rule_is_enabled_and_has_a_prefix() -> None:
    assert all(rule["status"] == "Enabled" and set(rule["filter"]) == {"prefix"} for rule in rules())


@pytest.mark.parametrize(
    ("key", "days"), [("compacted/docs/x.parquet", 7), ("work/an-execution/1/runs/0000.parquet", 3)]
)
def test_merged_deltas_and_work_files_expire(key: str, days: int) -> None:
    assert [rule["expiration"]["days"] for rule in rules_for(key) if "days" in rule.get("expiration", {})] == [days]


def test_merged_deltas_are_kept_as_long_as_configured() -> None:
    (rule, *_) = rules_for("compacted/docs/x.parquet", compactedRetentionDays="30")
    assert rule["expiration"] == {"days": 30}


@pytest.mark.parametrize(
    ("key", "days"),
    [
        ("delta/docs/x.parquet", 7),
        ("quarantine/docs/x.parquet", 7),
        ("snapshot/CURRENT", 3),
        ("compacted/docs/x.parquet", 1),
        ("work/an-execution/1/runs/0000.parquet", 1),
    ],
)
def test_deleted_or_overwritten_objects_can_be_restored_for_days(key: str, days: int) -> None:
    kept = [rule["noncurrentVersionExpiration"] for rule in rules_for(key) if "noncurrentVersionExpiration" in rule]
    assert kept == [{"noncurrentDays": days}]


@pytest.mark.parametrize(
    ("setting", "key"), [("versionRetentionDays", "delta/a/x.parquet"), ("snapshotVersionDays", "snapshot/CURRENT")]
)
def test_the_days_that_versions_are_kept_can_be_configured(setting: str, key: str) -> None:
    (rule, _) = rules_for(key, **{setting: "21"})
    assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 21}


@pytest.mark.parametrize("key", [*KEPT, "compacted/docs/x.parquet", "work/an-execution/1/runs/0000.parquet"])
def test_incomplete_uploads_are_aborted_everywhere(key: str) -> None:
    aborted = [rule["abortIncompleteMultipartUpload"] for rule in rules_for(key) if len(rule["filter"]["prefix"]) == 0]
    assert aborted == [{"daysAfterInitiation": 1}]
