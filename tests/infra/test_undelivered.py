"""Events that cannot be delivered are tried for a while, kept, and reported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.infra.declared import declared

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:chromadb-undelivered-dev"
RULES = "arn:aws:events:eu-west-1:123456789012:rule/chromadb-compaction-dev"


def calls(**config: str) -> dict[str, dict[str, Any]]:
    """Return the limits of asynchronous calls, by the task."""
    stack = declared(**config)
    found = [call.inputs for call in stack.of_type("FunctionEventInvokeConfig")]
    return {call["functionName"].removeprefix("chromadb-").removesuffix("-dev"): call for call in found}


def test_the_functions_that_are_called_asynchronously_keep_what_lambda_gives_up() -> None:
    assert calls().keys() == {"compactor", "release-lock", "producer"}
    for call in calls().values():
        assert call["qualifier"] == "live"
        assert call["destinationConfig"] == {"onFailure": {"destination": QUEUE}}


@pytest.mark.parametrize(
    ("task", "config", "seconds"),
    [
        ("compactor", {}, 300),
        ("release-lock", {}, 900),
        ("release-lock", {"lockTimeoutMinutes": "30"}, 1800),
        ("release-lock", {"lockTimeoutMinutes": "1440"}, 6 * 3600),
        ("producer", {}, 6 * 3600),
        ("query", {"queryPrefetchCollections": "*"}, 300),
    ],
)
def test_a_call_is_tried_for_as_long_as_it_is_of_use(task: str, config: dict[str, str], seconds: int) -> None:
    assert calls(**config)[task]["maximumEventAgeInSeconds"] == seconds


def test_the_rules_send_what_they_give_up_to_the_same_queue_and_nobody_else_may() -> None:
    targets = [target.inputs["deadLetterConfig"] for target in declared().of_type("EventTarget")]
    assert targets == [{"arn": QUEUE}] * 3
    (statement,) = json.loads(declared().one("QueuePolicy")["policy"])["Statement"]
    assert (statement["Principal"], statement["Action"]) == ({"Service": "events.amazonaws.com"}, ["sqs:SendMessage"])
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": [f"{RULES}-{rule}" for rule in ("schedule", "early", "unfinished", "prefetch")]}
    }


@pytest.mark.parametrize(("config", "seconds"), [({}, 900), ({"lockTimeoutMinutes": "1440"}, 86_400)])
def test_a_release_is_tried_until_the_lease_has_expired_anyway(config: dict[str, str], seconds: int) -> None:
    stack = declared(**config)
    (target,) = (t.inputs for t in stack.of_type("EventTarget") if t.inputs["targetId"] == "release-lock")
    assert target["retryPolicy"]["maximumEventAgeInSeconds"] == seconds
