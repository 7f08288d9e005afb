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
    """Return an identity policy as JSON that allows the batch call with each single SQS call."""
    policy = json.loads(document) if isinstance(document, str) else document
    statements = [{**statement, "Action": _with_batches(statement["Action"])} for statement in policy["Statement"]]
    return json.dumps({**policy, "Statement": statements})


def _with_batches(actions: str | list[str]) -> list[str]:
    single = [actions] if isinstance(actions, str) else actions
    return [*single, *(BATCH_OF[action] for action in single if action in BATCH_OF)]
