"""With an operator's key the bucket is encrypted, and each role gets the rights to the key that its task needs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.infra.declared import Declared, declared

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a0b0c0d-1111-2222-3333-444455556666"
FORMER = KEY.replace("0a0b0c0d", "0a0b0c0e")
OLDEST = KEY.replace("0a0b0c0d", "0a0b0c0f")
READING_AND_WRITING = ["kms:Decrypt", "kms:GenerateDataKey"]


@cache
def keyed() -> Declared:
    return declared(kmsKeyArn=KEY)


def rights_to_keys(stack: Declared, task: str) -> list[dict[str, Any]]:
    statements = stack.statements(f"chromadb-{task}-dev")
    return [s for s in statements if any(action.startswith("kms:") for action in s["Action"])]


def test_the_bucket_is_encrypted_with_the_key_and_uses_a_bucket_key() -> None:
    (rule,) = keyed().one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule == {
        "applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": KEY},
        "bucketKeyEnabled": True,
    }


@pytest.mark.parametrize(
    ("task", "actions"),
    [
        ("list-deltas", READING_AND_WRITING),
        ("merge-batch", READING_AND_WRITING),
        ("compactor", READING_AND_WRITING),
        ("clean-up", READING_AND_WRITING),
        ("producer", ["kms:GenerateDataKey"]),
        ("query", ["kms:Decrypt"]),
    ],
)
def test_readers_of_objects_may_decrypt_and_writers_may_encrypt(task: str, actions: list[str]) -> None:
    assert rights_to_keys(keyed(), task) == [
        {
            "Effect": "Allow",
            "Action": actions,
            "Resource": [KEY],
            "Condition": {"StringEquals": {"kms:ViaService": ["s3.eu-west-1.amazonaws.com"]}},
        }
    ]


@pytest.mark.parametrize("task", ["acquire-lock", "release-lock"])
def test_a_function_without_objects_has_no_right_to_the_key(task: str) -> None:
    assert rights_to_keys(keyed(), task) == []


@cache
def rotated(**config: str) -> Declared:
    return declared(formerKmsKeyArns=f"{FORMER},{OLDEST}", **config)


@pytest.mark.parametrize(
    ("task", "reads"),
    [
        ("list-deltas", True),
        ("merge-batch", True),
        ("compactor", True),
        ("clean-up", True),
        ("query", True),
        ("producer", False),
        ("acquire-lock", False),
        ("release-lock", False),
    ],
)
def test_readers_of_objects_may_decrypt_with_former_keys_and_nobody_may_encrypt(task: str, *, reads: bool) -> None:
    found = [s for s in rights_to_keys(rotated(kmsKeyArn=KEY), task) if FORMER in s["Resource"]]
    assert [(s["Action"], s["Resource"]) for s in found] == ([(["kms:Decrypt"], [FORMER, OLDEST])] if reads else [])
    assert all(s["Condition"] == {"StringEquals": {"kms:ViaService": ["s3.eu-west-1.amazonaws.com"]}} for s in found)


def test_a_bucket_that_no_longer_uses_any_key_stays_readable() -> None:
    (right,) = rights_to_keys(rotated(), "query")
    assert (right["Action"], right["Resource"]) == (["kms:Decrypt"], [FORMER, OLDEST])


def test_the_replication_reads_objects_of_former_keys() -> None:
    stack = rotated(kmsKeyArn=KEY, replicaRegion="eu-central-1", replicaKmsKeyArn=KEY.replace("west", "central"))
    rights = stack.statements("chromadb-compaction-dev-copy")
    (right,) = (s for s in rights if "kms:Decrypt" in s["Action"])
    assert right["Resource"] == [KEY, FORMER, OLDEST]


def test_a_reader_outside_lambda_may_decrypt_with_former_keys() -> None:
    policy = rotated(kmsKeyArn=KEY).one("Policy", "chromadb-reader-dev")["policy"]
    assert FORMER in policy


def test_without_a_key_no_role_has_rights_to_any_key() -> None:
    policies = [r.inputs["policy"] for r in declared().of_type("RolePolicy")]
    assert not [policy for policy in policies if "kms:" in policy]
