"""The notification queue and its dead-letter queue in SQS.

The listing of delta/ decides what is pending, so a lost notification loses no delta.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chromadb_compaction.aws.errors import translated
from chromadb_compaction.concurrency import in_threads
from chromadb_compaction.errors import CompactionError, TransientStorageError
from chromadb_compaction.ports import (
    DeadLetterMessage,
    DeltaNotification,
    QueueDepth,
    ReceivedNotification,
)
from chromadb_compaction.settings import required

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef, MessageTypeDef

ENTRIES_PER_CALL = 10
CALLS_AT_ONCE = 16
"""The most calls that receive at once."""
WAIT_SECONDS = 1
"""Long polling. A short poll asks only some of SQS's servers, so it may find nothing in a queue that has messages:
docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html"""
BYTES_PER_CALL = 200_000
"""SQS accepts 256 KiB per call for all bodies together. The rest is space for its envelope."""
DEAD_LETTER_CHARACTERS = 8_000
"""Characters kept of a dead-letter message's reason and body, so that ten messages fit one call even when escaped."""


class NotificationBody(BaseModel):
    """The body of a notification, format 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    key: str = Field(min_length=1)
    rows: int
    bytes: int


class SqsDeltaQueue:
    """Two SQS queues as a ports.DeltaQueue.

    Args:
        client: An SQS client.
        queue_url: The notification queue. None raises ConfigurationError when the queue is used.
        dlq_url: The dead-letter queue. None raises ConfigurationError when the queue is used.
    """

    def __init__(self, client: SQSClient, queue_url: str | None, dlq_url: str | None) -> None:
        self._client = client
        self._queue_url = queue_url
        self._dlq_url = dlq_url

    def notify(self, notifications: Sequence[DeltaNotification]) -> None:
        """Send one message each. Raises TransientStorageError if SQS rejects one; others may have been sent."""
        bodies = (NotificationBody(key=n.key, rows=n.rows, bytes=n.bytes).model_dump_json() for n in notifications)
        self._send(required(self._queue_url, "DELTA_QUEUE_URL"), bodies)

    def receive(self, limit: int) -> Iterator[Sequence[ReceivedNotification]]:
        url = required(self._queue_url, "DELTA_QUEUE_URL")

        def receive(most: int) -> list[MessageTypeDef]:
            with _translated(f"receiving from {url}"):
                response = self._client.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=most, WaitTimeSeconds=WAIT_SECONDS
                )
            return response.get("Messages", [])

        left, calls = limit, 1
        while left > 0:
            most = [min(ENTRIES_PER_CALL, left - start) for start in range(0, left, ENTRIES_PER_CALL)]
            received = in_threads(receive, most[:calls])
            messages = [
                ReceivedNotification(message["ReceiptHandle"], notification_key(message["Body"]), message["Body"])
                for message in chain.from_iterable(received)
            ]
            if messages:
                left -= len(messages)
                yield messages
            if not all(received):
                return
            # A queue with few messages costs no more calls than it did one by one.
            calls = min(2 * calls, CALLS_AT_ONCE)

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete received messages. SQS delivers one with an expired receipt again, and it is deleted then."""
        url = required(self._queue_url, "DELTA_QUEUE_URL")

        def delete(start: int) -> None:
            part = receipts[start : start + ENTRIES_PER_CALL]
            with _translated(f"deleting from {url}"):
                response = self._client.delete_message_batch(
                    QueueUrl=url,
                    Entries=[{"Id": str(n), "ReceiptHandle": receipt} for n, receipt in enumerate(part)],
                )
            failed = [entry for entry in response.get("Failed", []) if not entry["SenderFault"]]
            _raise_for_failed(failed, len(part), f"deleting from {url}")

        in_threads(delete, range(0, len(receipts), ENTRIES_PER_CALL))

    def dead_letter(self, messages: Sequence[DeadLetterMessage]) -> None:
        """Send one message each. Raises TransientStorageError if SQS rejects one; others may have been sent."""
        self._send(required(self._dlq_url, "DELTA_DLQ_URL"), map(dead_letter_body, messages))

    def depth(self) -> QueueDepth | None:
        """Return the approximate depth of the notification queue. None if it is not configured."""
        return self._depth(self._queue_url)

    def dead_letter_depth(self) -> QueueDepth | None:
        """Return the approximate depth of the dead-letter queue. None if it is not configured."""
        return self._depth(self._dlq_url)

    def _depth(self, url: str | None) -> QueueDepth | None:
        if url is None:
            return None
        with _translated(f"reading the depth of {url}"):
            found = self._client.get_queue_attributes(
                QueueUrl=url,
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
        return QueueDepth(
            messages=int(found["ApproximateNumberOfMessages"]),
            in_flight=int(found["ApproximateNumberOfMessagesNotVisible"]),
        )

    def _send(self, url: str, bodies: Iterable[str]) -> None:
        for part in _split_into_calls(bodies):
            with _translated(f"sending to {url}"):
                response = self._client.send_message_batch(
                    QueueUrl=url, Entries=[{"Id": str(n), "MessageBody": body} for n, body in enumerate(part)]
                )
            _raise_for_failed(response.get("Failed", []), len(part), f"sending to {url}")


@contextmanager
def _translated(action: str) -> Iterator[None]:
    """Raise a CompactionError in place of every AWS error, also of one whose code is unknown."""
    try:
        with translated(action):
            yield
    except ClientError as error:
        raise CompactionError(f"{action}: {error}", next_step="see the queue in SQS: its quota, its KMS key") from error


def notification_key(body: str) -> str | None:
    """Return the key in a notification's body, or None if the body is not a notification."""
    try:
        return NotificationBody.model_validate_json(body).key
    except ValidationError:
        return None


def dead_letter_body(message: DeadLetterMessage) -> str:
    """Return the JSON of a dead-letter message: format, key, reason and, if it has one, body."""
    fields: dict[str, object] = {"format": 1, "key": message.key, "reason": message.reason[:DEAD_LETTER_CHARACTERS]}
    if message.body is not None:
        fields["body"] = message.body[:DEAD_LETTER_CHARACTERS]
    return json.dumps(fields)


def _split_into_calls(bodies: Iterable[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for body in bodies:
        if part and (len(part) == ENTRIES_PER_CALL or size + len(body.encode()) > BYTES_PER_CALL):
            yield part
            part, size = [], 0
        part.append(body)
        size += len(body.encode())
    if part:
        yield part


def _raise_for_failed(failed: Sequence[BatchResultErrorEntryTypeDef], sent: int, action: str) -> None:
    """Raise TransientStorageError for the entries that SQS rejected in a call that itself succeeded."""
    if failed:
        codes = ", ".join(sorted({entry["Code"] for entry in failed}))
        message = f"{action}: {len(failed)} of {sent} messages failed ({codes})"
        raise TransientStorageError(message, next_step="try again")
