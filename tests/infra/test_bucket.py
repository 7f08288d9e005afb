"""The bucket keeps what it is given, for the account alone."""

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


def test_the_bucket_is_named_for_stack_and_account() -> None:
    assert declared().one("Bucket")["bucket"] == "chromadb-vectors-dev-123456789012"


def test_pulumi_never_empties_the_bucket() -> None:
    assert "forceDestroy" not in declared().one("Bucket")


def test_the_bucket_is_versioned() -> None:
    assert declared().one("BucketVersioning")["versioningConfiguration"] == {"status": "Enabled"}


def test_the_bucket_is_encrypted() -> None:
    (rule,) = declared().one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}


@pytest.mark.parametrize("block", ["blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"])
def test_the_bucket_is_closed_to_the_public(block: str) -> None:
    assert declared().one("BucketPublicAccessBlock")[block] is True


def test_acls_mean_nothing() -> None:
    assert declared().one("BucketOwnershipControls")["rule"] == {"objectOwnership": "BucketOwnerEnforced"}


def test_plain_http_is_refused_to_everybody_for_everything() -> None:
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


def test_every_part_concerns_the_same_bucket() -> None:
    parts = [r.inputs["bucket"] for r in declared().resources if r.type.startswith("aws:s3/")]
    assert parts == ["chromadb-vectors-dev-123456789012"] * 7


@pytest.mark.parametrize("key", KEPT)
def test_no_rule_expires_what_is_pending_refused_or_published(key: str) -> None:
    expirations = [rule["expiration"] for rule in rules_for(key) if "expiration" in rule]
    assert expirations == [{"expiredObjectDeleteMarker": True}]


@pytest.mark.parametrize("key", [key for key in KEPT if not key.startswith("snapshot/")])
def test_no_rule_moves_what_is_pending_or_refused_to_colder_storage(key: str) -> None:
    assert not [rule for rule in rules_for(key) if {"transitions", "noncurrentVersionTransitions"} & rule.keys()]


def test_old_snapshots_go_where_storage_follows_use_and_reading_never_waits() -> None:
    moves = [move for rule in rules_for("snapshot/0000000001-0a0b0c0d/m.json") for move in rule.get("transitions", [])]
    assert moves == [{"days": 7, "storageClass": "INTELLIGENT_TIERING"}]


def test_every_rule_is_on_and_names_what_it_applies_to() -> None:
    assert all(rule["status"] == "Enabled" and set(rule["filter"]) == {"prefix"} for rule in rules())


@pytest.mark.parametrize(
    ("key", "days"), [("compacted/docs/x.parquet", 7), ("work/an-execution/1/runs/0000.parquet", 3)]
)
def test_what_is_no_longer_needed_expires(key: str, days: int) -> None:
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
def test_what_was_deleted_or_overwritten_can_be_brought_back_for_days(key: str, days: int) -> None:
    kept = [rule["noncurrentVersionExpiration"] for rule in rules_for(key) if "noncurrentVersionExpiration" in rule]
    assert kept == [{"noncurrentDays": days}]


@pytest.mark.parametrize(
    ("setting", "key"), [("versionRetentionDays", "delta/a/x.parquet"), ("snapshotVersionDays", "snapshot/CURRENT")]
)
def test_how_long_versions_are_kept_is_configured(setting: str, key: str) -> None:
    (rule, _) = rules_for(key, **{setting: "21"})
    assert rule["noncurrentVersionExpiration"] == {"noncurrentDays": 21}


@pytest.mark.parametrize("key", [*KEPT, "compacted/docs/x.parquet", "work/an-execution/1/runs/0000.parquet"])
def test_abandoned_uploads_are_cleared_everywhere(key: str) -> None:
    aborted = [rule["abortIncompleteMultipartUpload"] for rule in rules_for(key) if len(rule["filter"]["prefix"]) == 0]
    assert aborted == [{"daysAfterInitiation": 1}]
