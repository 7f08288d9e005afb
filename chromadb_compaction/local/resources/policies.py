"""Policies as ministack reads them, where it differs from AWS."""

from __future__ import annotations

import json
from typing import Any

# AWS authorises a batch call by the action of the single call. ministack wants an action with the batch's own name.
BATCH_OF = {
    "sqs:ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
    "sqs:DeleteMessage": "sqs:DeleteMessageBatch",
    "sqs:SendMessage": "sqs:SendMessageBatch",
}


def for_ministack(document: str | dict[str, Any]) -> str:
    """Return an identity policy as JSON, with the names that ministack gives to batch calls of SQS and to rules."""
    policy = json.loads(document) if isinstance(document, str) else document
    return json.dumps({**policy, "Statement": [_renamed(statement) for statement in policy["Statement"]]})


def _renamed(statement: dict[str, Any]) -> dict[str, Any]:
    resources = statement["Resource"]
    named = [resources] if isinstance(resources, str) else resources
    # AWS leaves out the name of the default event bus in a rule's ARN.
    rules = [arn.replace(":rule/", ":rule/default/") for arn in named if ":rule/" in arn]
    return {**statement, "Action": _with_batches(statement["Action"]), "Resource": [*named, *rules]}


def trust_for_ministack(document: str) -> str:
    """Return a trust policy as JSON without its conditions.

    ministack's services do not name the account or the resource for which they assume a role.
    """
    policy = json.loads(document)
    kept = [{part: value for part, value in each.items() if part != "Condition"} for each in policy["Statement"]]
    return json.dumps({**policy, "Statement": kept})


def _with_batches(actions: str | list[str]) -> list[str]:
    single = [actions] if isinstance(actions, str) else actions
    return [*single, *(BATCH_OF[action] for action in single if action in BATCH_OF)]
