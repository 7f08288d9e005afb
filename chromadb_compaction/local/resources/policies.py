"""How ministack reads a policy where it differs from AWS."""

from __future__ import annotations

import json
from typing import Any

# AWS authorises a batch call by the single call's action; ministack asks for an action of the batch's own name.
BATCH_OF = {
    "sqs:ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
    "sqs:DeleteMessage": "sqs:DeleteMessageBatch",
    "sqs:SendMessage": "sqs:SendMessageBatch",
}


def for_ministack(document: str | dict[str, Any]) -> str:
    """Return an identity policy as JSON in which each right to a single SQS call is one to its batch too."""
    policy = json.loads(document) if isinstance(document, str) else document
    statements = [{**statement, "Action": _with_batches(statement["Action"])} for statement in policy["Statement"]]
    return json.dumps({**policy, "Statement": statements})


def _with_batches(actions: str | list[str]) -> list[str]:
    single = [actions] if isinstance(actions, str) else actions
    return [*single, *(BATCH_OF[action] for action in single if action in BATCH_OF)]
