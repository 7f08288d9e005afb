"""The queue never dead-letters a notification by itself, and the lock has a table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.config import ConfigurationRefused
from tests.infra.declared import declared

DAY = 86_400


def queue() -> dict[str, Any]:
    return declared().one("Queue", "chromadb-delta-queue-dev")


def dead_letters() -> dict[str, Any]:
    return declared().one("Queue", "chromadb-delta-queue-dev-dlq")


def redrive() -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(queue()["redrivePolicy"])
    return policy


def test_notifications_are_kept_four_days_and_dead_letter_messages_fourteen() -> None:
    assert (queue()["messageRetentionSeconds"], dead_letters()["messageRetentionSeconds"]) == (4 * DAY, 14 * DAY)


def test_both_queues_are_encrypted() -> None:
    assert [queue()["sqsManagedSseEnabled"], dead_letters()["sqsManagedSseEnabled"]] == [True, True]


def test_the_redrive_target_is_the_dead_letter_queue() -> None:
    assert redrive()["deadLetterTargetArn"] == "arn:aws:sqs:eu-west-1:123456789012:chromadb-delta-queue-dev-dlq"


def test_a_notification_expires_before_sqs_dead_letters_it() -> None:
    most_receives = queue()["messageRetentionSeconds"] / queue()["visibilityTimeoutSeconds"]
    assert most_receives < redrive()["maxReceiveCount"]


def test_sqs_accepts_the_receive_limit() -> None:
    assert 1 <= redrive()["maxReceiveCount"] <= 1000


def test_by_default_the_lock_gets_a_new_table() -> None:
    assert declared().one("Table") == {
        "name": "portfolio-dev",
        "billingMode": "PAY_PER_REQUEST",
        "hashKey": "PK",
        "rangeKey": "SK",
        "attributes": [{"name": "PK", "type": "S"}, {"name": "SK", "type": "S"}],
        "ttl": {"attributeName": "ttl", "enabled": True},
        "pointInTimeRecovery": {"enabled": True},
        "deletionProtectionEnabled": True,
        "tags": {"chromadb-stack": "dev"},
    }


def test_an_existing_table_is_used_and_none_is_created() -> None:
    stack = declared(existingTable="portfolio")
    assert not list(stack.of_type("Table"))
    assert stack.outputs["DYNAMODB_TABLE"] == "portfolio"


def test_the_lock_policy_names_the_existing_table() -> None:
    (lock, *_) = declared(existingTable="portfolio").statements("chromadb-acquire-lock-dev")
    assert lock["Resource"] == ["arn:aws:dynamodb:eu-west-1:123456789012:table/portfolio"]


@pytest.mark.parametrize("keys", [{"hashKey": "id", "rangeKey": "SK"}, {"hashKey": "PK"}])
def test_an_existing_table_with_other_keys_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(ConfigurationRefused, match=r"chromadb:existingTable = 'portfolio'.*needs PK and SK"):
        declared("dev", keys, existingTable="portfolio")
