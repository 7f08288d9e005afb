"""With an operator's key the bucket is encrypted, and each role gets the rights to the key that its task needs."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from tests.infra.declared import Declared, declared

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a0b0c0d-1111-2222-3333-444455556666"
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


def test_without_a_key_no_role_has_rights_to_any_key() -> None:
    policies = [r.inputs["policy"] for r in declared().of_type("RolePolicy")]
    assert not [policy for policy in policies if "kms:" in policy]
