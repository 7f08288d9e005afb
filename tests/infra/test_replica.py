"""Published snapshots are copied to a second region, if one is configured."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.infra.declared import Declared, declared

REPLICA = "chromadb-replica-dev-123456789012"
BUCKET = "arn:aws:s3:::chromadb-vectors-dev-123456789012"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/mrk-1"
REPLICA_KEY = "arn:aws:kms:eu-central-1:123456789012:key/mrk-1"


@cache
def replicated() -> Declared:
    return declared(replicaRegion="eu-central-1")


@cache
def replicated_with_keys() -> Declared:
    return declared(replicaRegion="eu-central-1", kmsKeyArn=KEY, replicaKmsKeyArn=REPLICA_KEY)


def parts() -> list[dict[str, Any]]:
    return [r.inputs for r in replicated().resources if r.inputs.get("bucket") == REPLICA]


def rules(stack: Declared) -> list[dict[str, Any]]:
    return [dict(rule) for rule in stack.one("BucketReplicationConfig")["rules"]]


def test_without_a_region_nothing_is_copied() -> None:
    assert not list(declared().of_type("BucketReplicationConfig"))


def test_every_part_of_the_replica_bucket_is_in_the_other_region() -> None:
    assert [part["region"] for part in parts()] == ["eu-central-1"] * 7


def test_the_replica_bucket_is_as_private_as_the_original() -> None:
    blocks = [block.inputs for block in replicated().of_type("BucketPublicAccessBlock")]
    assert [all(block[name] for name in block if name.endswith(("Acls", "Policy", "Buckets"))) for block in blocks] == [
        True,
        True,
    ]


def test_snapshots_and_pending_deltas_are_copied_by_rules_of_their_own() -> None:
    found = [(each["id"], each["filter"], each["status"], each["priority"]) for each in rules(replicated())]
    assert found == [
        ("snapshots", {"prefix": "snapshot/"}, "Enabled", 0),
        ("deltas", {"prefix": "delta/"}, "Enabled", 1),
    ]


def test_failed_copies_are_counted_and_set_off_an_alarm() -> None:
    assert [each["destination"]["metrics"]["status"] for each in rules(replicated())] == ["Enabled", "Enabled"]
    alarm = replicated().one("MetricAlarm", "chromadb-compaction-dev-replication-failed")
    watched = [query["metric"] for query in alarm["metricQueries"] if "metric" in query]
    assert {each["metricName"] for each in watched} == {"OperationsFailedReplication"}
    assert [each["dimensions"]["RuleId"] for each in watched] == ["snapshots", "deltas"]
    assert {each["dimensions"]["DestinationBucket"] for each in watched} == {REPLICA}
    assert f"replica copy {REPLICA}" in alarm["alarmDescription"]


def test_without_a_replica_no_alarm_watches_one() -> None:
    assert not [a for a in declared().of_type("MetricAlarm") if "replication" in a.inputs["name"]]


def test_pruned_snapshots_are_deleted_from_the_replica() -> None:
    assert [each["deleteMarkerReplication"] for each in rules(replicated())] == [{"status": "Enabled"}] * 2
    found = [
        r.inputs["rules"] for r in replicated().of_type("BucketLifecycleConfiguration") if r.inputs["bucket"] == REPLICA
    ]
    assert [each.get("noncurrentVersionExpiration") for each in found[0]] == [
        {"noncurrentDays": 3},
        {"noncurrentDays": 7},
        None,
    ]


def test_the_role_can_only_copy_snapshots_and_pending_deltas() -> None:
    statements = replicated().statements("chromadb-compaction-dev-copy")
    assert [(s["Action"], s["Resource"]) for s in statements] == [
        (["s3:GetReplicationConfiguration", "s3:ListBucket"], [BUCKET]),
        (
            ["s3:GetObjectVersionForReplication", "s3:GetObjectVersionAcl", "s3:GetObjectVersionTagging"],
            [f"{BUCKET}/snapshot/*", f"{BUCKET}/delta/*"],
        ),
        (
            ["s3:ReplicateObject", "s3:ReplicateDelete", "s3:ReplicateTags"],
            [f"arn:aws:s3:::{REPLICA}/snapshot/*", f"arn:aws:s3:::{REPLICA}/delta/*"],
        ),
    ]


def test_encrypted_snapshots_are_encrypted_again_with_the_key_of_the_other_region() -> None:
    stack = replicated_with_keys()
    for rule in rules(stack):
        assert rule["sourceSelectionCriteria"] == {"sseKmsEncryptedObjects": {"status": "Enabled"}}
        assert rule["destination"]["encryptionConfiguration"] == {"replicaKmsKeyId": REPLICA_KEY}


@pytest.mark.parametrize(
    ("action", "key", "region"), [("kms:Decrypt", KEY, "eu-west-1"), ("kms:Encrypt", REPLICA_KEY, "eu-central-1")]
)
def test_the_role_uses_each_key_in_its_own_region_only(action: str, key: str, region: str) -> None:
    (right,) = (s for s in replicated_with_keys().statements("chromadb-compaction-dev-copy") if action in s["Action"])
    assert right["Resource"] == [key]
    assert right["Condition"] == {"StringEquals": {"kms:ViaService": [f"s3.{region}.amazonaws.com"]}}
