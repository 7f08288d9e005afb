"""The policies for people, and the rights of other accounts, as declared. tests/e2e/test_people.py tries them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.declared import Declared, declared

LARGEST_POLICY = 6144
"""Characters, without white space: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a0b0c0d-1111-2222-3333-444455556666"
WRITERS, READERS = "111111111111", "222222222222"
BUCKET = "arn:aws:s3:::chromadb-vectors-dev-123456789012"


def policy(kind: str, stack: Declared) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads(stack.one("Policy", f"chromadb-{kind}-dev")["policy"])["Statement"]
    return statements


def rights(statements: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(action, resource) for s in statements for action in s["Action"] for resource in s["Resource"]}


def shared() -> Declared:
    return declared(writerAccounts=f"{WRITERS},333333333333", readerAccounts=READERS)


def test_a_writer_may_write_deltas_and_notify_the_queue() -> None:
    assert rights(policy("writer", declared())) == {
        ("s3:PutObject", f"{BUCKET}/delta/*"),
        ("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:chromadb-delta-queue-dev"),
    }


def test_a_reader_may_read_and_ask_the_query_function() -> None:
    assert rights(policy("reader", declared())) == {
        ("s3:ListBucket", BUCKET),
        ("s3:GetObject", f"{BUCKET}/snapshot/*"),
        ("s3:GetObject", f"{BUCKET}/delta/*"),
        ("lambda:InvokeFunction", "arn:aws:lambda:eu-west-1:123456789012:function:chromadb-query-dev:live"),
    }


@pytest.mark.parametrize("kind", ["writer", "reader", "operator"])
def test_nobody_may_delete_versions_or_change_resources(kind: str) -> None:
    actions = {action for action, _ in rights(policy(kind, declared()))}
    assert "s3:DeleteObjectVersion" not in actions
    assert not {action for action in actions if action.partition(":")[2].startswith(("Create", "Update", "Attach"))} - {
        "dynamodb:UpdateItem"
    }


@pytest.mark.parametrize(
    ("kind", "actions"),
    [
        ("writer", ["kms:GenerateDataKey"]),
        ("reader", ["kms:Decrypt"]),
        ("operator", ["kms:Decrypt", "kms:GenerateDataKey"]),
    ],
)
def test_people_may_use_the_buckets_key_as_they_use_its_objects(kind: str, actions: list[str]) -> None:
    statement = policy(kind, declared(kmsKeyArn=KEY))[-1]
    assert (statement["Action"], statement["Resource"]) == (actions, [KEY])
    assert statement["Condition"] == {"StringEquals": {"kms:ViaService": ["s3.eu-west-1.amazonaws.com"]}}


def test_the_largest_policy_of_the_longest_stack_name_fits() -> None:
    stack = declared("x" * 33, kmsKeyArn=KEY)
    sizes = [len("".join(p.inputs["policy"].split())) for p in stack.of_type("Policy")]
    assert len(sizes) == 3
    assert max(sizes) <= LARGEST_POLICY


def test_the_outputs_name_the_policies_and_hold_the_documents_for_other_accounts() -> None:
    outputs = declared().outputs
    assert outputs["READER_POLICY"] == declared().one("Policy", "chromadb-reader-dev")["policy"]
    assert outputs["WRITER_POLICY"] == declared().one("Policy", "chromadb-writer-dev")["policy"]
    assert outputs["OPERATOR_POLICY_ARN"] == "arn:aws:iam::123456789012:policy/chromadb-operator-dev"


# Other accounts.


def test_no_other_account_has_any_rights_by_default() -> None:
    assert "aws:iam" not in declared().one("BucketPolicy")["policy"]
    assert not [p for p in declared().of_type("QueuePolicy") if p.name == "chromadb-delta-queue-policy"]
    assert len(list(declared().of_type("Permission"))) == 1


def test_writers_of_other_accounts_may_only_write_deltas_and_notify_the_queue() -> None:
    both = [f"arn:aws:iam::{account}:root" for account in (WRITERS, "333333333333")]
    statements = json.loads(shared().one("BucketPolicy")["policy"])["Statement"]
    of_writers = [s for s in statements if s["Principal"] == {"AWS": both}]
    assert rights(of_writers) == {("s3:PutObject", f"{BUCKET}/delta/*")}
    (policy,) = (p for p in shared().of_type("QueuePolicy") if p.name == "chromadb-delta-queue-policy")
    (notify,) = json.loads(policy.inputs["policy"])["Statement"]
    assert (notify["Principal"], notify["Action"]) == ({"AWS": both}, ["sqs:SendMessage"])


def test_readers_of_other_accounts_may_only_read_and_ask_the_query_function() -> None:
    statements = json.loads(shared().one("BucketPolicy")["policy"])["Statement"]
    of_readers = [s for s in statements if s["Principal"] == {"AWS": [f"arn:aws:iam::{READERS}:root"]}]
    assert {action for action, _ in rights(of_readers)} == {"s3:ListBucket", "s3:GetObject"}
    (listing,) = [s for s in of_readers if s["Action"] == ["s3:ListBucket"]]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": ["snapshot/*", "delta/*"]}}
    (invoke,) = [p.inputs for p in shared().of_type("Permission") if p.inputs["principal"] == READERS]
    assert (invoke["function"], invoke["qualifier"]) == ("chromadb-query-dev", "live")
